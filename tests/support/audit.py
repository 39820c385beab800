"""The audit that every test on Redis ends with: the product's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio

from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.views import Views
from tests.support.names import KEYS


async def problems(raw: redis.asyncio.Redis) -> list[str]:
    """Return what the audit finds wrong, seen by a client of the service's own."""
    at = raw.connection_pool.connection_kwargs
    url = f"unix://{at['path']}" if "path" in at else f"redis://{at['host']}:{at['port']}"
    client = RedisClient(f"{url}?db={at.get('db', 0)}", 3, KEYS)
    try:
        return [finding.text async for finding in audit(client)]
    finally:
        await client.aclose()


async def assert_whole(client: RedisClient) -> None:
    """See that no task is lost, stands twice or is unaccounted for."""
    assert [finding.text async for finding in audit(client)] == []
    ledger = await Views(client).ledger()
    assert ledger.is_balanced, ledger


def plain(url: str) -> redis.asyncio.Redis:
    """The library's own client. It does not look up the library's version to tell it to Redis: that is 2 ms for each
    client."""
    return redis.asyncio.Redis.from_url(url, protocol=2, driver_info=None)


@asynccontextmanager
async def audited(url: str, empties: bool = False) -> AsyncIterator[redis.asyncio.Redis]:
    """The library's own client of a server, none of whose tasks may be lost, stand twice or be unaccounted for at the
    end.

    With `empties` nothing is there at the beginning.
    """
    raw = plain(url)
    client = RedisClient(url, 3, KEYS)
    client.outage.must_check = False  # a test's own client looks whether Redis serves all
    try:
        if empties:  # by the connection that is needed in any case
            await client.command("FLUSHALL")
            await client.command("CONFIG", "SET", "maxmemory", 0)
        yield raw
        await assert_whole(client)
    finally:
        await client.aclose()
        await raw.aclose()
