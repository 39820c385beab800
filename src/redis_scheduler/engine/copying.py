"""Copying: sets the limits that are set in the first shard in another one, too, whose scripts read them there."""

import asyncio

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.task.limit import Limit

AGAIN_S = 1.0
"""Between two tries while the other shard is away."""

LOOK_S = 5.0
"""Between two looks at the first shard where nobody in this process serves it."""


class Copying:
    """Copies from the first shard to another. `is_woken`: this process serves the first one, so
    `must_copy` is set once a limit was set there; else it looks at intervals."""

    def __init__(self, first: Limiting, other: Limiting, is_woken: bool = True) -> None:
        self._first, self._other = first, other
        self.outage = first.outage
        """What is known of the Redis of the first shard, which the loop goes by."""
        self._is_woken = is_woken
        self._copied: dict[str, Limit] | None = None
        self.must_copy = asyncio.Event()
        """Set while limits may differ: at first, and when one was set in the first shard, or set or lost in the other.
        """
        self.must_copy.set()

    async def copy_once(self) -> None:
        """Wait until limits may differ; set those of the first shard in the other."""
        if self._is_woken:
            await self.must_copy.wait()
        else:
            await stop_or_interval(self.must_copy, LOOK_S)
        may_differ = self.must_copy.is_set()
        self.must_copy.clear()
        try:
            said = await self._first.said()
        except BaseException:
            self.must_copy.set()
            raise
        if not may_differ and said == self._copied:
            return
        try:
            await self._other.copy(said)
            self._copied = said
        except (StoreUnavailable, StoreFull):  # that shard's own loops tell of it
            self.must_copy.set()
            await asyncio.sleep(AGAIN_S)
