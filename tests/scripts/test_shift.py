"""The shift: each step of an operation moves what waits for its first attempt, once, and tells how far it is."""

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.filters import ANY
from redis_scheduler.store.views import CHUNK_LIMIT, Reading, Views
from redis_scheduler.store.written import Operation, ShiftStep
from redis_scheduler.task.label import index_of
from redis_scheduler.task.record import decode_record
from redis_scheduler.task.timing import LAST_MS
from tests.scripts import states
from tests.scripts.contents import dump
from tests.scripts.states import MAKERS, TTL_MS, Task, ask, due_ms, in_due, paused, record_of, state_of
from tests.scripts.test_bell import heard
from tests.support.names import KEYS, VAULT
from tests.support.store import Store

MOVED = ("due", "paused")
BY_MS = 5_000


def step(number: int = 1, by_ms: int = BY_MS, cursor: str | None = "next", mark: str = "mark") -> ShiftStep:
    return ShiftStep(number, 7, mark, cursor, by_ms)


async def shifted(store: Store, *tasks: Task, of: ShiftStep | None = None, name: str = "id") -> Operation | None:
    stored = [await Views(store.client).task(task.key) for task in tasks]
    return await store.shift(name, of or step(), [one for one in stored if one is not None])


async def now_ms(store: Store) -> int:
    return redis_ms(await store.client.command("TIME"))


