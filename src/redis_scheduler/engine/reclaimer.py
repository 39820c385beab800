"""The reclaimer: looks at a shard at intervals. Each look takes a step of the sweep, XAUTOCLAIM, which brings back
parked retries and the tasks of lost workers. And the timer hears when the next task is due, should a bell be lost.

All reclaimers together make one sweep: its cursor and the time of its next step are in Redis. A step takes no more than
this process has slots for.
"""

import asyncio
import math
import time
from collections.abc import Callable

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
    """Sweeps, and retires the consumers of workers that are gone. What outcomes have parked wakes it, and the bell does
    for others: it may come again sooner than the next step."""

    def __init__(
        self,
        claims: Claims,
        intake: Intake,
        outcomes: Outcomes,
        outage: Outage,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
        expect_due: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`expect_due` is told in how many seconds a promotion is due at the latest."""
        self._claims = claims
        self._intake = intake
        self._must_look = outcomes.must_look
        self._outage = outage
        self._timing = timing
        self._observer = observer
        self._expect_due = expect_due
        self._retire_from = 0.0
        self._looks_at = -math.inf

    async def run_once(self) -> float:
        """Look once; return the seconds until the next look is due."""
        now = time.monotonic()
        if now >= self._retire_from:
            await self._claims.retire(self._timing.retire_idle_ms)
            self._retire_from = now + self._timing.retire_interval_s
        sweep = await self._intake.sweep()
        if sweep.is_all_paused != self._intake.is_all_paused or sweep.has_lines:
            self._expect_due(0)
        elif sweep.due_in_s is not None:
            self._expect_due(sweep.due_in_s)
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

    def look_soon(self) -> None:
        """Look once that interval is over at which sweeps follow each other while anything waits: the bell calls for
        it, and calls in between are for the same look."""
        loop, wait_s = asyncio.get_running_loop(), self._timing.sweep_waiting_interval_ms / 1000
        if loop.time() >= self._looks_at:
            self._looks_at = loop.time() + wait_s
            loop.call_at(self._looks_at, self._must_look.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""

        async def step() -> None:
            self._must_look.clear()
            wait_s = await self.run_once()
            if not stop.is_set():
                await stop_or_interval(self._must_look, wait_s)

        async with setting_on(stop, self._must_look):
            await self._outage.loop(stop, step)
