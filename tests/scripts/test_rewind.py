"""The rewind after Redis' clock was set back, in parts: each deferred task is moved once, and the timer is told."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import (
    ask,
    deferred,
    due_ms,
    failed,
    in_delivery,
    in_due,
)
from tests.scripts.test_bell import heard
from tests.scripts.test_clock_set import as_due, at_ms, rewound, set_back
from tests.support.names import KEYS
from tests.support.store import Store


@pytest.mark.parametrize("set_back_ms", [8_000, 20_000])
@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_each_is_moved_once_however_the_rewind_is_parted(
    limit: int, set_back_ms: int, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """Whether what is moved stays behind the time from which the rewind looks, or not."""
    store = Store(client, "worker-a", replace(DEFAULT, batch_limit=limit))
    tasks = [await in_delivery(store) for _ in range(7)]
    at_21_s_ms = await at_ms(raw, 21_000) // 3 * 3
    for number, task in enumerate(tasks):
        # Two of them at the same time.
        await store.defer(failed(task, delay_ms=21_000 + 6_000 * (number // 2)))
        await ask(raw, "ZADD", KEYS.due, at_21_s_ms + 6_000 * (number // 2), task.key)
    kept = [await in_due(store) for _ in range(3)]
    for number, task in enumerate(kept):
        await ask(raw, "ZADD", KEYS.due, await at_ms(raw, 24_000 + 9_000 * number), task.key)
        await as_due(raw, task)
    before = [await due_ms(raw, task.key) for task in (*tasks, *kept)]
    await set_back(store, set_back_ms)
    await store.look(10)
    by_ms, moved = await rewound(store)
    assert moved == 7
    after = [await due_ms(raw, task.key) for task in (*tasks, *kept)]
    moves = [was - now for was, now in zip(before, after, strict=True) if was and now]
    assert {by_ms - move for move in moves[:7]} <= set(range(3))
    assert moves[7:] == [0] * 3


async def test_a_rewind_reads_about_as_many_bytes_as_it_may(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store = Store(client, "worker-a", replace(DEFAULT, load_bytes=1))
    for _ in range(3):
        await deferred(store)
    await set_back(store)
    await store.look(10)
    assert [(await store.rewind())[1] for _ in range(5)] == [0, 1, 1, 1, 0]


async def test_the_bell_is_rung_when_what_was_moved_is_next(store: Store, raw: redis.asyncio.Redis) -> None:
    await in_due(store)
    await deferred(store)
    await set_back(store)
    await store.look(10)
    async with heard(raw) as rings:
        assert (await rewound(store))[1] == 1
    assert len(rings) == 1
