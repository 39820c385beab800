"""A small model of what the store's transitions do, to compare Redis with: one method a verb, which returns the answer.

It is written from the rules, not from the scripts. Entries and due times that only Redis can know are taken over from
there once, by `adopt`, and must then stay until a transition moves them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from redis_scheduler.store import keys
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.series import Firing
from redis_scheduler.task.timing import Timing
from tests.scripts.states import DUE, State

TOLERANCE_MS = 10_000
"""How far from the expected time another may be: an example may take so long on a loaded machine."""


@dataclass
class Modelled:
    """One task: its record, and where it stands."""

    key: str
    type: str | None
    due_ms: int
    tail: bytes
    place: str = "due"
    """One of due, queued, pending, paused, awaiting, dead, missing."""
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
        return "scheduled" if self.state.place == "due" else self.state.place

    @property
    def is_running(self) -> bool:
        return self.place in ("due", "queued", "pending", "paused", "awaiting")

    def wait_in_due(self, wait_ms: int, score: int | None = None) -> None:
        self._leave_queue()
        self.place, self.wait_ms, self.score = "due", wait_ms, score

    def enter_queue(self) -> None:
        self._leave_queue()
        self.place = "queued"

    def pause(self) -> None:
        if self.place == "queued":
            self.wait_ms = 0
        self.score = self.score if self.state == DUE else None
        self._leave_queue()
        self.place = "paused"

    def end(self, place: str) -> None:
        self._leave_queue()
        self.place = place

    def _leave_queue(self) -> None:
        self.entry = self.owner = None
        self.tries = 0


@dataclass
class Model:
    """All tasks, and what was counted."""

    timing: Timing
    tasks: dict[str, Modelled] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    gone_entries: set[str] = field(default_factory=set)

    def standing(self, *places: str) -> list[Modelled]:
        return [task for task in self.tasks.values() if task.place in places]

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

    # What the API writes

    def schedule(self, key: str, type_name: str | None, tail: bytes, due_ms: int, ttl_ms: int) -> None:
        task = self.tasks[key] = Modelled(key, type_name, due_ms, tail)
        if ttl_ms:
            task.wait_in_due(ttl_ms, due_ms)
        else:
            task.enter_queue()
        self.counters["scheduled"] += 1

    def follow(self, key: str, type_name: str | None, tail: bytes, due_ms: int, ttl_ms: int) -> None:
        """A follow-up is scheduled, but waits in DUE also with a delay of 0."""
        self.schedule(key, type_name, tail, due_ms, ttl_ms)
        self.tasks[key].wait_in_due(ttl_ms, due_ms)

    def restore(
        self, key: str, type_name: str | None, tail: bytes, at_ms: int, in_ms: int, place: str, attempts: int
    ) -> str:
        if key in self.tasks and self.tasks[key].place != "missing":
            return "E"
        result = self.tasks[key].result if key in self.tasks else None
        task = self.tasks[key] = Modelled(key, type_name, at_ms, tail, attempts=attempts, result=result)
        task.wait_in_due(in_ms, at_ms)
        if place == "paused":
            task.end("paused")
        if place == "dead":
            task.end("dead")
            self.counters["died"] += 1
        self.counters["scheduled"] += 1
        return "U"

    def cancel(self, key: str) -> str:
        task = self.tasks[key]
        if task.place == "missing":
            return "N"
        letter = "D" if task.state.place in ("in delivery", "awaiting") else "C"
        self.counters["cancelled"] += task.is_running
        task.result = "cancelled" if task.is_running else task.result
        task.end("missing")
        task.attempts, task.mark = 0, ""
        return letter

    def update(self, key: str, expected: bytes, tail: bytes, ttl_ms: int | None, now_ms: int) -> str:
        """Any change of what was claimed already moves it to another entry, so that no outcome of that claim counts."""
        task = self.tasks[key]
        if task.place == "missing":
            return "N"
        if task.record != expected:
            return "C"
        if task.place == "dead" and ttl_ms is not None:
            return "X"
        letter = "D" if task.state.place in ("in delivery", "awaiting") else "U"
        task.mark = ""
        if ttl_ms is not None:
            self._start_afresh(task, now_ms, ttl_ms)
        elif letter == "D":
            task.enter_queue()
        elif task.state.place == "waiting":
            task.wait_in_due(task.wait_ms)
        task.tail, task.again = tail, 0
        return letter

    def replay(self, key: str, expected: bytes, tail: bytes, ttl_ms: int, now_ms: int) -> str:
        task = self.tasks[key]
        if task.place != "dead":
            return "N"
        if task.record != expected:
            return "C"
        self._start_afresh(task, now_ms, ttl_ms)
        task.tail, task.again = tail, 0
        self.counters["replayed"] += 1
        return "U"

    def put(self, key: str, expected: bytes, tail: bytes, type_name: str | None, ttl_ms: int, now_ms: int) -> str:
        """A task takes another's place, or that of none."""
        task = self.tasks[key]
        if expected != (b"" if task.place == "missing" else task.record):
            return "C"
        in_delivery = task.state.place in ("in delivery", "awaiting")
        letter = {"missing": "N", "dead": "X"}.get(task.place, "D" if in_delivery else "U")
        self.counters["scheduled"] += letter == "N"
        self.counters["replayed"] += letter == "X"
        self._start_afresh(task, now_ms, ttl_ms)
        task.tail, task.type, task.again = tail, type_name, 0
        return letter

    @staticmethod
    def _start_afresh(task: Modelled, now_ms: int, ttl_ms: int) -> None:
        task.attempts, task.due_ms, task.mark = 0, now_ms + ttl_ms, ""
        place = task.place
        task.wait_in_due(ttl_ms, task.due_ms)
        if place == "paused":
            task.place = place

    def pause(self, key: str) -> str:
        task = self.tasks[key]
        letter = _letter(task)
        if letter in "SFQW":
            task.pause()
        return letter

    def resume(self, key: str) -> str:
        task = self.tasks[key]
        letter = _letter(task)
        if letter == "P":
            task.wait_in_due(task.wait_ms, task.score if task.wait_ms else None)
        return letter

    def run(self, key: str) -> str:
        task = self.tasks[key]
        letter = _letter(task)
        if letter in "WP" or (letter in "SF" and task.wait_ms):
            task.wait_in_due(0)
        return letter

    def discard(self, key: str) -> str:
        task = self.tasks[key]
        if task.place != "dead":
            return "N"
        task.end("missing")
        task.attempts, task.mark = 0, ""
        return "C"

    def trim(self) -> int:
        """Drop all dead letters."""
        dead = self.standing("dead")
        for task in dead:
            self.discard(task.key)
        self.counters["dead_dropped"] += len(dead)
        return len(dead)

    def purge(self) -> int:
        found = [task for task in self.tasks.values() if task.place != "missing"]
        self.counters["purged"] += sum(task.is_running for task in found)
        for task in found:
            task.end("missing")
            task.attempts, task.mark = 0, ""
        for task in self.tasks.values():
            task.result = None
        return len(found)

    # What the timer and the workers write

    def promote(self, limit: int, now_ms: int) -> int:
        due = [(task.score, task.key) for task in self.standing("due") if task.score is not None]
        keys_due = [key for score, key in sorted(due) if score <= now_ms][:limit]
        for key in keys_due:
            self.tasks[key].enter_queue()
        return len(keys_due)

    def claim(self, worker: str, limit: int) -> list[Modelled]:
        """Return what the next claim brings, in its order."""
        queued = sorted(self.standing("queued"), key=lambda task: id_order(task.entry or ""))[:limit]
        for task in queued:
            task.place, task.owner, task.tries, task.wait_ms = "pending", worker, 1, 60_000
        return queued

    @property
    def reclaimable(self) -> list[Modelled]:
        return [task for task in self.standing("pending") if task.wait_ms == 0]

    def reclaim(self, worker: str, limit: int, cursor: str) -> list[Modelled]:
        """Return what a step of the sweep from the cursor brings.

        What may lose no worker more is never in flight beside another that has lost one.
        """
        over = [task for task in self.reclaimable if id_order(task.entry or "") >= id_order(cursor)]
        over = sorted(over, key=lambda task: id_order(task.entry or ""))[:limit]
        in_flight = [task for task in self.standing("pending") if task.owner == worker and task not in over]
        lost = [task.tries for task in in_flight if task.tries > 1]
        taken = []
        for task in over:
            tries = task.tries + 1
            if (
                lost
                and 1 < tries <= self.timing.lost_workers_most
                and max(*lost, tries) >= self.timing.lost_workers_most
            ):
                task.owner = keys.WAITING
                continue
            task.owner, task.tries, task.wait_ms = worker, tries, 15_000
            taken.append(task)
            if 1 < tries <= self.timing.lost_workers_most:
                lost.append(tries)
        return taken

    def renew(self, worker: str, entry: str) -> bool:
        for task in self.standing("pending"):
            if task.entry == entry and task.owner == worker:
                task.wait_ms = 15_000
                return True
        return False

    def is_in(self, claim: Claim) -> bool:
        """Whether the task is still in the entry of this claim."""
        return self.tasks[claim.key].entry == claim.id

    def holds(self, worker: str, claim: Claim) -> bool:
        """The fence: the entry is the task's and this worker's, and no failure was recorded since the claim."""
        task = self.tasks[claim.key]
        return self.is_in(claim) and task.owner == worker and task.attempts == claim.attempts

    def settle(self, claims: list[Claim]) -> list[int]:
        answers = [int(self.is_in(claim)) for claim in claims]
        for claim in claims:
            task = self.tasks[claim.key]
            if self.is_in(claim):
                task.end("missing")
                task.attempts, task.mark = 0, ""
                self.counters["delivered"] += 1
                task.result = "delivered"
        return answers

    def retry(self, worker: str, claim: Claim, delay_ms: int) -> int:
        if not self.holds(worker, claim):
            return 0
        if sum(task.owner == keys.WAITING for task in self.standing("pending")) >= self.timing.waiting_most:
            return 2
        self._park(self.tasks[claim.key], delay_ms)
        self._count_failure(claim.key)
        return 1

    def release(self, worker: str, claim: Claim) -> int:
        if not self.holds(worker, claim):
            return 0
        self._park(self.tasks[claim.key], 0)
        return 1

    @staticmethod
    def _park(task: Modelled, delay_ms: int) -> None:
        task.owner, task.tries, task.wait_ms = keys.WAITING, 0, delay_ms

    def defer(self, worker: str, claim: Claim, delay_ms: int, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        self.tasks[claim.key].wait_in_due(delay_ms)
        if counts:
            self._count_failure(claim.key)
        return 1

    def expect(self, worker: str, claim: Claim, within_ms: int) -> int:
        if not self.holds(worker, claim):
            return 0
        task = self.tasks[claim.key]
        if task.mark in (f"@{claim.id}+", f"@{claim.id}-"):
            task.enter_queue()
        else:
            task.end("awaiting")
            task.mark, task.wait_ms, task.score = f"@{claim.id}", within_ms, None
        return 1

    def acknowledge(self, claim: Claim, sign: str, within_ms: int) -> str:
        task, wanted = self.tasks[claim.key], f"@{claim.id}"
        if task.place == "missing":
            return "N"
        if task.attempts != claim.attempts:
            return "O"
        if sign and task.mark == wanted + sign:
            return "A"
        if task.place == "awaiting" and task.mark == wanted:
            if sign:
                task.enter_queue()
                task.mark = wanted + sign
            else:
                task.wait_ms, task.score = within_ms, None
            return "A"
        if not task.mark and task.state.place == "in delivery" and task.entry == claim.id:
            task.mark = wanted + sign if sign else ""
            return "A"
        return "O"

    def overdue(self, limit: int) -> list[Modelled]:
        """Queue what was not acknowledged in time."""
        over = [task for task in self.standing("awaiting") if task.wait_ms == 0]
        over = sorted(over, key=lambda task: (task.score or 0, task.key))[:limit]
        for task in over:
            task.enter_queue()
        return over

    def bury(self, worker: str, claim: Claim, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        self.tasks[claim.key].end("dead")
        self.tasks[claim.key].mark = ""
        self.counters["died"] += 1
        if counts:
            self._count_failure(claim.key)
        return 1

    def again(self, claim: Claim, delay_ms: int, due_ms: int | None) -> int:
        """As settle, whoever has the entry; the task is due once more, and its record says how often."""
        if not self.is_in(claim):
            return 0
        assert due_ms is not None, f"{claim.key} does not wait to come again"
        task = self.tasks[claim.key]
        task.attempts, task.mark, task.due_ms, task.again = 0, "", due_ms, claim.record.again + 1
        task.wait_in_due(delay_ms)
        self.counters["delivered"] += 1
        self.counters["scheduled"] += 1
        return 1

    def expire(self, worker: str, claim: Claim, counts: bool) -> int:
        if not self.holds(worker, claim):
            return 0
        if counts:
            self._count_failure(claim.key)
        task = self.tasks[claim.key]
        task.end("missing")
        task.attempts = 0
        self.counters["expired"] += 1
        return 1

    def fire(self, worker: str, firing: Firing, now_ms: int) -> int:
        if not self.holds(worker, firing.claim):
            return 0
        before = self.tasks.get(firing.unless)
        is_unfinished = before is not None and before.place not in ("missing", "dead")
        series, goes_on = self.tasks[firing.claim.key], firing.otherwise if is_unfinished else firing.after
        series.attempts = 0
        if goes_on.due_ms is None:
            series.end("missing")
            self.counters["ended"] += 1
        else:
            series.wait_in_due(goes_on.due_ms - now_ms, goes_on.due_ms)
            series.due_ms, series.tail, series.again = goes_on.due_ms, goes_on.tail, 0
        for one in [] if is_unfinished else firing.made:
            made = self.tasks[one.key] = Modelled(one.key, one.type, one.due_ms, one.tail)
            made.enter_queue()
            self.counters["scheduled"] += 1
        return 1 if is_unfinished else 2

    def _count_failure(self, key: str) -> None:
        self.tasks[key].mark = ""
        self.tasks[key].attempts += 1
        self.counters["failed"] += 1


def _letter(task: Modelled) -> str:
    return LETTERS[task.view]


LETTERS = {
    **{"scheduled": "S", "deferred": "F", "queued": "Q", "waiting": "W", "in delivery": "D"},
    **{"paused": "P", "awaiting": "A", "dead": "X", "missing": "N"},
}


def id_order(entry: str) -> tuple[int, int]:
    """The order of the queue."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)
