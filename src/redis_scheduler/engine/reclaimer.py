"""The reclaimer: XAUTOCLAIM, which brings back parked retries and the tasks of lost workers.

All reclaimers together make one sweep: its cursor and the time of its next step are in Redis. A step takes no more than
this process has slots for.
"""

import asyncio
import time

from redis_scheduler.engine.intake import Intake
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.stopping import setting_on, stop_or_interval
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.timing import DEFAULT, Timing

CLOCK_SET_MS = 1_000
"""By how much Redis' clock is set, either way, when a worker acts on it: less ends no lease."""


class Reclaimer:
    """Sweeps, and retires the consumers of workers that are gone. A retry that outcomes have parked wakes it: it may be
    due sooner than the next step."""

    def __init__(
        self,
        claims: Claims,
        intake: Intake,
        outcomes: Outcomes,
        outage: Outage,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._claims = claims
        self._intake = intake
        self._retry_parked = outcomes.retry_parked
        self._outage = outage
        self._timing = timing
        self._observer = observer
        self._retire_from = 0.0

    async def run_once(self) -> float:
        """Take one step of the sweep; return the seconds until the next is due."""
        now = time.monotonic()
        if now >= self._retire_from:
            await self._claims.retire(self._timing.retire_idle_ms)
            self._retire_from = now + self._timing.retire_interval_s
        sweep = await self._intake.sweep()
        if abs(sweep.clock_set_ms) > CLOCK_SET_MS:
            await self._on_clock_set(sweep.clock_set_ms)
        if sweep.must_rewind:
            set_back_ms, _ = await self._claims.rewind()
            if set_back_ms:
                self._observer.clock_set(-set_back_ms)
        return sweep.wait_s

    async def _on_clock_set(self, by_ms: float) -> None:
        """Act on Redis' clock, by which blocked claims and leases run: set forward, leases would end early; set back, a
        claim would block too long."""
        if by_ms > 0:
            self._observer.clock_set(by_ms)
            await self._intake.renew()
        else:
            await self._intake.unblock()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set."""

        async def step() -> None:
            self._retry_parked.clear()
            wait_s = await self.run_once()
            if not stop.is_set():
                await stop_or_interval(self._retry_parked, wait_s)

        async with setting_on(stop, self._retry_parked):
            await self._outage.loop(stop, step)
