"""A due time that is given as a time, and not as a delay: wherever a task gets one."""

from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.task.due import delay_until, due_after
from redis_scheduler.task.timing import LAST_MS
from tests.scripts.states import ask, change, dead, failed, in_delivery, in_due, new_task, record_of, state_of
from tests.support.store import Store


async def _schedule(store: Store, delay_ms: int) -> tuple[str, int]:
    new = new_task(delay_ms)
    [due_ms] = await store.schedule([new])
    return new.key, due_ms


async def _update(store: Store, delay_ms: int) -> tuple[str, int]:
    task = await in_due(store)
    now_ms, _ = await store.update([await change(store, task, delay_ms)])
    return task.key, due_after(now_ms, delay_ms)


async def _replay(store: Store, delay_ms: int) -> tuple[str, int]:
    task = await dead(store)
    now_ms, _ = await store.replay([await change(store, task, delay_ms)])
    return task.key, due_after(now_ms, delay_ms)


async def _follow_settle(store: Store, delay_ms: int) -> tuple[str, None]:
    task, new = await in_delivery(store), new_task(delay_ms)
    await store.settle([task.claim], {0: new})
    return new.key, None


async def _follow_bury(store: Store, delay_ms: int) -> tuple[str, None]:
    task, new = await in_delivery(store), new_task(delay_ms)
    await store.bury(failed(task), {0: new})
    return new.key, None


Giver = Callable[[Store, int], Awaitable[tuple[str, int | None]]]
givers = pytest.mark.parametrize("give", [_schedule, _update, _replay, _follow_settle, _follow_bury])


@givers
@pytest.mark.parametrize("ahead_ms", [1, 600_000, None, -1, -1_000_000_000_000])
async def test_a_task_is_due_at_its_time_or_now(
    give: Giver, ahead_ms: int | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    before_ms = redis_ms(await ask(raw, "TIME"))
    at_ms = LAST_MS if ahead_ms is None else before_ms + ahead_ms
    key, answered_ms = await give(store, delay_until(at_ms))
    after_ms = redis_ms(await ask(raw, "TIME")) + 1
    kept_ms = int((await record_of(raw, key))[len(b'{"due":') :].partition(b",")[0])
    assert kept_ms == at_ms or (at_ms <= kept_ms and before_ms <= kept_ms <= after_ms)
    assert answered_ms in (None, kept_ms)
    assert (await state_of(raw, key)).place in ("due", "queued")
    score = await ask(raw, "ZSCORE", store.client.keys.due, key)
    assert score is None or int(score) == kept_ms
