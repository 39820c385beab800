"""All that Redis holds, and what of it counts tasks or tells of one."""

from typing import Any

import redis.asyncio

from redis_scheduler.store import keys
from tests.scripts.states import Task, ask
from tests.support.names import KEYS


async def dump(raw: redis.asyncio.Redis) -> dict[bytes, Any]:
    """All that Redis holds, less what passes by itself (idle times, expiries): equal dumps mean nothing was changed."""
    reads: dict[bytes, tuple[str | int, ...]] = {
        b"string": ("GET",),
        b"hash": ("HGETALL",),
        b"set": ("SMEMBERS",),
        b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        b"stream": ("XRANGE", "-", "+"),
    }
    found: dict[bytes, Any] = {}
    for name in sorted(await ask(raw, "KEYS", "*")):
        command, *arguments = reads[await ask(raw, "TYPE", name)]
        answer = await ask(raw, command, name, *arguments)
        # Of hashes and sets Redis promises no order.
        found[name] = dict(zip(answer[::2], answer[1::2], strict=True)) if command == "HGETALL" else answer
        found[name] = set(answer) if command == "SMEMBERS" else found[name]
    has_queue = await ask(raw, "TYPE", KEYS.queue) == b"stream"
    if groups := has_queue and await ask(raw, "XINFO", "GROUPS", KEYS.queue):
        rows = await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 100_000)
        found[b"pending"] = [(entry_id, owner, count) for entry_id, owner, _, count in rows]
        found[b"group"] = groups
    return found


async def traces(raw: redis.asyncio.Redis, task: Task) -> list[bytes]:
    """The names of what still holds something of the task."""
    held = await dump(raw)
    # Which entry was delivered last is no trace.
    del held[b"group"]
    wanted = task.key, task.claim.id
    return [name for name, content in held.items() if any(text in repr(content) for text in wanted)]


async def counters(raw: redis.asyncio.Redis) -> dict[str, int]:
    """The counters that are not zero."""
    answer = await ask(raw, "HGETALL", KEYS.counters)
    # A list where answers are left as they come.
    counts = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return {name.decode(): int(count) for name, count in counts if int(count)}
