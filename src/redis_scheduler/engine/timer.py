"""The timer: has due tasks promoted from `due` into the queue. It sleeps until the head of `due`; the bell wakes it
earlier.

Any number of timers may run: the first one moves a task. Should a bell be lost, the next look tells (reclaimer.py).
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from redis_scheduler.engine.alarm import Alarm
from redis_scheduler.errors import StoreRefused, StoreUnavailable
from redis_scheduler.stopping import setting_on, stop_or_interval
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.outage import BACKOFF_MOST_S, Outage
from redis_scheduler.task.timing import DEFAULT, Timing

EXPECTED_MOST_S = 86_400.0
"""The alarm is set to nothing later: no system takes each time that a task may be due at, and a look tells it again."""


class Promoter(Protocol):
    """What a timer needs of the intake."""

    async def promote(self) -> Promotion:
        """Move what is due into the queue, a batch at most."""


class Timer:
    """Has the intake promote, in bounded batches, whenever something is due."""

    def __init__(
        self,
        intake: Promoter,
        bell: Bell,
        outage: Outage,
        timing: Timing = DEFAULT,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_look` is called where the bell calls for a look (reclaimer.py)."""
        self._intake = intake
        self._timing = timing
        self._bell = bell
        self._on_look = on_look
        self._outage = outage
        self._wake = asyncio.Event()
        self._alarm: Alarm
        self._rings_at = -math.inf
        """When the alarm rings, by the event loop's clock. -inf while a promotion is under way: it will tell."""
        self._stop = asyncio.Event()

    async def run_once(self) -> float | None:
        """Move all due tasks, batch after batch until one comes back short; return the seconds to the next task, or
        None."""
        while True:
            promotion = await self._intake.promote()
            if promotion.moved < self._timing.batch_limit or self._stop.is_set():
                return promotion.wait_s

    def expect(self, seconds: float) -> None:
        """Promote in so many seconds at the latest: a look has found what is due then, whose bell may be lost."""
        seconds = min(seconds, EXPECTED_MOST_S)
        rings_at = asyncio.get_running_loop().time() + seconds
        if rings_at < self._rings_at:
            self._rings_at = rings_at
            self._alarm.set(seconds)

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
        self._rings_at = -math.inf
        wait_s = await self.run_once()
        self._rings_at = math.inf
        if wait_s is not None:
            self.expect(wait_s)
        await self._wake.wait()

    async def _listen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._bell.listen(self._wake.set, self._on_look)
            except StoreRefused as error:
                # The timer can do without: looks tell it what is due.
                self._outage.note(error)
                await stop_or_interval(stop, self._timing.bell_refused_s)
            except StoreUnavailable:
                # The timer's own calls say so in the log.
                await stop_or_interval(stop, BACKOFF_MOST_S)
