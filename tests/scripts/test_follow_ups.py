"""Follow-ups: tasks that the end of another starts, in the call that writes this end, and only where it takes
effect."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store import keys
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.filters import Filters
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.views import Views
from tests.scripts.conftest import Full
from tests.scripts.contents import counters, dump
from tests.scripts.states import (
    DEAD,
    DUE,
    MISSING,
    State,
    Task,
    ask,
    due_ms,
    failed,
    in_delivery,
    in_due,
    new_task,
    record_of,
    state_of,
)
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

End = Callable[[Store, Sequence[Task], Mapping[int, NewTask]], Awaitable[Sequence[int]]]

ENDS: dict[str, tuple[End, State, dict[str, int]]] = {
    "settle": (
        lambda store, tasks, follow_ups: store.settle([task.claim for task in tasks], follow_ups),
        MISSING,
        {"delivered": 1},
    ),
    "bury": (lambda store, tasks, follow_ups: store.bury(failed(*tasks), follow_ups), DEAD, {"failed": 1, "died": 1}),
    "expire": (
        lambda store, tasks, follow_ups: store.expire(failed(*tasks), follow_ups),
        MISSING,
        {"failed": 1, "expired": 1},
    ),
}
"""How a task ends, where it stands then, and what that counts."""

FOLLOW_UPS: dict[str, tuple[int, str | None]] = {
    "at once": (0, None),
    "later": (60_000, None),
    "of a type": (60_000, "mail"),
}

ends = pytest.mark.parametrize("end", ENDS)
follow_ups = pytest.mark.parametrize("kind", FOLLOW_UPS)


async def clock_ms(raw: redis.asyncio.Redis) -> int:
    seconds, microseconds = await ask(raw, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


@ends
@follow_ups
@pytest.mark.parametrize("times", [1, 2])
async def test_a_follow_up_is_entered_once_with_the_end_that_it_follows(
    end: str, kind: str, times: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    call, place, counted = ENDS[end]
    ttl_ms, type_name = FOLLOW_UPS[kind]
    task, follow_up = await in_delivery(store, "bill"), new_task(ttl_ms, type_name)
    before_ms = await clock_ms(raw)
    for answer in (1, 0)[:times]:
        assert await call(store, [task], {0: follow_up}) == [answer]
    after_ms = await clock_ms(raw)
    assert await state_of(raw, task.key) == place
    assert await state_of(raw, follow_up.key) == DUE
    score = await due_ms(raw, follow_up.key)
    assert score is not None
    assert before_ms + ttl_ms <= score <= after_ms + 1 + ttl_ms
    assert await record_of(raw, follow_up.key) == b'{"due":%d' % score + follow_up.tail
    assert await counters(raw) == {"scheduled": 2} | counted
    listed = (await Views(store.client).page(10, None, Filters(type_name or "default"))).tasks
    assert [found.key for found in listed] == [follow_up.key]
    assert await ask(raw, "SMEMBERS", KEYS.types) == ([type_name.encode()] if type_name else [])


@ends
@pytest.mark.parametrize("left", ["cancelled", "updated in delivery", "due"])
async def test_nothing_follows_an_end_that_is_fenced(
    end: str, left: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_due(store) if left == "due" else await in_delivery(store)
    if left == "cancelled":
        await store.cancel([(task.key, None)])
    elif left == "updated in delivery":
        task.claim.id = "1-1"
    before = await dump(raw)
    assert await ENDS[end][0](store, [task], {0: new_task()}) == [0]
    assert await dump(raw) == before


@ends
async def test_each_follows_its_own_task_and_types_are_numbered_over_all(
    end: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    call, place, _ = ENDS[end]
    types = (None, "mail", "bill", "mail")
    tasks = [await in_delivery(store, type_name) for type_name in types]
    await store.cancel([(tasks[1].key, "mail")])
    followed = {0: new_task(0, "sms"), 1: new_task(0, "lost"), 3: new_task(1_000, "bill")}
    assert await call(store, tasks, followed) == [1, 0, 1, 1]
    assert [await state_of(raw, task.key) for task in tasks] == [place, MISSING, place, place]
    assert [await state_of(raw, followed[index].key) for index in (0, 1, 3)] == [DUE, MISSING, DUE]
    assert {name.decode() for name in await ask(raw, "SMEMBERS", KEYS.types)} == {"sms", "bill"}
    assert await ask(raw, "ZRANGE", KEYS.type_index("bill"), 0, -1) == [followed[3].key.encode()]
    assert (await counters(raw))["scheduled"] == 6


@ends
async def test_what_stands_twice_in_a_call_is_followed_once(end: str, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    first, second = new_task(), new_task()
    await ENDS[end][0](store, [task, task], {0: first, 1: second})
    assert [await state_of(raw, follow_up.key) for follow_up in (first, second)] == [DUE, MISSING]


@ends
@follow_ups
async def test_a_full_redis_refuses_no_follow_up(
    end: str, kind: str, full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    call, place, _ = ENDS[end]
    task, follow_up = await in_delivery(store), new_task(*FOLLOW_UPS[kind])
    async with full():
        assert await call(store, [task], {0: follow_up}) == [1]
        assert await state_of(raw, task.key) == place
        assert await state_of(raw, follow_up.key) == DUE


@ends
async def test_a_success_is_followed_also_after_the_group_was_destroyed(
    end: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    """Its entry is the task's still; a failure counts no more, since nobody holds it."""
    task, follow_up = await in_delivery(store), new_task()
    await ask(raw, "XGROUP", "DESTROY", KEYS.queue, keys.GROUP)
    took_effect = end == "settle"
    assert await ENDS[end][0](store, [task], {0: follow_up}) == [took_effect]
    assert await state_of(raw, follow_up.key) == (DUE if took_effect else MISSING)
    await store.pending(1)  # makes the group, where nothing has needed it


@ends
@pytest.mark.parametrize("name", ["due", "tasks"])
async def test_a_foreign_key_in_their_places_is_refused_before_anything_is_written(
    end: str, name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task, place, kept = await in_delivery(store), getattr(KEYS, name), f"{KEYS.tag}:kept"
    if await ask(raw, "EXISTS", place):
        await ask(raw, "RENAME", place, kept)
    await ask(raw, "SET", place, "foreign")
    before = await dump(raw)
    with pytest.raises(StoreRefused):
        await ENDS[end][0](store, [task], {0: new_task()})
    assert await dump(raw) == before
    await ask(raw, "DEL", place)
    if await ask(raw, "EXISTS", kept):
        await ask(raw, "RENAME", kept, place)


@ends
async def test_the_bell_rings_for_the_next_to_be_due(end: str, client: RedisClient, store: Store) -> None:
    """Once when listening begins, once for what is due before all others, and not for what is due after them."""
    rings = 0

    def on_ring() -> None:
        nonlocal rings
        rings += 1

    listening = asyncio.create_task(Bell(client).listen(on_ring))
    await wait_until(lambda: rings == 1, "it listens")
    for ttl_ms in (60_000, 120_000, 30_000):
        await ENDS[end][0](store, [await in_delivery(store)], {0: new_task(ttl_ms)})
    await wait_until(lambda: rings == 3, "it has rung")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
