"""look: how far apart looks at a shard are, and sweeps, whether a worker serves one shard or many."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.scripts.states import (
    ask,
    awaiting,
    in_delivery,
    in_due,
    plan_sweep,
    set_idle,
    taken_on,
    waiting,
)
from tests.support.names import KEYS
from tests.support.store import Store

MANY = DEFAULT.over(SHARDS_MOST)


async def test_over_many_shards_looks_are_far_apart_while_nothing_is_pending_or_awaits(client: RedisClient) -> None:
    store = Store(client, "worker-a", MANY)
    await in_due(store)
    assert (await store.look(10)).wait_s == MANY.look_interval_ms / 1000
    # Another that looks meanwhile waits as long.
    assert (await Store(client, "worker-b", MANY).look(10)).wait_s - DEFAULT.sweep_hold_ms / 1000 > 0
    await in_delivery(store)
    await plan_sweep(store)
    assert (await store.look(10)).wait_s == DEFAULT.sweep_idle_interval_ms / 1000


async def test_who_serves_one_shard_draws_nobody_who_serves_many_to_its_pace(client: RedisClient) -> None:
    often, seldom = Store(client, "worker-a"), Store(client, "worker-b", MANY)
    assert (await often.look(10)).wait_s == DEFAULT.sweep_idle_interval_ms / 1000
    assert (await seldom.look(10)).wait_s == MANY.look_interval_ms / 1000
    await awaiting(often)
    await often.look(10)
    assert (await seldom.look(10)).wait_s <= DEFAULT.sweep_idle_interval_ms / 1000
    await in_delivery(often)
    assert (await seldom.look(10)).wait_s <= DEFAULT.sweep_idle_interval_ms / 1000


async def test_over_many_shards_what_awaits_is_looked_at_every_second(client: RedisClient) -> None:
    store = Store(client, "worker-a", MANY)
    await awaiting(store)
    assert (await store.look(10)).wait_s == DEFAULT.sweep_idle_interval_ms / 1000


async def test_over_many_shards_a_look_apart_is_no_gap(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store, other = Store(client, "worker-a", MANY), Store(client, "worker-b", MANY)
    lost, late = await in_delivery(store), await waiting(store, delay_ms=0)
    await set_idle(raw, DEFAULT.window_ms, lost.claim)
    now_ms = redis_ms(await ask(raw, "TIME"))
    await raw.hset(KEYS.sweep, mapping={"seen_ms": now_ms - MANY.look_interval_ms - 1_000, "next_ms": now_ms})
    assert {entry.key for entry in (await other.look(10)).entries} == {lost.key, late.key}
    await set_idle(raw, DEFAULT.window_ms, lost.claim)
    await raw.hdel(KEYS.sweep, "look_by_ms")  # as an older version leaves it
    await raw.hset(KEYS.sweep, mapping={"seen_ms": now_ms - MANY.sweep_gap_ms - 1_000, "next_ms": now_ms})
    assert (await other.look(10)).wait_s == DEFAULT.sweep_hold_ms / 1000


async def test_workers_that_look_unlike_often_take_the_same_for_a_gap(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """Whoever serves one shard of many looks each second, and takes no interval of the others for an outage."""
    store, other = Store(client, "worker-a", MANY), Store(client, "worker-b")
    lost = await in_delivery(Store(client, "worker-c"))

    async def look_after(ms: int, looks: Store) -> tuple[list[str], float]:
        """What is brought by a look so long after the last."""
        for field in ("seen_ms", "look_by_ms"):
            await raw.hincrby(KEYS.sweep, field, -ms)
        await raw.hset(KEYS.sweep, "clock_ms", 0)
        await plan_sweep(store)
        await set_idle(raw, DEFAULT.window_ms, lost.claim, owner="worker-c")
        sweep = await looks.look(10)
        return [entry.key for entry in sweep.entries], sweep.wait_s

    held = list[str](), DEFAULT.sweep_hold_ms / 1000
    for looks in (store, other):
        await raw.delete(KEYS.sweep)
        await store.look(0)
        # One that looks more often does not take the promise back.
        await other.look(0)
        assert (await look_after(MANY.look_interval_ms, looks))[0] == [lost.key]
        await raw.delete(KEYS.sweep)
        await store.look(0)
        assert await look_after(MANY.sweep_gap_ms + 1_000, looks) == held
        assert await look_after(2 * MANY.sweep_gap_ms, looks) == held


async def test_a_promise_by_a_clock_that_was_set_back_is_forgotten(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = Store(client, "worker-a", MANY)
    await store.look(0)
    ahead = {field: int(await raw.hget(KEYS.sweep, field) or 0) + 20_000 for field in ("clock_ms", "look_by_ms")}
    for field, value in ahead.items():
        await raw.hset(KEYS.sweep, field, str(value))
    await store.look(0)
    assert int(await raw.hget(KEYS.sweep, "look_by_ms") or 0) < ahead["look_by_ms"] - 10_000
    while (await store.rewind())[1]:
        pass


async def test_over_one_or_two_shards_the_sweep_keeps_no_promise(store: Store, raw: redis.asyncio.Redis) -> None:
    for limit in (0, 10):
        await plan_sweep(store)
        await store.look(limit)
    assert await raw.hkeys(KEYS.sweep) != []
    assert b"look_by_ms" not in await raw.hkeys(KEYS.sweep)


@pytest.mark.parametrize("timing", [DEFAULT, MANY])
async def test_what_awaits_has_a_look_at_its_time(
    timing: Timing, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = Store(client, "worker-a", timing)
    for within_ms in (600_000, 500):
        task = await in_delivery(store)
        await store.look(10)  # it plans the next one without what comes now
        await store.expect([taken_on(task, within_ms)])
        first_ms = int(await raw.zscore(KEYS.awaiting, task.key) or 0)
        planned_ms = int(await raw.hget(KEYS.sweep, "next_ms") or 0)
        assert (planned_ms == first_ms) == (within_ms == 500)
    await plan_sweep(store)
    assert (await store.look(10)).wait_s <= 0.51
    await raw.zadd(KEYS.awaiting, {task.key: redis_ms(await ask(raw, "TIME")) + 300})
    await plan_sweep(store)
    seldom = Store(client, "worker-b", replace(timing, sweep_step_interval_ms=400))
    assert (await seldom.look(10)).wait_s == 0.4, "steps are apart, however many acknowledgements are late"
