"""Judging: counts what attempts to hosts came to, and reports it, so that breakers open and close by it.

Only hosts that fail are told of, in batches. A host that is well costs a look into a dict.
"""

import asyncio
from itertools import islice

from msgspec import UNSET

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.host import host_of
from redis_scheduler.store.limiting import Judged, Limiting
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.timing import DEFAULT, Timing

JUDGED_MOST = 10_000
"""Hosts whose attempts are told of at once, at most."""


class Judging:
    """Counts and reports for one shard."""

    def __init__(self, limiting: Limiting, timing: Timing = DEFAULT, observer: Observer = NOBODY) -> None:
        self._limiting = limiting
        self._timing = timing
        self._observer = observer
        self.is_on = limiting.breaking.failures > 0
        """Whether it is to be told what attempts came to."""
        self.broken: set[str] = set()
        """Hosts whose breakers are not closed, as Redis said last."""
        self._judged: dict[str, list[int]] = {}
        """Failures since the last attempt that was well, and how many were well, of hosts that fail."""
        self._is_judged = asyncio.Event()

    def note(self, claim: Claim, is_well: bool) -> None:
        """Note what an attempt came to. Hosts that are well are not told of, unless they have failed."""
        if not self.is_on or claim.record.options.limit_key is not UNSET:
            return
        host = host_of(claim.record.origin)
        counted = self._judged.get(host)
        if is_well:
            if counted is not None or host in self.broken:
                wells = 1 if counted is None else counted[1] + 1
                self._judged[host] = [0, wells]
        elif counted is not None:
            counted[0] += 1
        else:
            if len(self._judged) >= JUDGED_MOST:
                self._judged = {host: counted for host, counted in self._judged.items() if any(counted)}
            if len(self._judged) < JUDGED_MOST:
                self._judged[host] = [1, 0]
        if host in self._judged:
            self._is_judged.set()

    async def report_once(self) -> None:
        """Wait until an attempt failed, or was well at a host that failed before; report it."""
        await self._is_judged.wait()
        await asyncio.sleep(self._timing.judge_interval_s)
        self._is_judged.clear()
        told = ((host, counted) for host, counted in self._judged.items() if any(counted))
        batch = dict(islice(told, self._timing.batch_limit))
        for host in batch:
            del self._judged[host]
        try:
            verdicts = await self._limiting.judge([Judged(host, *counted) for host, counted in batch.items()])
        finally:
            # A row that goes on is kept here, so that the first that is well ends it in Redis.
            for host, counted in batch.items():
                if counted[0] and not counted[1]:
                    self._judged.setdefault(host, [0, 0])
            if any(any(counted) for counted in self._judged.values()):
                self._is_judged.set()
        for verdict in verdicts:
            self._observer.breaker_judged(verdict)
