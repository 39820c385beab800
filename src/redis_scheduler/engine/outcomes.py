"""The outcomes of deliveries, until Redis has them. They are written in batches, and again after an error: the scripts
fence outcomes, so writing one twice does nothing."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.store.claims import Claims, RetryAnswer
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.retry import Transition
from redis_scheduler.task.timing import DEFAULT, Timing

Item = TypeVar("Item")


class Outcomes:
    """The outcomes that wait to be written. A claim is held until its outcome is."""

    def __init__(self, claims: Claims, holdings: Holdings, timing: Timing = DEFAULT) -> None:
        self._claims = claims
        self._timing = timing
        self.holdings = holdings
        """What is held of the shard whose outcomes these are."""
        self.to_settle: deque[Claim] = deque()
        self.unsettled: deque[tuple[Transition, Unsettled]] = deque()
        self.to_release: deque[Claim] = deque()
        self._is_added = asyncio.Event()
        self.retry_parked = asyncio.Event()
        """Set when a retry was parked: the sweep may have to look sooner."""

    def settle(self, claim: Claim) -> None:
        """Have a delivered task deleted."""
        self.to_settle.append(claim)
        self._is_added.set()

    def unsettle(self, transition: Transition, item: Unsettled) -> None:
        """Have a task retried, deferred or buried."""
        self.unsettled.append((transition, item))
        self._is_added.set()

    def release(self, claims: Iterable[Claim]) -> None:
        """Have claims released, to be taken by any worker."""
        self.to_release += claims
        self._is_added.set()

    async def write(self) -> None:
        """Write batches of each kind until none is left. After an error the outcomes that were not written stay."""
        while self.to_settle or self.unsettled or self.to_release:
            if to_settle := self._first(self.to_settle):
                await self._claims.settle(to_settle)
                self._written(self.to_settle, to_settle)
            if unsettled := self._first(self.unsettled):
                await self._write_unsettled(unsettled)
                self._written(self.unsettled, [item.claim for _, item in unsettled])
            if to_release := self._first(self.to_release):
                await self._claims.release(to_release)
                self._written(self.to_release, to_release)

    def _first(self, outcomes: deque[Item]) -> list[Item]:
        return list(islice(outcomes, self._timing.batch_limit))

    def _written(self, outcomes: deque[Item], claims: Sequence[Claim]) -> None:
        for _ in claims:
            outcomes.popleft()
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
            self.retry_parked.set()
        if by_transition[Transition.DEFER]:
            await self._claims.defer(by_transition[Transition.DEFER])
        if by_transition[Transition.BURY]:
            await self._claims.bury(by_transition[Transition.BURY])

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
