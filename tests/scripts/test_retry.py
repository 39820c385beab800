"""retry: parks entries until their retry; only so many may wait, and the sweep is told to come."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters
from tests.scripts.states import IN_DELIVERY, WAITING, ask, failed, in_delivery, state_of, waits_ms
from tests.support.names import KEYS
from tests.support.store import Store


async def test_when_enough_wait_a_retry_does_nothing_and_asks_to_be_deferred(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = Store(client, "worker-a", replace(DEFAULT, waiting_most=3))
    tasks = [await in_delivery(store) for _ in range(5)]
    assert await store.retry(failed(tasks[0])) == [1]
    assert await store.retry(failed(*tasks)) == [0, 1, 1, 2, 2]
    assert [await state_of(raw, task.key) for task in tasks] == [WAITING] * 3 + [IN_DELIVERY] * 2
    assert await counters(raw) == {"scheduled": 5, "failed": 3}
    assert await store.retry(failed(tasks[4])) == [2]
    assert await store.defer(failed(*tasks[3:])) == [1, 1]


async def test_a_cancelled_retry_makes_room_for_another(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store = Store(client, "worker-a", replace(DEFAULT, waiting_most=1))
    first, second = await in_delivery(store), await in_delivery(store)
    assert await store.retry(failed(first, second)) == [1, 2]
    await store.cancel([(first.key, None)])
    assert await store.retry(failed(second)) == [1]


@pytest.mark.parametrize("delay_ms", [0, 1, 20_000, DEFAULT.window_ms])
async def test_each_retry_of_a_batch_waits_its_own_delay(delay_ms: int, store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await in_delivery(store) for _ in range(2)]
    await store.retry(failed(tasks[0], delay_ms=delay_ms) + failed(tasks[1], delay_ms=5_000))
    assert delay_ms - 1_000 < await waits_ms(raw, tasks[0].claim) <= delay_ms
    assert 4_000 < await waits_ms(raw, tasks[1].claim) <= 5_000


async def test_a_retry_brings_the_next_sweep_forward_but_never_puts_it_off(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    async def next_sweep_after_a_retry(planned_ms: int) -> int:
        await ask(raw, "HSET", KEYS.sweep, "next_ms", planned_ms)
        await store.retry(failed(await in_delivery(store)))
        return int(await ask(raw, "HGET", KEYS.sweep, "next_ms"))

    now_ms = redis_ms(await ask(raw, "TIME"))
    assert await next_sweep_after_a_retry(now_ms - 5) == now_ms - 5
    assert 0 <= await next_sweep_after_a_retry(now_ms + 900_000) - now_ms - DEFAULT.sweep_waiting_interval_ms < 900
