"""Whole limits: a concurrency that is smaller than the number of shards, of which not each can have a part.

In each shard one task of such a limit may begin, as by any part. It then waits here for a permit of the limit as a
whole, which the first shard keeps for all. These permits have names of their own, of task and process: a task of that
shard has two, and what one process gives back late is never what another has been given for the same task since.
"""

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.limiting import Asked, Limiting, PermitAnswer
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.limit import WHOLE_MARK
from redis_scheduler.task.timing import Timing

ASK_S = 0.1
"""Claims that wait ask so often: by then one that runs in another shard may have ended."""


class _Wanted(NamedTuple):
    """What a claim asks for, and the concurrency of its limit."""

    asked: Asked
    concurrency: int


class Whole:
    """Asks the `first` shard for the claims of one shard; `go_on` is given those that may begin."""

    def __init__(self, first: Limiting, go_on: Callable[[Iterable[Claim]], Any], timing: Timing) -> None:
        self.first = first
        self._go_on = go_on
        self._timing = timing
        self.waiting: dict[Claim, _Wanted] = {}
        """Claims that wait for a permit."""
        self._begun: dict[Claim, _Wanted] = {}
        """Claims that have one."""
        self._ended: dict[str, None] = {}
        """Members of permits that are to be given back."""
        self._mark = f"{WHOLE_MARK}{secrets.token_hex(4)}:"
        self._renew_at = 0.0
        self._wake = asyncio.Event()

    @property
    def outage(self) -> Outage:
        """What is known of the Redis of the first shard, which the loop goes by."""
        return self.first.outage

    @property
    def is_full(self) -> bool:
        """Whether so many claims wait that further ones are rather held: there may be thousands of limits."""
        return len(self.waiting) >= self._timing.batch_limit

    def wait(self, claim: Claim, limit: str, concurrency: int) -> None:
        """Have a claim wait until it may begin."""
        self.waiting[claim] = _Wanted(Asked(self._mark + claim.key, WHOLE_MARK + limit), concurrency)
        self._wake.set()

    def end(self, claim: Claim) -> None:
        """Give the permit of a claim back, or let it wait no more."""
        wanted = self.waiting.pop(claim, None) or self._begun.pop(claim, None)
        if wanted is not None:
            # Also of one that waits: an answer may be on its way.
            self._ended[wanted.asked.key] = None
            self._wake.set()

    async def ask_once(self) -> None:
        """Wait until something is to be asked for, renewed or given back; do so."""
        if self.waiting or self._begun:
            await stop_or_interval(self._wake, ASK_S if self.waiting else self._timing.renew_interval_s)
        else:
            await self._wake.wait()
        self._wake.clear()
        try:
            await self.give_back()
            await self._renew()
            await self._ask()
        except BaseException:
            self._wake.set()
            raise

    async def give_back(self) -> None:
        """Give back the permits of what has ended. Raises StoreUnavailable, or StoreFull."""
        while ended := list(islice(self._ended, self._timing.batch_limit)):
            await self.first.give_back(ended)
            for key in ended:
                del self._ended[key]

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._begun and now >= self._renew_at:
            self._renew_at = now + self._timing.renew_interval_s
            await self._permits(self._begun, has_begun=1)

    async def _ask(self) -> None:
        may_begin = []
        for claim, found in (await self._permits(self.waiting)).items():
            if found != PermitAnswer.HOLD and (wanted := self.waiting.pop(claim, None)) is not None:
                self._begun[claim] = wanted
                may_begin.append(claim)
        if may_begin:
            self._go_on(may_begin)

    async def _permits(self, wanted: Mapping[Claim, _Wanted], has_begun: int = 0) -> dict[Claim, int]:
        """Ask for claims, those of each concurrency together; return the answers."""
        by_concurrency: defaultdict[int, list[tuple[Claim, Asked]]] = defaultdict(list)
        for claim, (asked, concurrency) in wanted.items():
            by_concurrency[concurrency].append((claim, asked._replace(has_begun=has_begun)))
        found: dict[Claim, int] = {}
        for concurrency, of_it in by_concurrency.items():
            for start in range(0, len(of_it), self._timing.batch_limit):
                part = of_it[start : start + self._timing.batch_limit]
                answers = await self.first.as_whole(concurrency).permit([asked for _, asked in part])
                found |= {claim: answer for (claim, _), answer in zip(part, answers, strict=True)}
        return found

    async def write_last(self) -> None:
        """Give all permits back, unless the first shard is away: then they end by themselves."""
        for claim in [*self.waiting, *self._begun]:
            self.end(claim)
        with contextlib.suppress(StoreUnavailable, StoreFull):
            await self.give_back()
