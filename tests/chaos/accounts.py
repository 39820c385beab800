"""The accounts of a run: what was sent, what arrived, where the rest stands, and the verdict on each task."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.chaos.figures import Spread
from tests.support.receiver import Arrival

LATE_S = 0.5
"""A task that came later than this, or more than once, was hit by a fault: its last arrival is its recovery."""


@dataclass
class Sent:
    """A request to schedule, and what became of it."""

    number: int
    status: int | None
    """None: no answer came."""
    key: str = ""
    due_at: float = 0
    unanswered_due_at: float = math.inf
    """When it was due at the earliest, if a PUT of it that had no answer, or a 503, took effect all the same."""
    took_s: float = 0
    """How long the client waited for the answer."""
    cancelled_at: float | None = None
    """When a cancel was answered with `cancelled`."""
    replaced_at: float | None = None
    """When a PUT of another task under its key was answered, unless it was in delivery then."""
    may_be_gone: bool = False
    """A cancel, or a PUT that takes its place, was sent, whatever its answer."""
    done_at: float | None = None
    """When its receiver's `done` was answered: no other attempt follows; that one may come twice."""
    paused_at: float | None = None
    """When a pause was answered, unless the task was in delivery."""
    resumed_at: float | None = None
    """When a resume was sent: the task may come from then on."""
    expire_s: float = math.inf
    """No attempt begins so long after its due time."""
    times: int = 0
    """It is a series of so many occurrences; one without an end has 0."""

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 200

    @property
    def is_refused(self) -> bool:
        """A 503 leaves open whether the task was entered."""
        return self.status is not None and self.status not in (200, 503)

    @property
    def gone_at(self) -> float:
        """From when on it must not arrive."""
        return min(at or math.inf for at in (self.cancelled_at, self.replaced_at))


@dataclass
class Standing:
    """The keys of tasks that need not arrive, by the place where they stand or how they ended."""

    dead: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)

    @property
    def all(self) -> set[str]:
        return self.dead | self.paused | self.expired


@dataclass
class Early:
    """A delivery that came before its due time: how long before, and all that arrived of it."""

    by_s: float
    due_at: float
    task: Sent
    found: Sequence[Arrival]


@dataclass
class Verdict:
    """Every task accounted for. Times in seconds: p50 / p99 / most."""

    acknowledged: int
    refused: int
    unknown: int
    arrived: int
    occurrences: int
    dead: int
    expired: int
    cancelled: int
    replaced: int
    lost: list[Sent]
    unexpected: list[Arrival]
    duplicated: int
    recovered: int
    lateness: Spread
    recovery: Spread
    early: list[Early]

    @property
    def early_s(self) -> float:
        """How long the earliest came before its due time; 0 if there was none."""
        return max((one.by_s for one in self.early), default=0.0)


def account(
    sent: Mapping[int, Sent], arrivals: Mapping[int, Sequence[Arrival]], standing: Standing, clock_ahead_s: float = 0
) -> Verdict:
    """Return what became of every task; `arrivals` by the task's number."""
    tasks = sent.values()
    delays, recoveries, early = _delays(sent, arrivals, clock_ahead_s)
    return Verdict(
        acknowledged=sum(task.is_acknowledged for task in tasks),
        refused=sum(task.is_refused for task in tasks),
        unknown=sum(not task.is_acknowledged and not task.is_refused for task in tasks),
        arrived=len(arrivals),
        occurrences=sum(len(by_occurrence(arrivals.get(task.number, ()))) for task in tasks if task.times),
        dead=len(standing.dead),
        expired=len(standing.expired),
        cancelled=sum(task.cancelled_at is not None for task in tasks),
        replaced=sum(task.replaced_at is not None for task in tasks),
        lost=[task for task in tasks if _is_lost(task, arrivals.get(task.number, ()), standing)],
        unexpected=[
            arrival
            for number, found in arrivals.items()
            for arrival in found
            if _is_unexpected(sent.get(number), found, arrival)
        ],
        duplicated=sum(len(found) - attempts(found) for found in arrivals.values()),
        recovered=sum(sent[n].status in (None, 503) for n in arrivals if n in sent),
        lateness=Spread.of(delays),
        recovery=Spread.of(recoveries),
        early=early,
    )


