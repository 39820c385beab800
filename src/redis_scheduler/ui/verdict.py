"""What is wrong, the first thing first, and what to do; or, in one sentence, that all is well. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redis_scheduler.task.tally import BOUNDS_MS
from redis_scheduler.ui.rendering import count, span

LATE_MS = 5_000
"""A task that is due for longer is late."""

MEMORY_WARN = 0.8
FAILING_SHARE, FAILING_LEAST = 0.5, 10

KINDS = {
    "lookup": (
        "names of receivers cannot be looked up",
        "See whether the name servers of the workers answer (/etc/resolv.conf)",
    ),
    "connect": ("receivers take no connection", "See whether they run, and whether the workers reach them"),
    "timeout": ("receivers do not answer in time", "See what holds them up, or give tasks a longer timeout"),
    "tls": ("TLS with receivers fails", "See their certificates, and EGRESS_CA_FILE"),
    "egress": ("EGRESS forbids where they go", "See EGRESS, EGRESS_ALLOW and EGRESS_DENY"),
    "proxy": ("the proxy refuses", "See EGRESS_PROXY"),
    "answer": ("what receivers answer is no HTTP", "See what listens there"),
    "request": ("their requests cannot be made", "See the secrets that their headers name"),
}
"""What a kind of failure is (outcome.py), and what to look at."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: in words, with what to do, and the page that shows more."""

    text: str
    remedy: str
    page: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """What a verdict is about. Times are Redis' ms. `oldest_ms`: how long the oldest task is due that no worker has;
    `recent`: what happened in the last minutes, by the names of the history."""

    now_ms: int
    states: Mapping[str, int]
    is_balanced: bool
    all_paused_since: str | None
    next_due_ms: int | None
    oldest_ms: int
    workers: int
    memory_share: float
    recent: Mapping[str, int] = field(default_factory=dict)
    died_in_day: int = 0
    worst: Sequence[tuple[str, str, int]] = ()
    """Host, error, and number of the largest groups of dead letters."""
    open_breakers: Sequence[str] = ()
    failing: Sequence[tuple[str, str, int]] = ()
    """The same of tasks whose last attempt failed: of some of them."""

    @property
    def waiting(self) -> int:
        """Tasks still to be delivered."""
        return sum(number for state, number in self.states.items() if state != "dead")


def percentile(numbers: Mapping[str, int], kind: str, share: float) -> float | None:
    """Return a bound in ms that this share of a histogram does not pass; None where nothing was counted."""
    counts = [(float(bound), numbers.get(f"{kind}:{bound}", 0)) for bound in BOUNDS_MS]
    counts.append((2.0 * BOUNDS_MS[-1], numbers.get(f"{kind}:more", 0)))
    total, met = sum(number for _, number in counts), 0
    for bound, number in counts:
        met += number
        if number and met >= total * share:
            return bound
    return None


def problems(at: Readings) -> list[Problem]:
    """Return what is wrong, the worst first."""
    return [
        one for look in (_workers, _paused, _ledger, _memory, _late, _failing, _died, _breakers) for one in look(at)
    ]


def sentence(at: Readings) -> str:
    """Return what there is to say where nothing is wrong."""
    parts = [f"{count(at.waiting)} waiting"]
    if at.next_due_ms is not None:
        parts.append(f"next in {span(at.next_due_ms - at.now_ms)}" if at.next_due_ms > at.now_ms else "next now")
    late = percentile(at.recent, "late", 0.99)
    if late is not None:
        parts.append(f"p99 at most {span(late)} late")
    parts.append("none died in 24 h" if not at.died_in_day else f"{count(at.died_in_day)} died in 24 h")
    return f"All well: {', '.join(parts)}."


def _workers(at: Readings) -> list[Problem]:
    begun = sum(at.states.get(state, 0) for state in ("queued", "in_delivery", "waiting"))
    if at.workers != 0 or at.all_paused_since or (at.oldest_ms < LATE_MS and not begun):
        return []
    since = f"the oldest task is due since {span(at.oldest_ms)}" if at.oldest_ms else f"{count(begun)} wait for one"
    text = f"No worker runs, and {since}."
    return [
        Problem(text, "Start one: redis-scheduler worker. Tasks are kept, and go out as soon as one runs.", "system")
    ]


def _paused(at: Readings) -> list[Problem]:
    if not at.all_paused_since:
        return []
    text = f"All is paused since {at.all_paused_since}: nothing is delivered."
    return [Problem(text, "To go on: redis-scheduler resume-all", "system")]


def _ledger(at: Readings) -> list[Problem]:
    if at.is_balanced:
        return []
    text = "The ledger does not balance: tasks are missing, or were counted twice."
    return [Problem(text, "redis-scheduler doctor says which; doctor --repair mends it", "system")]


def _memory(at: Readings) -> list[Problem]:
    if at.memory_share < MEMORY_WARN:
        return []
    text = f"Redis uses {at.memory_share:.0%} of the memory that it may."
    remedy = "Give it more (maxmemory, MAX_MEMORY), or delete dead letters; new tasks are refused before it is full"
    return [Problem(text, remedy, "system")]


def _late(at: Readings) -> list[Problem]:
    if at.oldest_ms < LATE_MS or at.workers == 0 or at.all_paused_since:
        return []
    text = (
        f"Late: the oldest task is due since {span(at.oldest_ms)}, and {count(at.states.get('queued', 0))} are queued."
    )
    return [Problem(text, "More workers, or more CONCURRENCY; or a slow receiver has all slots: see Hosts", "hosts")]


def _failing(at: Readings) -> list[Problem]:
    failed = {name.partition(":")[2]: number for name, number in at.recent.items() if name.startswith("failed:")}
    total, delivered = sum(failed.values()), at.recent.get("delivered", 0)
    if total < FAILING_LEAST or total < FAILING_SHARE * (total + delivered):
        return []
    kind = max(failed, key=lambda name: failed[name])
    what, remedy = KINDS.get(kind, (f"the answer is {kind}", "Look at what the receivers answer"))
    text = f"{total / (total + delivered):.0%} of attempts fail in the last minutes, most since {what} ({kind})."
    where = f"Most at {at.failing[0][0]}. " if at.failing else ""
    return [Problem(text, f"{where}{remedy}; tasks are retried meanwhile", "dead")]


def _died(at: Readings) -> list[Problem]:
    died = at.recent.get("died", 0)
    if not died:
        return []
    where = (
        f" Most dead letters are of {at.worst[0][0] or 'a host that cannot be read'}: {at.worst[0][1]}"
        if at.worst
        else ""
    )
    return [
        Problem(f"{count(died)} died in the last minutes.{where}", "Mend the receiver, then replay the group", "dead")
    ]


def _breakers(at: Readings) -> list[Problem]:
    return [
        Problem(
            f"{name} is only probed: it failed again and again.", "Its tasks wait, and go on once it answers", "hosts"
        )
        for name in at.open_breakers[:3]
    ]
