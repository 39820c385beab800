"""What stands in Redis but for what an API writes of itself, whatever it is asked (join.lua)."""

from typing import Any

import redis.asyncio

from tests.support.names import KEYS

_SAID = (KEYS.token_mark, KEYS.instance, KEYS.listeners, KEYS.processes, KEYS.series_listed, KEYS.shards)
_OF_PROCESSES = {name.partition("}:")[2].encode() for name in _SAID}
"""In each shard an API writes them when it meets Redis, at its start or after a flush, and every few seconds."""

_COUNTERS = KEYS.counters.partition("}:")[2].encode()
_OF_A_FLUSH = b"emptied_ms"
"""The field of the counters in which a process notes when it saw a flush, as there is one before each test."""


async def written(raw: redis.asyncio.Redis) -> dict[bytes, Any]:
    """All other keys with their values."""
    found = dict[bytes, Any]()
    for name in sorted(await raw.execute_command("KEYS", "*")):
        kind = name.partition(b"}:")[2]
        if kind in _OF_PROCESSES:
            continue
        if kind != _COUNTERS:
            found[name] = await raw.dump(name)
        elif counted := {field: count for field, count in (await raw.hgetall(name)).items() if field != _OF_A_FLUSH}:
            found[name] = counted
    return found