@pytest.mark.parametrize("state", MAKERS)
async def test_only_what_waits_for_its_first_attempt_is_moved(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    make, standing = MAKERS[state]
    task = await make(store)
    before = await dump(raw)
    done = await shifted(store, task)
    is_moved = state in MOVED
    assert done == Operation("mark", "next", 1, int(is_moved), 7)
    assert await state_of(raw, task.key) == standing
    after = await dump(raw)
    del after[KEYS.operation("id").encode()]
    assert (after != before) is is_moved
    if not is_moved:
        return
    place = KEYS.due if state == "due" else KEYS.paused
    old = decode_record(VAULT.opened(task.key, before[KEYS.tasks.encode()][task.key.encode()]))
    new = decode_record(await record_of(raw, task.key))
    assert new.due == old.due + BY_MS == int(await ask(raw, "ZSCORE", place, task.key))
    assert (new.webhook, new.ttl, new.data) == (old.webhook, old.ttl, old.data)


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_a_guarded_shift_leaves_what_has_another_record(
    is_guarded: bool, store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await in_due(store), await in_due(store)]
    stored = [one for task in tasks if (one := await Views(store.client).task(task.key)) is not None]
    stored[0].raw += b" "
    done = await store.shift("id", step(), stored, is_guarded=is_guarded)
    assert done == Operation("mark", "next", 1, 1 if is_guarded else 2, 7)


async def test_its_indexes_move_with_a_task(store: Store, raw: redis.asyncio.Redis) -> None:
    names = ("mail", index_of("order=17"))
    task = await in_due(store, names)
    await shifted(store, task)
    for name in names:
        assert int(await ask(raw, "ZSCORE", KEYS.type_index(name), task.key)) == await due_ms(raw, task.key)


async def test_a_step_is_made_once_and_in_its_turn(store: Store, raw: redis.asyncio.Redis) -> None:
    task, other = await in_due(store), await in_due(store)
    first = await shifted(store, task)
    before = await dump(raw)
    assert await shifted(store, task) == first
    assert await shifted(store, task, other, of=step(3)) == first
    assert await dump(raw) == before
    assert await shifted(store, other, of=step(2, cursor=None)) == Operation("mark", None, 2, 2, 14)
    assert await shifted(store, task, other, of=step(2)) == Operation("mark", None, 2, 2, 14)
    assert await store.operation("id") == Operation("mark", None, 2, 2, 14)
    assert 86_000 < await ask(raw, "TTL", KEYS.operation("id")) <= 86_400


async def test_what_is_kept_of_an_operation_may_be_gone_or_foreign(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    assert await store.operation("id") is None
    before = await dump(raw)
    assert await shifted(store, task, of=step(2)) is None
    assert await dump(raw) == before
    for foreign in ("", "foreign", "1 2 3 mark", "1 2 3 mark a b"):
        await ask(raw, "SET", KEYS.operation("id"), foreign)
        assert await store.operation("id") is None
    await ask(raw, "SET", KEYS.operation("id"), "foreign")
    assert await shifted(store, task) == Operation("mark", "next", 1, 1, 7)


async def test_backwards_nothing_comes_before_now_but_what_was_due_before(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    late, soon = await in_due(store), await states.scheduled(store, TTL_MS // 2)
    before = await now_ms(store)
    due_before = await due_ms(raw, late.key)
    assert due_before is not None
    await shifted(store, late, soon, of=step(by_ms=-TTL_MS // 2 - 1_000))
    assert await due_ms(raw, late.key) == due_before - TTL_MS // 2 - 1_000
    moved = await due_ms(raw, soon.key)
    assert moved is not None
    assert before <= moved <= await now_ms(store) + 1
    overdue = await states.overdue(store)
    due_before = await due_ms(raw, overdue.key)
    done = await shifted(store, overdue, of=step(by_ms=-1_000), name="other")
    assert done == Operation("mark", "next", 1, 0, 7)
    assert await due_ms(raw, overdue.key) == due_before


async def test_what_is_overdue_but_not_promoted_yet_can_be_put_off(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.overdue(store)
    await shifted(store, task, of=step(by_ms=TTL_MS))
    moved = await due_ms(raw, task.key)
    assert moved is not None
    assert moved > await now_ms(store) + TTL_MS // 2


async def test_no_task_is_moved_beyond_the_last_time(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    done = await shifted(store, task, of=step(by_ms=LAST_MS))
    assert done == Operation("mark", "next", 1, 0, 7)


async def test_what_was_told_to_run_keeps_that_time(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    await store.run([task.key])
    before = await due_ms(raw, task.key)
    assert await shifted(store, task) == Operation("mark", "next", 1, 0, 7)
    assert await due_ms(raw, task.key) == before


async def test_the_timers_hear_of_what_comes_first_now(store: Store, raw: redis.asyncio.Redis) -> None:
    first, other = await in_due(store), await states.scheduled(store, 2 * TTL_MS)
    async with heard(raw) as rings:
        await shifted(store, await paused(store), of=step(by_ms=-TTL_MS))
        await shifted(store, other, of=step(by_ms=-1_000), name="other")
    assert rings == []
    async with heard(raw) as rings:
        await shifted(store, first, of=step(by_ms=-1_000), name="third")
    assert rings == [b""]


@pytest.mark.parametrize("by_ms", [BY_MS, -BY_MS, 1, 1_000 * TTL_MS])
async def test_what_is_paused_or_resumed_meanwhile_is_moved_once(
    by_ms: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await states.scheduled(store, TTL_MS + 37 * (number % 50)) for number in range(3 * CHUNK_LIMIT)]
    keys = [task.key for task in tasks]
    await store.pause(keys[::2][:CHUNK_LIMIT])
    before = {key: decode_record(await record_of(raw, key)).due for key in keys}
    views, cursor, touched = Views(store.client), None, 0
    for number in range(1, 100):
        page = await views.planned(40, cursor, ANY, by_ms > 0, Reading(9, 2**30))
        done = await store.shift("id", ShiftStep(number, page.looked_at, "mark", page.next, by_ms), page.tasks)
        assert done is not None
        met = [task.key for task in page.tasks]
        await store.pause(met[::3])
        await store.resume(met[1::3])
        touched, cursor = done.touched, page.next
        if cursor is None:
            break
    assert touched == len(tasks)
    assert {key: decode_record(await record_of(raw, key)).due - before[key] for key in keys} == dict.fromkeys(
        keys, by_ms
    )
