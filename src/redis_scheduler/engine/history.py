"""The history of this process: counts what happens by the minute, and has it written every few seconds.

What Redis does not take, since it is away or full, is kept and written later: so many minutes at most as Redis would
keep; what is older counts for the oldest of them. A minute is one by Redis' clock.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import Protocol, TypeVar

from redis_scheduler.engine.observer import Observer
from redis_scheduler.engine.seen import HostsSeen
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.metrics.deliveries import Deliveries
from redis_scheduler.metrics.family import DIED
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.history import MINUTE_MS, History
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import SEAL, UNREADABLE
from redis_scheduler.task.retry import Decision, Transition
from redis_scheduler.task.tally import EXACT_MS, Tally, bucket_of
from redis_scheduler.task.timing import DEFAULT, Timing

_BUCKET_OF = [bucket_of(ms) for ms in range(EXACT_MS + 1)]


class Clock(Protocol):
    """Knows the time by Redis."""

    @property
    def ahead_ms(self) -> float:
        """By how much Redis' clock is ahead of this machine's monotonic one."""


Known = TypeVar("Known", bound=Clock)


def known(clocks: Mapping[int, Known]) -> Known:
    """Return the clock of the first shard; or that of another while the first has not told its time yet, as when it is
    away at the start."""
    return next((clock for clock in clocks.values() if clock.ahead_ms), clocks[0])


class Historian(Observer):
    """Counts what it is told, for the history and for the meter. `clocks` know the time by Redis of each shard; the
    first shard has the history."""

    def __init__(
        self,
        history: History,
        clocks: Mapping[int, Clock],
        outage: Outage,
        timing: Timing = DEFAULT,
        meter: Meter = UNREAD,
    ) -> None:
        self._history = history
        self._clocks = clocks
        self._outage = outage
        self._timing = timing
        self._meter = meter
        self._deliveries = Deliveries(meter, EXACT_MS)
        self._tally = Tally()
        self.seen = HostsSeen()
        """The same by host, of the last minutes."""
        self._rows = self.seen.rows
        self._begun = monotonic()
        self._minutes: dict[int, Counter[str]] = {}
        """What is not written yet, by the minute, the oldest first."""
        self._sent: tuple[int, int, Counter[str]] | None = None
        """The number, the minute and the content of a call that nobody knows to be applied."""
        self._batches = itertools.count(1)
        self._is_urgent = asyncio.Event()

    def delivered(self, claim: Claim, outcome: Outcome) -> None:
        """Count a success, and its attempt. (All in one call: 0.3 us.)"""
        tally, elapsed_ms, record = self._tally, outcome.elapsed_ms, claim.record
        if claim.mark or elapsed_ms > EXACT_MS:
            tally.others["delivered"] += 1
            self._attempted(claim, outcome)
            return
        tally.delivered[elapsed_ms] += 1
        try:
            self._rows[record.origin][_BUCKET_OF[elapsed_ms]] += 1
        except KeyError:
            self.seen.row_of(record.origin)[_BUCKET_OF[elapsed_ms]] += 1
        if not claim.attempts:
            late_ms = int(outcome.began_s * 1000 + self._clocks[claim.shard].ahead_ms) - record.due
            if late_ms <= EXACT_MS:
                tally.late[late_ms if late_ms > 0 else 0] += 1
            else:
                tally.count_late(late_ms)

    def taken_on(self, claim: Claim, outcome: Outcome) -> None:
        """Count the attempt."""
        self._attempted(claim, outcome)

    def unsettled(self, claim: Claim, decision: Decision, outcome: Outcome | None, _attempts_left: int | None) -> None:
        """Count a failed attempt by its kind, and a task that has ended with it or without one."""
        others = self._tally.others
        if outcome is not None:
            others[f"failed:{outcome.kind}"] += 1
            self._attempted(claim, outcome)
        if decision.transition is Transition.BURY:
            others["died"] += 1
            self._meter.add(DIED, outcome.kind if outcome is not None else self._unattempted(claim))
        elif decision.transition is Transition.EXPIRE:
            others["expired"] += 1

    def swept(self, lost: Mapping[str, int]) -> None:
        """Count the tasks that came back of lost workers, and write it at once: one of them may end this one, too."""
        if lost:
            self._tally.others["came_back"] += sum(lost.values())
            self._is_urgent.set()

    def left_to_newer(self, claim: Claim, _decision: Decision) -> None:
        """Count a task that this worker cannot read, by what it lacks."""
        unknown = claim.record.unknown
        self._tally.others["left:zone" if unknown is None else "left:key" if unknown == SEAL else "left:newer"] += 1

    def _unattempted(self, claim: Claim) -> str:
        """Return why a task died without an attempt."""
        if claim.record is UNREADABLE:
            return "unreadable"
        return "worker-lost" if claim.tries > self._timing.lost_workers_most else "too-late"

    def _attempted(self, claim: Claim, outcome: Outcome) -> None:
        if claim.mark:  # it was acknowledged, or not: the attempt was made before
            return
        self._tally.count_took(outcome.elapsed_ms)
        self.seen.count(claim.record.origin, outcome)
        if not claim.attempts:
            began_ms = outcome.began_s * 1000 + self._clocks[claim.shard].ahead_ms
            self._tally.count_late(int(began_ms) - claim.record.due)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write every few seconds within the block, and the rest at its end, if Redis takes it in time."""
        ended = asyncio.Event()

        async def step() -> None:
            await stop_or_interval(self._is_urgent, min(self._timing.history_interval_s, self._minute_left_s()))
            self._is_urgent.clear()
            with contextlib.suppress(StoreFull):  # the numbers are kept, and the API says it to those who schedule
                await self.write()

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._outage.loop(ended, step), name="history")
            try:
                yield
            finally:
                ended.set()
                self._is_urgent.set()
                await asyncio.wait([writing], timeout=0 if self._outage.is_away else self._timing.final_writes_s)
                writing.cancel()
        if self._outage.is_away:
            return
        with contextlib.suppress(StoreUnavailable, StoreFull, TimeoutError):
            async with asyncio.timeout(self._timing.final_writes_s):
                await self.write()

    def _now_ms(self) -> float:
        return monotonic() * 1000 + known(self._clocks).ahead_ms

    def _minute_left_s(self) -> float:
        return (MINUTE_MS - self._now_ms() % MINUTE_MS) / 1000

    def collect(self) -> None:
        """Count what happened since the last time for the minute in which most of it did, and for the meter."""
        tally, self._tally = self._tally, Tally()
        begun, self._begun = self._begun, monotonic()
        if numbers := tally.numbers():
            self._deliveries.add(tally.delivered, tally.late, tally.others, tally.took_ms, tally.late_ms)
            minute = int(self._now_ms() - (self._begun - begun) * 500) // MINUTE_MS
            self._minutes.setdefault(minute, Counter()).update(numbers)
            while len(self._minutes) > self._timing.history_minutes_most:
                oldest = self._minutes.pop(next(iter(self._minutes)))
                self._minutes[next(iter(self._minutes))].update(oldest)

    async def write(self) -> None:
        """Write what happened. After an error it is still there; what was sent is sent again as it was."""
        self.collect()
        while self._sent is not None or self._minutes:
            if self._sent is None:
                minute = next(iter(self._minutes))
                self._sent = next(self._batches), minute, self._minutes.pop(minute)
            await self._history.add(*self._sent)
            self._sent = None
