"""When tasks come due, and how late what was due has been: what pages show. Reads only."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, TEXTS, sized
from redis_scheduler.store.client import RedisClient

FAILED_MOST = 1_000
"""Where more failures are kept, those of dead letters among them, nobody counts which are of tasks in `due`."""


async def due_between(clients: Sequence[RedisClient], edges_ms: Sequence[int]) -> list[int]:
    """Return how many tasks of all shards come due between each two edges. Raises StoreUnavailable."""

    def count(client: RedisClient) -> Any:
        pairs = itertools.pairwise(edges_ms)
        return client.optionals([("ZCOUNT", client.keys.due, first, f"({last}") for first, last in pairs], NUMBER)

    counts = await asyncio.gather(*map(count, clients))
    return [sum(number or 0 for number in of_shards) for of_shards in zip(*counts, strict=True)]


async def overdue(clients: Sequence[RedisClient], now_ms: int) -> int:
    """Return how many tasks are due that no worker has promoted. Raises StoreUnavailable."""

    def count(client: RedisClient) -> Any:
        return client.optional("ZCOUNT", client.keys.due, "-inf", f"({now_ms}", read=NUMBER)

    return sum(number or 0 for number in await asyncio.gather(*map(count, clients)))


async def oldest_due(clients: Sequence[RedisClient], minutes: Sequence[int]) -> list[int]:
    """Return for how many ms the oldest task was due in each of these minutes, as far as processes looked (join.lua);
    0 where none was for a second. Raises StoreUnavailable."""

    def read(client: RedisClient) -> Any:
        return client.optional("HMGET", client.keys.oldest, *minutes, read=sized(list[bytes | None], len(minutes)))

    found = [one or [None] * len(minutes) for one in await asyncio.gather(*map(read, clients))]
    return [max(map(_ms, of_shards)) for of_shards in zip(*found, strict=True)]


async def deferred(clients: Sequence[RedisClient]) -> int | None:
    """Return how many of the tasks in `due` have failed before, in all shards; None if that takes too long to find, or
    the user in REDIS_URL may not ask. Raises StoreUnavailable."""
    found = await asyncio.gather(*map(_deferred, clients))
    return None if None in found else sum(number or 0 for number in found)


async def _deferred(client: RedisClient) -> int | None:
    if await client.command("HLEN", client.keys.failures, read=NUMBER) > FAILED_MOST:
        return None
    failed = await client.optional("HKEYS", client.keys.failures, read=TEXTS)
    if not failed:
        return None if failed is None else 0
    due = await client.optional("ZMSCORE", client.keys.due, *failed, read=sized(list[bytes | None], len(failed)))
    return None if due is None else sum(at_ms is not None for at_ms in due)


def _ms(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 16 else 0
