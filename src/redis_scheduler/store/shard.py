"""A shard: tasks that stand together, in one Redis and under one hash tag."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.store.check import Servers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.replicas import ReplicatedClient
from redis_scheduler.store.url import location_of, urls_of_shards
from redis_scheduler.task.key import SHARDS_MOST


@dataclass(frozen=True, slots=True)
class Shard:
    """Where the tasks of a shard stand: the URL of its Redis, and its keys there."""

    url: str
    keys: Keys
    servers: Servers | None = None
    """Those of all shards, or the one that has all; None in a cluster."""

    def only_looked_at(self) -> "Shard":
        """Return the same, for clients that leave no mark at its server."""
        return self if self.servers is None else replace(self, servers=replace(self.servers, only_looks=True))

    def client(
        self, timeout_s: float, outage: Outage | None = None, meter: Meter = UNREAD, replicas: int = 0
    ) -> RedisClient:
        """Return a client of the shard, with connections of its own. Close it. `replicas`: so many must have what it
        writes."""
        if replicas:
            return ReplicatedClient(self.url, timeout_s, self.keys, outage, meter, self.servers, replicas)
        return RedisClient(self.url, timeout_s, self.keys, outage, meter, self.servers)

    @asynccontextmanager
    async def connected(
        self, timeout_s: float, outage: Outage | None = None, meter: Meter = UNREAD, replicas: int = 0
    ) -> AsyncIterator[RedisClient]:
        """Give a client of the shard, with connections of its own until the end of the block."""
        client = self.client(timeout_s, outage, meter, replicas)
        try:
            yield client
        finally:
            await client.aclose()


def shard_at(redis_url: str, number: int, keys_at: Callable[[int], Keys]) -> Shard:
    """Return the shard of a number, by REDIS_URL. `keys_at` gives the keys of a number."""
    urls = urls_of_shards(redis_url)
    if location_of(urls[0]).kind == "cluster":
        return Shard(urls[0], keys_at(number))
    servers = Servers(len(urls), [keys_at(one) for one in range(SHARDS_MOST)])
    return Shard(urls[number if len(urls) > 1 else 0], keys_at(number), servers)
