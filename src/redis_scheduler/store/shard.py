"""A shard: tasks that stand together, in one Redis and under one hash tag. Today a deployment has one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.outage import Outage


@dataclass(frozen=True, slots=True)
class Shard:
    """Where the tasks of a shard stand: the URL of its Redis, and its keys there."""

    url: str
    keys: Keys

    @asynccontextmanager
    async def connected(
        self, timeout_s: float, outage: Outage | None = None, meter: Meter = UNREAD
    ) -> AsyncIterator[RedisClient]:
        """Give a client of the shard, with connections of its own until the end of the block."""
        client = RedisClient(self.url, timeout_s, self.keys, outage, meter)
        try:
            yield client
        finally:
            await client.aclose()
