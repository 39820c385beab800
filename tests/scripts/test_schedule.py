"""schedule: enters tasks in DUE, or in the queue where there is no delay."""

import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters
from tests.scripts.indexes import typed_keys
from tests.scripts.states import DUE, QUEUED, ask, due_ms, new_task, record_of, state_of
from tests.support.names import KEYS
from tests.support.store import Store


async def test_a_task_is_due_at_redis_time_plus_its_delay_and_its_record_says_so(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    before_ms = redis_ms(await ask(raw, "TIME"))
    tasks = [new_task(1_000), new_task(315_360_000_000)]
    answers = await store.schedule(tasks)
    for task, due_at_ms in zip(tasks, answers, strict=True):
        assert 0 <= due_at_ms - task.ttl_ms - before_ms < 1_000
        assert await due_ms(raw, task.key) == due_at_ms
        assert await record_of(raw, task.key) == b'{"due":%d' % due_at_ms + task.tail
        assert await state_of(raw, task.key) == DUE


async def test_a_task_without_delay_goes_straight_to_the_queue(store: Store, raw: redis.asyncio.Redis) -> None:
    task = new_task(0)
    [due_at_ms] = await store.schedule([task])
    assert await state_of(raw, task.key) == QUEUED
    assert await record_of(raw, task.key) == b'{"due":%d' % due_at_ms + task.tail
    assert await ask(raw, "ZCARD", KEYS.due) == 0


async def test_the_largest_mixed_batch_is_entered_whole(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [
        new_task(number % 2 * 90_000, f"type-{number}" if number % 3 else None) for number in range(DEFAULT.batch_limit)
    ]
    await store.schedule(tasks)
    places = [(await state_of(raw, task.key)).place for task in tasks]
    assert places == ["queued", "due"] * (DEFAULT.batch_limit // 2)
    assert await counters(raw) == {"scheduled": DEFAULT.batch_limit}
    assert await typed_keys(raw) == {task.listed: {task.key} for task in tasks if task.listed}


async def test_the_writers_number_does_not_outlive_its_use_by_more_than_an_hour(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    await store.schedule([new_task()])
    assert 3_500 < await ask(raw, "TTL", KEYS.writer(store.name, "schedule")) <= 3_600
