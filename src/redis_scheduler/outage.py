"""Riding out an outage: every loop of a process backs off and goes on, and the log has one line a change of state."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis_scheduler.errors import StoreFull, StoreUnavailable

logger = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 1.0
"""Loops are back within a second of Redis, so that leases are renewed before the sweeps' hold is over."""


async def stop_or_interval(stop: asyncio.Event, seconds: float) -> None:
    """Return when `stop` is set, or after the interval."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class Outage:
    """What this process knows of Redis: away or not, and whether the queue had its group."""

    def __init__(self) -> None:
        self.is_away = False
        self.has_seen_group = False
        """Met once, the group is missing only where somebody took it away."""
        self.changed = asyncio.Event()
        """Set where another Redis may answer than before, or the same one without what it had."""
        self.changed.set()

    def begin(self, error: Exception) -> None:
        """Note that Redis is away."""
        if not self.is_away:
            self.is_away = True
            logger.warning("redis-away", extra={"fields": {"error": str(error)}})

    def end(self) -> None:
        """Note that Redis is there."""
        if self.is_away:
            self.is_away = False
            self.changed.set()
            logger.warning("redis-back", extra={"fields": {}})

    async def ride(self, stop: asyncio.Event, step: Callable[[], Awaitable[object]]) -> None:
        """Call `step` again and again until `stop` is set, backing off while Redis is away."""
        backoff_s = BACKOFF_FIRST_S
        while not stop.is_set():
            try:
                await step()
            except (StoreUnavailable, StoreFull) as error:
                self.begin(error)
                await stop_or_interval(stop, backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MOST_S)
            else:
                self.end()
                backoff_s = BACKOFF_FIRST_S
