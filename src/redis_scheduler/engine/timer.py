"""The timer: has due tasks promoted from `due` into the queue. It sleeps until the head of `due`; the bell wakes it
earlier.

Any number of timers may run: the first one moves a task. A lost bell costs a second at most.
"""

import asyncio
from typing import Protocol

from redis_scheduler.engine.alarm import Alarm
from redis_scheduler.errors import StoreRefused, StoreUnavailable
from redis_scheduler.stopping import setting_on, stop_or_interval
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.outage import BACKOFF_MOST_S, Outage
from redis_scheduler.task.timing import DEFAULT, Timing


class Promoter(Protocol):
    """What a timer needs of the intake."""

    async def promote(self) -> Promotion:
        """Move what is due into the queue, a batch at most."""


class Timer:
    """Has the intake promote, in bounded batches, whenever something is due."""

    def __init__(self, intake: Promoter, bell: Bell, outage: Outage, timing: Timing = DEFAULT) -> None:
        self._intake = intake
        self._timing = timing
        self._bell = bell
        self._outage = outage
        self._wake = asyncio.Event()
        self._alarm: Alarm
        self._stop = asyncio.Event()

    async def run_once(self) -> float:
        """Move all due tasks, batch after batch until one comes back short; return the seconds to the next task."""
        while True:
            promotion = await self._intake.promote()
            if promotion.moved < self._timing.batch_limit or self._stop.is_set():
                longest_s = self._timing.longest_sleep_s
                return longest_s if promotion.wait_s is None else min(promotion.wait_s, longest_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Promote at every due time until `stop` is set."""
        self._stop = stop
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(self._listen(stop), name="bell")
            with Alarm(self._wake.set) as self._alarm:
                async with setting_on(stop, self._wake):
                    await self._outage.loop(stop, self._step)
            listener.cancel()

    async def _step(self) -> None:
        # Cleared before the look, so that a bell during it is not lost.
        self._wake.clear()
        self._alarm.set(await self.run_once())
        await self._wake.wait()

    async def _listen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._bell.listen(self._wake.set)
            except StoreRefused as error:
                # The timer can do without: it looks once a second.
                self._outage.note(error)
                await stop_or_interval(stop, self._timing.bell_refused_s)
            except StoreUnavailable:
                # The timer's own calls say so in the log; until then it looks once a second.
                await stop_or_interval(stop, BACKOFF_MOST_S)
