"""Clients that look at a Redis Cluster as at one server: each command goes to the master of the key that it names."""

import functools
from typing import Any, Self, cast

import redis
import redis.asyncio
from redis.exceptions import MovedError

from redis_scheduler.store.tag import slot_of
from redis_scheduler.store.url import location_of
from tests.support.names import KEYS

_ON_ALL = {"FLUSHALL", "FLUSHDB", "CONFIG SET", "CONFIG RESETSTAT", "ACL SETUSER", "ACL DELUSER", "SCRIPT FLUSH"}


@functools.cache
def _masters(url: str) -> list[tuple[range, str]]:
    """The slots of each master of a cluster, which stay, and its URL."""
    host, port = location_of(url).asked[0]
    with redis.Redis(host, port) as client:
        client.response_callbacks.clear()
        rows = client.execute_command("CLUSTER SLOTS")
    return [(range(first, last + 1), f"redis://{host}:{port}/0") for first, last, (_, port, *_), *_ in rows]


def master_of(url: str, tag: str = KEYS.tag) -> str:
    """Return the URL of the server that has the keys with a tag; of a single server that is its own."""
    if not url.startswith("redis+cluster:"):
        return url
    slot = slot_of(tag.strip("{}"))
    return next(master for slots, master in _masters(url) if slot in slots)


class Routed(redis.asyncio.Redis):
    """The library's client of the master that has the tested shard. What stands on another is asked there, and what is
    meant for the server as a whole, of all masters."""

    url: str
    """Of the cluster."""
    others: dict[str, Any]
    """Clients of the other masters, by their URLs."""

    @classmethod
    def of(cls, url: str, **options: Any) -> Self:
        found: Any = cls.from_url(master_of(url), **options)
        found.url = url
        found.others = {
            master: redis.asyncio.Redis.from_url(master, **options)
            for _, master in _masters(url)
            if master != master_of(url)
        }
        return cast(Self, found)

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        ask: Any = super().execute_command
        words = [one.upper() if isinstance(one, str) else "" for one in arguments[:2]]
        if words[0] in _ON_ALL or " ".join(words) in _ON_ALL:
            for other in self.others.values():
                await other.execute_command(*arguments, **options)
        if words[0] == "KEYS":
            own = await ask(*arguments, **options)
            return own + [key for other in self.others.values() for key in await other.execute_command(*arguments)]
        try:
            return await ask(*arguments, **options)
        except MovedError as moved:
            other = self.others[f"redis://{moved.host}:{moved.port}/0"]
            other.response_callbacks = self.response_callbacks
            return await other.execute_command(*arguments, **options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        for other in self.others.values():
            await other.aclose()
        await super().aclose(close_connection_pool)


def servers_of(raw: redis.asyncio.Redis) -> list[redis.asyncio.Redis]:
    """Return a client of each server that has any of the shards."""
    return [raw, *raw.others.values()] if isinstance(raw, Routed) else [raw]
