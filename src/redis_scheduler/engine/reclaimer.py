"""The reclaimer: XAUTOCLAIM, the one way a task is delivered again: its retry time has come, or its worker is lost.

All reclaimers together make one sweep: its cursor and the time of its next step are in Redis. A step takes no more than
this process has slots for.
"""

import asyncio
import time

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.worker import Worker
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.timing import DEFAULT, Timing

CLOCK_STEP_MS = 1_000
"""A step of Redis' clock, either way, that a worker acts on: smaller ones end no lease."""


class Reclaimer:
    """Sweeps, and retires the consumers of workers that are gone."""

    def __init__(
        self, store: Claims, worker: Worker, outage: Outage, timing: Timing = DEFAULT, observer: Observer = NOBODY
    ) -> None:
        self._store = store
        self._worker = worker
        self._outage = outage
        self._timing = timing
        self._observer = observer
        self._retire_from = 0.0

    async def run_once(self) -> float:
        """Take one step of the sweep; return the seconds until the next is due."""
        now = time.monotonic()
        if now >= self._retire_from:
            await self._store.retire(self._timing.retire_idle_ms)
            self._retire_from = now + self._timing.retire_interval_s
        # Without a slot it tells the others that it lives, and takes nothing.
        with self._worker.intake.may_bring_claims():
            sweep = await self._store.reclaim(self._worker.reclaimable_slots, self._worker.retry_delay_ms)
            self._observer.swept(sweep.lost)
            await self._worker.intake.take(sweep.entries)
        if abs(sweep.clock_step_ms) > CLOCK_STEP_MS:
            await self._on_clock_set(sweep.clock_step_ms)
        if sweep.must_rewind:
            step_ms, _ = await self._store.rewind(self._worker.retry_delay_ms)
            if step_ms:
                self._observer.clock_set(-step_ms)
        return sweep.wait_s

    async def _on_clock_set(self, step_ms: float) -> None:
        """Redis' clock was set: a blocked claim counts its time by it, as do leases, which others take once over."""
        if step_ms > 0:
            self._observer.clock_set(step_ms)
            await self._worker.renew()
        else:
            await self._worker.claim_anew()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set."""
        wake = self._worker.retry_parked

        async def step() -> None:
            wake.clear()
            wait_s = await self.run_once()
            if not stop.is_set():
                await stop_or_interval(wake, wait_s)

        async def wake_on_stop() -> None:
            await stop.wait()
            wake.set()

        async with asyncio.TaskGroup() as tasks:
            waker = tasks.create_task(wake_on_stop(), name="reclaimer-stop")
            await self._outage.loop(stop, step)
            waker.cancel()
