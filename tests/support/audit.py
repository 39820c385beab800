"""The audit that every test on Redis ends with: the product's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio

from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.views import Views
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARD
from tests.support.routed import Routed


async def problems(raw: redis.asyncio.Redis) -> list[str]:
    """Return what the audit finds wrong, seen by a client of the service's own."""
    client = RedisClient(url_of(raw), 3, KEYS)
    try:
        return [finding.text async for finding in audit(client, has_all_series=True)]
    finally:
        await client.aclose()


def url_of(raw: redis.asyncio.Redis) -> str:
    """Return the URL that a client of the library leads to."""
    if isinstance(raw, Routed):
        return raw.url
    at = raw.connection_pool.connection_kwargs
    url = f"unix://{at['path']}" if "path" in at else f"redis://{at['host']}:{at['port']}"
    return f"{url}?db={at.get('db', 0)}"


async def assert_whole(client: RedisClient) -> None:
    """See that no task is lost, stands twice or is unaccounted for."""
    assert [finding.text async for finding in audit(client, has_all_series=True)] == []
    ledger = await Views(client).ledger()
    assert ledger.is_balanced, ledger


def plain(url: str) -> redis.asyncio.Redis:
    """The library's own client. It does not look up the library's version to tell it to Redis: that is 2 ms for each
    client."""
    of = Routed.of if url.startswith("redis+cluster:") else redis.asyncio.Redis.from_url
    return of(url, protocol=2, driver_info=None)


@asynccontextmanager
async def audited(url: str, empties: bool = False) -> AsyncIterator[redis.asyncio.Redis]:
    """The library's own client of a server, none of whose tasks may be lost, stand twice or be unaccounted for at the
    end.

    With `empties` nothing is there at the beginning.
    """
    raw = plain(url)
    client = _checking(url, KEYS)
    try:
        if empties:  # by the connection that is needed in any case
            for command in (("FLUSHALL",), ("CONFIG", "SET", "maxmemory", 0)):
                await (raw.execute_command if isinstance(raw, Routed) else client.command)(*command)
        yield raw
        await assert_whole(client)
        for keys in KEYS_OF_SHARDS:
            if keys.shard == SHARD or not await raw.exists(keys.tasks, keys.queue, keys.counters):
                continue  # most tests look at one shard alone
            other = _checking(url, keys)
            try:
                await assert_whole(other)
            finally:
                await other.aclose()
    finally:
        await client.aclose()
        await raw.aclose()


def _checking(url: str, keys: Keys) -> RedisClient:
    client = RedisClient(url, 3, keys)
    client.outage.must_check = False  # a test's own client looks whether Redis serves all
    return client
