"""Copying: sets the limits that are set in the first shard in another one, too, whose scripts read them there."""

import asyncio

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.task.limit import Limit
from redis_scheduler.task.timing import Timing

AGAIN_S = 1.0
"""Between two tries while the other shard is away."""


class Copying:
    """Copies from the first shard to another."""

    def __init__(self, first: Limiting, other: Limiting) -> None:
        self._first, self._other = first, other
        self.outage = first.outage
        """What is known of the Redis of the first shard, which the loop goes by."""
        self.must_copy = asyncio.Event()
        """Set while limits may differ: at first, and when one was set in the first shard, or set or lost in the other.
        """
        self.must_copy.set()

    async def copy_once(self) -> None:
        """Wait until limits may differ; set those of the first shard in the other."""
        await self.must_copy.wait()
        self.must_copy.clear()
        try:
            said = await self._first.said()
        except BaseException:
            self.must_copy.set()
            raise
        try:
            await self._other.copy(said)
        except (StoreUnavailable, StoreFull):  # that shard's own loops tell of it
            self.must_copy.set()
            await asyncio.sleep(AGAIN_S)


class FirstLimits:
    """The limits that are set in the first shard, for a process that does not serve it: no sweep tells it of them."""

    def __init__(self, limiting: Limiting, timing: Timing) -> None:
        self.limiting = limiting
        self._timing = timing
        self.followers: list[Copying] = []
        """What is to copy once other limits are set."""
        self._said: dict[str, Limit] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look as often as the process joins that shard, until the stop."""

        async def look() -> None:
            said = await self.limiting.said()
            if said != self._said:
                self._said = said
                for follower in self.followers:
                    follower.must_copy.set()
            await stop_or_interval(stop, self._timing.rejoin_s(is_first=True))

        await self.limiting.outage.loop(stop, look)
