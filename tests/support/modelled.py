"""Tasks as the model has them, and what Redis must show of where each stands."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from redis_scheduler.store import keys
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing
from redis_scheduler.task.timing import Timing
from tests.scripts.states import DUE, State

Names = tuple[str, ...] | None
"""Under which names a task is listed while it runs."""

FORGETFUL = "worker-c"
"""The worker that keeps no summary of what it ends."""

TOKEN, OTHER_TOKEN = TOKEN_MARK + "0123456789", TOKEN_MARK + "fedcba9876"
LISTED = ("mail", index_of("order=17"), SERIES, TOKEN)
LISTINGS: tuple[Names, ...] = (LISTED, None, (OTHER_TOKEN,))
"""Tasks of two tokens, and of API_AUTH."""


def names_of(listed: Listing) -> Names:
    return (listed,) if isinstance(listed, str) else listed


TOLD = "!"
"""The mark of a series that was told to run, as `failures` has it."""

TOLERANCE_MS = 10_000
"""How far from the expected time another may be: an example may take so long on a loaded machine."""


@dataclass
class Modelled:
    """One task: its record, and where it stands."""

    key: str
    listed: Names
    due_ms: int
    tail: bytes
    place: str = "due"
    """One of due, queued, pending, paused, awaiting, held, in turn, dead, missing."""
    mark: str = ""
    """What is known of an acknowledgement."""
    attempts: int = 0
    owner: str | None = None
    tries: int = 0
    entry: str | None = None
    """None: a new one, not known yet."""
    score: int | None = None
    """The due time of where it waits in DUE, or is paused. None: not known yet, but about `wait_ms` from now; of what
    is paused from its resume."""
    result: str | None = None
    """How it ended, while that is kept."""
    wait_ms: int = 0
    """How long it is yet to wait, in DUE, in the pending list, or once it is resumed."""
    again: int = 0
    """How often it came again, with this record."""
    lined_up: int = 0
    """Its number among all that were ever put into lines of tokens."""

    @property
    def record(self) -> bytes:
        again = b',"again":%d' % self.again if self.again else b""
        return b'{"due":%d%b%b' % (self.due_ms, again, self.tail)

    @property
    def state(self) -> State:
        if self.place == "pending":
            name = "waiting" if self.owner == keys.WAITING else "in delivery"
            return State(name, self.attempts, self.owner, self.tries)
        if self.place == "due":
            return State("deferred" if self.attempts else "due", self.attempts)
        return State(self.place, self.attempts)

    @property
    def view(self) -> str:
        """The state as the API names it."""
        return {"due": "scheduled", "in turn": "held"}.get(self.state.place, self.state.place)

    @property
    def line(self) -> int:
        """The number of the line of its token: the first six digits of the id; 0 of API_AUTH."""
        tokens = [name for name in self.listed or () if name.startswith(TOKEN_MARK)]
        return int(tokens[0].removeprefix(TOKEN_MARK)[:6], 16) if tokens else 0

    @property
    def is_running(self) -> bool:
        return self.place in ("due", "queued", "pending", "paused", "awaiting", "held", "in turn")

    def wait_in_due(self, wait_ms: int, score: int | None = None) -> None:
        self._leave_queue()
        self.place, self.wait_ms, self.score = "due", wait_ms, score

    def enter_queue(self) -> None:
        self._leave_queue()
        self.place = "queued"

    def pause(self) -> None:
        if self.place in ("queued", "held", "in turn"):
            self.wait_ms = 0
        self.score = self.score if self.state == DUE and self.score == self.due_ms else None
        self._leave_queue()
        self.place = "paused"

    def end(self, place: str) -> None:
        self._leave_queue()
        self.place = place

    def _leave_queue(self) -> None:
        self.entry = self.owner = None
        self.tries = 0


@dataclass
class Tasks:
    """All tasks, and what was counted."""

    timing: Timing
    tasks: dict[str, Modelled] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    gone_entries: set[str] = field(default_factory=set)
    turn: int | None = None
    """The line whose turn is next, while the store says that any stands."""

    def standing(self, *places: str) -> list[Modelled]:
        return [task for task in self.tasks.values() if task.place in places]

    @property
    def lines(self) -> list[Modelled]:
        """What waits for the turn of its token, line by line, each in its order."""
        return sorted(self.standing("in turn"), key=lambda task: (task.line, task.lined_up))

    def is_crowded(self, more: int) -> bool:
        """Whether what a token schedules for now has to wait for its turn."""
        return bool(self.lines) or len(self.standing("queued")) + more > self.timing.queued_most

    def adopt(
        self,
        entries: Mapping[str, str],
        scores: Mapping[str, int],
        paused: Mapping[str, int],
        awaiting: Mapping[str, int],
        now_ms: int,
    ) -> None:
        """Learn what Redis chose, and check that it changed nothing else: entries are new ones, due times as
        expected."""
        assert entries.keys() == {task.key for task in self.standing("queued", "pending")}
        for task in self.standing("queued", "pending"):
            entry = entries[task.key]
            if task.entry is None:
                assert entry not in self.gone_entries, f"{task.key} is again in an entry that it has left"
                self.gone_entries.add(entry)
                task.entry = entry
            assert entry == task.entry, f"{task.key} has changed its entry"
        for task in self.standing("due"):
            score = scores[task.key]
            if task.score is None:
                assert abs(score - now_ms - task.wait_ms) < TOLERANCE_MS, f"{task.key} is due at a wrong time"
                task.score = score
            assert score == task.score, f"{task.key} has changed its due time"
        for task in self.standing("paused"):
            score = paused[task.key]
            is_right = abs(score + task.wait_ms) < TOLERANCE_MS if task.score is None else score == task.score
            assert is_right, f"{task.key} would be due at a wrong time once it is resumed"
        for task in self.standing("awaiting"):
            score = awaiting[task.key]
            if task.score is None:
                assert abs(score - now_ms - task.wait_ms) < TOLERANCE_MS, f"{task.key} is awaited until a wrong time"
                task.score = score
            assert score == task.score

    def check_waits(self, waits_ms: Mapping[str, int]) -> None:
        """Check which entries are pending, and how long each is still leased, or waits."""
        tasks = {task.entry: task for task in self.standing("pending")}
        assert waits_ms.keys() == tasks.keys()
        for entry, waits in waits_ms.items():
            wait_ms = tasks[entry].wait_ms
            assert waits <= wait_ms, f"{entry} may be claimed later than it should"
            assert waits > wait_ms - TOLERANCE_MS or wait_ms == 0, f"{entry} may be claimed too early"


def letter_of(task: Modelled) -> str:
    return LETTERS[task.view]


LETTERS = {
    **{"scheduled": "S", "deferred": "F", "queued": "Q", "waiting": "W", "in delivery": "D"},
    **{"paused": "P", "awaiting": "A", "held": "H", "dead": "X", "missing": "N"},
}


def id_order(entry: str) -> tuple[int, int]:
    """The order of the queue."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)
