"""The audit that every test on Redis ends with: each task stands in one place, and the ledger balances."""

from collections.abc import Iterable
from typing import Any

import redis.asyncio

from redis_scheduler import keys
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.views import Views


async def problems(raw: redis.asyncio.Redis) -> list[str]:
    """Return what is wrong with the keys of the service; a task in no place, or in two, and leftovers of gone tasks."""
    tasks: set[bytes] = set(await _ask(raw, "HKEYS", keys.TASKS))
    entries: dict[bytes, bytes] = await _ask(raw, "HGETALL", keys.ENTRIES)
    due: list[bytes] = await _ask(raw, "ZRANGE", keys.DUE, 0, -1)
    dead: list[bytes] = await _ask(raw, "ZRANGE", keys.DEAD, 0, -1)
    places: dict[str, Iterable[bytes]] = {"due": due, "entries": entries, "dead": dead}
    found: list[str] = []
    counted: dict[bytes, list[str]] = {}
    for place, members in places.items():
        for key in members:
            counted.setdefault(key, []).append(place)
    found += [f"{key!r} stands in {counted.get(key, 'no place')}" for key in tasks if len(counted.get(key, [])) != 1]
    found += [f"{key!r} stands in {at} but has no record" for key, at in counted.items() if key not in tasks]
    found += [f"failure of unknown {key!r}" for key in await _ask(raw, "HKEYS", keys.FAILURES) if key not in tasks]
    queue: dict[bytes, dict[bytes, bytes]] = dict(await _ask(raw, "XRANGE", keys.QUEUE, "-", "+"))
    found += [f"{key!r} has no entry {at!r}" for key, at in entries.items() if queue.get(at) != {b"key": key}]
    found += [f"entry {at!r} is no task's" for at, fields in queue.items() if entries.get(fields[b"key"]) != at]
    found += [f"pending {at!r} has no entry" for at in await _pending(raw) if at not in queue]
    running = {*due, *entries}
    for name in await _ask(raw, "SMEMBERS", keys.TYPES):
        index: list[bytes] = await _ask(raw, "ZRANGE", keys.type_index(name.decode()), 0, -1)
        found += [f"type {name!r} is empty"] * (not index)
        found += [f"type {name!r} names {key!r}" for key in index if key not in running]
    return found


async def _ask(raw: redis.asyncio.Redis, *arguments: str | int) -> Any:
    return await raw.execute_command(*arguments)


async def _pending(raw: redis.asyncio.Redis) -> list[bytes]:
    if not await raw.exists(keys.QUEUE) or not await raw.xinfo_groups(keys.QUEUE):
        return []
    rows: list[dict[str, Any]] = await raw.xpending_range(keys.QUEUE, keys.GROUP, "-", "+", 100_000)
    return [row["message_id"] for row in rows]


async def assert_balanced(raw: redis.asyncio.Redis, client: RedisClient) -> None:
    """Fail if a task is lost, stands in two places, or is not accounted for."""
    assert await problems(raw) == []
    ledger = await Views(client).ledger()
    assert ledger.is_balanced, ledger
