"""The reclaimer: XAUTOCLAIM, the one way a task is delivered again: its retry time has come, or its worker is lost.

All reclaimers together make one sweep: its cursor and the time of its next step are in Redis. A step takes no more than
this process has slots for.
"""

import asyncio
import time

from redis_scheduler.outage import Outage, stop_or_interval
from redis_scheduler.store import Store
from redis_scheduler.worker import Worker

RETIRE_INTERVAL_S = 600.0
RETIRE_IDLE_MS = 3_600_000
"""A consumer idle an hour with nothing pending is gone; workers look every ten minutes."""


class Reclaimer:
    """Sweeps, and retires the consumers of workers that are gone."""

    def __init__(self, store: Store, worker: Worker, outage: Outage) -> None:
        self._store = store
        self._worker = worker
        self._outage = outage
        self._retire_from = 0.0

    async def run_once(self) -> float:
        """Take one step of the sweep; return the seconds until the next is due."""
        now = time.monotonic()
        if now >= self._retire_from:
            await self._store.retire(RETIRE_IDLE_MS)
            self._retire_from = now + RETIRE_INTERVAL_S
        # Without a slot it tells the others that it lives, and takes nothing.
        with self._worker.intake.may_bring_claims():
            entries, wait_s = await self._store.reclaim(self._worker.reclaimable_slots)
            await self._worker.intake.take(entries)
        return wait_s

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
            await self._outage.ride(stop, step)
            waker.cancel()