def by_number(arrivals: Iterable[Arrival]) -> dict[int, list[Arrival]]:
    """Arrivals by the number of their task."""
    found: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        found[json.loads(arrival.body)["n"]].append(arrival)
    return found


def by_occurrence(found: Iterable[Arrival]) -> dict[int, list[Arrival]]:
    """The arrivals of each occurrence of a series, in order; those of a task that is none under 0."""
    each: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in found:
        each[int(arrival.headers.get("Schedule-Occurrence", 0))].append(arrival)
    return each


def _deliveries(found: Iterable[Arrival]) -> list[list[Arrival]]:
    """The arrivals of a task by what they are of: an occurrence of a series, or another time for which it was due."""
    each: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
    for arrival in found:
        each[arrival.headers.get("Schedule-Occurrence", ""), arrival.headers.get("Schedule-Due", "")].append(arrival)
    return list(each.values())


def attempts(found: Iterable[Arrival]) -> int:
    """How many different attempts arrived. A task that comes again, or anew, begins to count its attempts afresh."""
    return len({(arrival.key, arrival.headers.get("Schedule-Due"), arrival.attempt) for arrival in found})


def _is_lost(task: Sent, found: Sequence[Arrival], standing: Standing) -> bool:
    if not task.is_acknowledged or task.may_be_gone or task.key in standing.all:
        return False
    return not found or not by_occurrence(found).keys() >= set(range(1, task.times + 1))


def _is_unexpected(task: Sent | None, found: Sequence[Arrival], arrival: Arrival) -> bool:
    """Whether it was never sent or refused, came when it was cancelled, replaced, done, paused or expired; or is of an
    occurrence that the series does not have, or that was made twice."""
    if task is None or task.is_refused or arrival.at > task.gone_at:
        return True
    if task.paused_at is not None and task.paused_at < arrival.at < (task.resumed_at or math.inf):
        return True
    if task.done_at is not None and all(one.at > task.done_at for one in found if one.attempt == arrival.attempt):
        return True
    if number := int(arrival.headers.get("Schedule-Occurrence", 0)):
        return number > (task.times or math.inf) or arrival.key != by_occurrence(found)[number][0].key
    # What is begun at the last moment arrives a little later.
    return task.is_acknowledged and arrival.at > task.due_at + task.expire_s + LATE_S


def _delays(
    sent: Mapping[int, Sent], arrivals: Mapping[int, Sequence[Arrival]], clock_ahead_s: float
) -> tuple[list[float], list[float], list[Early]]:
    """Return how late each acknowledged task or occurrence came first; and last, those that a fault hit; and which came
    early."""
    delays: list[float] = []
    recoveries: list[float] = []
    early: list[Early] = []
    for number, all_found in arrivals.items():
        task = sent.get(number)
        if task is None or not task.is_acknowledged:
            continue
        for found in _deliveries(all_found):
            due_at = _due_at(task, found[0], all_found[0], clock_ahead_s)
            delays.append(found[0].at - due_at)
            if delays[-1] < 0:
                early.append(Early(-delays[-1], due_at, task, found))
            if delays[-1] > LATE_S or len(found) > attempts(found):
                recoveries.append(found[-1].at - due_at)
    return delays, recoveries, early


def _due_at(task: Sent, arrival: Arrival, first: Arrival, clock_ahead_s: float) -> float:
    """When a delivery was due: as its request was answered; or as it says itself, if it is an occurrence, a later
    delivery than the `first` of its task, or may be that of a PUT whose answer was lost."""
    due = arrival.headers.get("Schedule-Due")
    told_at = datetime.fromisoformat(due).timestamp() - clock_ahead_s if due else -math.inf
    is_later = due != first.headers.get("Schedule-Due")
    if "Schedule-Occurrence" in arrival.headers or is_later or told_at >= task.unanswered_due_at:
        return told_at
    if task.paused_at is not None and arrival.at > task.paused_at:
        return max(task.due_at, task.resumed_at or 0)
    return task.due_at
