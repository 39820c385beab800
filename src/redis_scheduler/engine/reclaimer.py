"""The reclaimer: XAUTOCLAIM, the one way a task is delivered again: its retry time has come, or its worker is lost.

All reclaimers together make one sweep: its cursor and the time of its next step are in Redis. A step takes no more than
this process has slots for.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from redis_scheduler.engine.worker import Worker
from redis_scheduler.logs import Events
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.timing import DEFAULT, Timing

logger = Events(__name__)

CLOCK_STEP_MS = 1_000
"""A step of Redis' clock, either way, that a worker acts on: smaller ones end no lease."""

LOST_LINE_INTERVAL_S = 1.0
"""Between two lines of the log that tell of lost workers: what they held comes back in many steps."""

_SET_BACK = (
    "Redis' clock was set back: retries, leases and deferrals go on; what was scheduled before comes at its time by it"
)
_SET_FORWARD = "Redis' clock was set forward, or this machine stood still: what is due by that clock comes now"


class Reclaimer:
    """Sweeps, and retires the consumers of workers that are gone."""

    def __init__(self, store: Claims, worker: Worker, outage: Outage, timing: Timing = DEFAULT) -> None:
        self._store = store
        self._worker = worker
        self._outage = outage
        self._timing = timing
        self._retire_from = 0.0
        self._lost: Counter[str] = Counter()
        self._tell_lost_from = 0.0

    async def run_once(self) -> float:
        """Take one step of the sweep; return the seconds until the next is due."""
        now = time.monotonic()
        if now >= self._retire_from:
            await self._store.retire(self._timing.retire_idle_ms)
            self._retire_from = now + self._timing.retire_interval_s
        # Without a slot it tells the others that it lives, and takes nothing.
        with self._worker.intake.may_bring_claims():
            sweep = await self._store.reclaim(self._worker.reclaimable_slots, self._worker.retry_delay_ms)
            self._note_lost(sweep.lost)
            await self._worker.intake.take(sweep.entries)
        if abs(sweep.clock_step_ms) > CLOCK_STEP_MS:
            await self._on_clock_set(sweep.clock_step_ms)
        if sweep.must_rewind:
            step_ms, _ = await self._store.rewind(self._worker.retry_delay_ms)
            if step_ms:
                logger.warning("clock-set-back", by_s=step_ms / 1000, warning=_SET_BACK)
        return sweep.wait_s

    async def _on_clock_set(self, step_ms: float) -> None:
        """Redis' clock was set: a blocked claim counts its time by it, as do leases, which others take once over."""
        if step_ms > 0:
            logger.warning("clock-set-forward", by_s=step_ms / 1000, warning=_SET_FORWARD)
            await self._worker.renew()
        else:
            await self._worker.claim_anew()

    def _note_lost(self, lost: Mapping[str, int]) -> None:
        """Tell of lost workers, and how many tasks came back of each: once a second at most."""
        self._lost.update(lost)
        now = time.monotonic()
        if self._lost and now >= self._tell_lost_from:
            self._tell_lost_from = now + LOST_LINE_INTERVAL_S
            for name, count in sorted(self._lost.items()):
                logger.warning("worker-lost", worker=name, tasks=count)
            self._lost.clear()

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
