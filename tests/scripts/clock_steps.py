"""Redis' clock was set back: to the scripts it looks the same when the greatest time seen is set ahead instead."""

import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from tests.scripts.states import (
    Task,
    ask,
    due_ms,
    reclaimed,
)
from tests.support.names import KEYS
from tests.support.store import Store

SET_BACK_MS = 20_000
RETRY_DELAY_MS = 35_000
"""With both, the idle time of a retry is below the window when it is parked, and before the clock was set back."""


async def set_back(store: Store, set_back_ms: int = SET_BACK_MS) -> int:
    """Have a sweep, and the clock set back after it; return Redis' ms."""
    await reclaimed(store)
    now_ms = redis_ms(await store.client.command("TIME"))
    await store.client.command("HSET", KEYS.sweep, "clock_ms", now_ms + set_back_ms)
    return now_ms


async def rewound(store: Store) -> tuple[int, int]:
    """Rewind to the end; return by how much, which only the first call tells, and how many were moved."""
    set_back_ms, moved = await store.rewind()
    while await ask(store.client._redis, "HEXISTS", KEYS.sweep, "step_ms"):
        again_ms, more = await store.rewind()
        assert again_ms == 0
        moved += more
    assert await store.rewind() == (0, 0)
    return set_back_ms, moved


async def at_ms(raw: redis.asyncio.Redis, in_ms: int) -> int:
    """Redis' time so many ms from now on."""
    return redis_ms(await ask(raw, "TIME")) + in_ms


async def as_due(raw: redis.asyncio.Redis, task: Task) -> None:
    """Make the record's due time that of the place."""
    record = await ask(raw, "HGET", KEYS.tasks, task.key)
    _, _, rest = record.partition(b",")
    await ask(raw, "HSET", KEYS.tasks, task.key, b'{"due":%d,' % (await due_ms(raw, task.key) or 0) + rest)
