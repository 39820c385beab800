"""A full Redis: what enters is refused and leaves nothing; what drains goes on."""

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import MISSING, change, in_delivery, in_due, missing, new_task, queued, state_of
from tests.scripts.verbs import VERBS
from tests.support.store import Store, letters

REFUSED = [
    "schedule",
    "schedule once",
    "update",
    "replay",
    "step of a replay",
    "restore",
    "rekey",
    "tally",
    "token write",
    "token take",
    "limit",
    *(name for name in VERBS if name.startswith(("put", "shift"))),
]


@pytest.mark.parametrize("name", REFUSED)
async def test_what_enters_is_refused_and_writes_nothing(
    name: str, full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    before = await dump(raw)
    async with full():
        with pytest.raises(StoreFull):
            await verb.call(store, task)
        assert await dump(raw) == before
    await verb.call(store, task)
    assert await state_of(raw, task.key) == verb.after


@pytest.mark.parametrize(
    "name",
    [name for name in VERBS if name not in REFUSED],
)
async def test_what_drains_goes_on(name: str, full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    async with full():
        await verb.call(store, task)
        assert await state_of(raw, task.key) == verb.after


async def test_a_task_of_a_type_is_refused_whole(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    before = await dump(raw)
    async with full():
        with pytest.raises(StoreFull):
            await store.schedule([new_task(0, "mail"), new_task(1_000, "mail"), new_task()])
        assert await dump(raw) == before


async def test_an_update_with_a_delay_is_refused_whole(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    update = await change(store, task, 1_000)
    before = await dump(raw)
    async with full():
        with pytest.raises(StoreFull):
            await store.update([update])
        assert await dump(raw) == before


async def test_a_cancel_goes_on_wherever_the_task_stands(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await make(store) for make in (in_delivery, in_due, missing, queued)]
    async with full():
        assert letters(await store.cancel([(task.key, None) for task in tasks])) == "DCNC"
        assert [await state_of(raw, task.key) for task in tasks] == [MISSING] * 4
