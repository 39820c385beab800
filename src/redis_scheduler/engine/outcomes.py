"""The outcomes of deliveries, until Redis has them. They are written in batches, and again after an error: the scripts
fence outcomes, so writing one twice does nothing."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.store.claims import NO_FOLLOW_UPS, Claims, HoldAnswer, RetryAnswer
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.listing import labels_bytes, listing_bytes
from redis_scheduler.task.options import NONE
from redis_scheduler.task.retry import Transition
from redis_scheduler.task.series import Firing, firing
from redis_scheduler.task.timing import DEFAULT, Timing

Item = TypeVar("Item")

_LISTED_ANEW = (Transition.BURY, Transition.EXPIRE, Transition.AGAIN)
"""After these a task is listed otherwise, or no longer."""


class Outcomes:
    """The outcomes that wait to be written. A claim is held until its outcome is.

    A follow-up is a task that starts in the moment in which Redis has the outcome. A batch is cut at `load_bytes` of
    their records, of what is kept of failures, and of labels as bytes (listing.py), or one more of them, so that Redis
    takes a millisecond or two.
    """

    def __init__(self, claims: Claims, holdings: Holdings, timing: Timing = DEFAULT) -> None:
        self._claims = claims
        self._timing = timing
        self.holdings = holdings
        """What is held of the shard whose outcomes these are."""
        self.worker, self.answer_bytes = claims.name, claims.answer_bytes
        """Who makes the attempts; so much is kept of the answer to one that fails."""
        self.keeps_results = claims.keeps_results
        """Whether a result is kept of a delivered task."""
        self.now_ms = claims.now_ms
        """The time by this shard's Redis."""
        self.to_settle: deque[Claim] = deque()
        self.unsettled: deque[tuple[Transition, Unsettled]] = deque()
        self.to_release: deque[Claim] = deque()
        self.to_fire: deque[Claim] = deque()
        self._follow_ups: dict[Claim, NewTask] = {}
        self._may_have_labels = False
        """Whether a task to settle may have labels: these take Redis time, so the batch is cut by them."""
        self._is_added = asyncio.Event()
        self.must_look = asyncio.Event()
        """Set when a retry was parked, or an acknowledgement may be late soon: the sweep may have to look sooner."""
        self.has_buried = asyncio.Event()
        """Set when a task was buried: there may be too many dead letters."""

    def settle(self, claim: Claim, follow_up: NewTask | None = None) -> None:
        """Have a delivered task deleted, and its `result` kept."""
        if follow_up is not None:
            self._follow_ups[claim] = follow_up
        if claim.record.options is not NONE:
            self._may_have_labels = True
        self.to_settle.append(claim)
        self._is_added.set()

    def unsettle(self, transition: Transition, item: Unsettled, follow_up: NewTask | None = None) -> None:
        """Have a task retried, deferred, buried, expired, wait for an acknowledgement, or come again. Raises ValueError
        for a follow-up of one that comes again."""
        if follow_up is not None:
            if transition not in (Transition.BURY, Transition.EXPIRE):
                raise ValueError("a task that comes again has no follow-up yet")
            self._follow_ups[item.claim] = follow_up
        self.unsettled.append((transition, item))
        self._is_added.set()

    def release(self, claims: Iterable[Claim]) -> None:
        """Have claims released, to be taken by any worker."""
        self.to_release += claims
        self._is_added.set()

    def fire(self, claim: Claim) -> None:
        """Have a series that came due make its occurrences."""
        self.to_fire.append(claim)
        self._is_added.set()

    async def write(self) -> None:
        """Write batches of each kind until none is left. After an error the outcomes that were not written stay."""
        while self.to_settle or self.unsettled or self.to_release or self.to_fire:
            if to_settle := self._first(self.to_settle, self._settled_bytes, self._may_have_labels):
                await self._claims.settle(to_settle, self._following(to_settle))
                self._written(self.to_settle, to_settle)
                self._may_have_labels = self._may_have_labels and bool(self.to_settle)
            if unsettled := self._first(self.unsettled, self._unsettled_bytes, is_sized=True):
                await self._write_unsettled(unsettled)
                self._written(self.unsettled, [item.claim for _, item in unsettled])
            if to_release := self._first(self.to_release, self._following_bytes):
                await self._claims.release(to_release)
                self._written(self.to_release, to_release)
            if firings := await self._firings():
                await self._claims.fire(firings)
                self._written(self.to_fire, [one.claim for one in firings])

    async def _firings(self) -> list[Firing]:
        """Return what the first series do, with about as many occurrences, and bytes of them, as a batch may have."""
        firings: list[Firing] = []
        made = size = 0
        until = time.perf_counter() + self._timing.working_out_s
        for claim in list(islice(self.to_fire, self._timing.fired_most)):
            if made >= self._timing.batch_limit or size >= self._timing.load_bytes:
                break
            firings.append(firing(claim, round(self.now_ms()), self._timing.load_bytes))
            made += len(firings[-1].made)
            size += sum(len(one.tail) + listing_bytes(one.listed) for one in firings[-1].made)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + self._timing.working_out_s
        return firings

    def _first(self, outcomes: deque[Item], bytes_of: Callable[[Item], int], is_sized: bool = False) -> list[Item]:
        """Return the first of these outcomes: a batch at most. Without follow-ups only those `is_sized` have a size."""
        batch = list(islice(outcomes, self._timing.batch_limit))
        if self._follow_ups or is_sized:
            size = 0
            for count, item in enumerate(batch):
                if size >= self._timing.load_bytes:
                    return batch[:count]
                size += bytes_of(item)
        return batch

    def _following_bytes(self, claim: Claim) -> int:
        follow_up = self._follow_ups.get(claim)
        return 0 if follow_up is None else len(follow_up.tail) + listing_bytes(follow_up.listed)

    def _settled_bytes(self, claim: Claim) -> int:
        return labels_bytes(claim.record.options) + self._following_bytes(claim)

    def _unsettled_bytes(self, outcome: tuple[Transition, Unsettled]) -> int:
        transition, item = outcome
        size = len(item.last_failure) + self._following_bytes(item.claim)
        return size + labels_bytes(item.claim.record.options) if transition in _LISTED_ANEW else size

    def _following(self, claims: Sequence[Claim]) -> Mapping[int, NewTask]:
        """Return the follow-ups of claims by their indices."""
        if not self._follow_ups:
            return NO_FOLLOW_UPS
        return {index: self._follow_ups[claim] for index, claim in enumerate(claims) if claim in self._follow_ups}

    def _written(self, outcomes: deque[Item], claims: Sequence[Claim]) -> None:
        for _ in claims:
            outcomes.popleft()
        if self._follow_ups:
            for claim in claims:
                self._follow_ups.pop(claim, None)
        self.holdings.written(claims)

    async def _write_unsettled(self, unsettled: Sequence[tuple[Transition, Unsettled]]) -> None:
        by_transition: defaultdict[Transition, list[Unsettled]] = defaultdict(list)
        for transition, item in unsettled:
            by_transition[transition].append(item)
        if to_retry := by_transition[Transition.RETRY]:
            answers = await self._claims.retry(to_retry)
            by_transition[Transition.DEFER] += [
                item for item, answer in zip(to_retry, answers, strict=True) if answer is RetryAnswer.TOO_MANY
            ]
            self.must_look.set()
        if by_transition[Transition.DEFER]:
            await self._claims.defer(by_transition[Transition.DEFER])
        if to_hold := by_transition[Transition.HOLD]:
            await self._hold(to_hold)
        if to_expect := by_transition[Transition.EXPECT]:
            await self._claims.expect(to_expect)
            if min(item.delay_ms for item in to_expect) < self._timing.look_interval_ms:
                self.must_look.set()
        if to_bury := by_transition[Transition.BURY]:
            await self._claims.bury(to_bury, self._following([item.claim for item in to_bury]))
            self.has_buried.set()
        if to_expire := by_transition[Transition.EXPIRE]:
            await self._claims.expire(to_expire, self._following([item.claim for item in to_expire]))
        for part in self._in_parts(by_transition[Transition.AGAIN]):
            await self._claims.again(part)

    async def _hold(self, to_hold: Sequence[Unsettled]) -> None:
        """Hold tasks; those for which there is no line come again later."""
        claims = [item.claim for item in to_hold]
        answers = await self._claims.hold(claims)
        if without := [claim for claim, answer in zip(claims, answers, strict=True) if answer is HoldAnswer.NO_LINE]:
            delay_ms = self._timing.no_line_delay_ms
            await self._claims.defer([Unsettled(claim, b"", delay_ms, counts=False) for claim in without])

    def _in_parts(self, items: Sequence[Unsettled]) -> Iterator[list[Unsettled]]:
        """Yield what may be written by one call: about `load_bytes` of records, at least one."""
        part, size = list[Unsettled](), 0
        for item in items:
            part.append(item)
            size += len(item.claim.record.data or b"") + labels_bytes(item.claim.record.options)
            if size >= self._timing.load_bytes:
                yield part
                part, size = [], 0
        if part:
            yield part

    async def write_once(self) -> None:
        """Wait for an outcome, gather more for a moment, and write them."""
        await self._is_added.wait()
        await asyncio.sleep(self._timing.gather_s)
        self._is_added.clear()
        try:
            await self.write()
        except BaseException:
            self._is_added.set()
            raise
