"""The steps of operations on many tasks: each is taken once, and tells in the same moment how far the operation is."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store.script import Script
from redis_scheduler.store.writes import CANCEL, COUNTED, DISCARD, PAUSE, REPLAY, RESUME, RUN
from redis_scheduler.store.written import Operation, Step
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import DEAD, MAKERS, Task, ask, dead, in_delivery, in_due, missing, paused, state_of
from tests.scripts.verbs import ROWS, step_of
from tests.support.names import KEYS
from tests.support.store import Store

MADE = {CANCEL: in_due, PAUSE: in_due, RESUME: paused, RUN: paused, REPLAY: dead, DISCARD: dead}
"""A state in which each does something."""

FIRST = Operation("mark", "next", 1, 0, 7)
NAMES = [script.name for script in COUNTED]


def script_of(name: str) -> Script:
    return next(script for script in COUNTED if script.name == name)


@pytest.mark.parametrize("name", NAMES)
async def test_a_step_is_taken_once_and_in_its_turn(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    script = script_of(name)
    tasks = [await MADE[script](store) for _ in range(3)]
    gone = await missing(store)
    before = await dump(raw)
    assert await step_of(store, script, tasks[0], of=replace(FIRST, steps=2)) is None
    assert await dump(raw) == before
    first = await step_of(store, script, tasks[0], tasks[1], gone)
    assert first == replace(FIRST, touched=2) == await store.operation("id")
    before = await dump(raw)
    for of in (FIRST, replace(FIRST, steps=3)):
        assert await step_of(store, script, tasks[2], of=of) == first
    assert await dump(raw) == before
    last = Operation("mark", None, 2, 2, 9)
    assert await step_of(store, script, tasks[2], of=last) == replace(last, touched=3) == await store.operation("id")
    late = await MADE[script](store)
    before = await dump(raw)
    for of in (FIRST, last):
        assert await step_of(store, script, late, of=of) == replace(last, touched=3)
    assert await dump(raw) == before


@pytest.mark.parametrize("state", MAKERS)
@pytest.mark.parametrize("name", NAMES)
async def test_what_a_step_moves_is_counted_and_nothing_else(
    name: str, state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task: Task = await MAKERS[state][0](store)
    before = await dump(raw)
    found = await step_of(store, script_of(name), task)
    after = await dump(raw)
    for kept in (before, after):
        for key in (KEYS.operation("id"), KEYS.counters):
            kept.pop(key.encode(), None)
    assert found is not None
    # A run leaves what is queued where it is: it comes at once.
    assert found.touched == (after != before or (name, state) == ("run", "queued")), found


async def test_how_far_it_is_stays_for_a_day_and_less_where_nobody_knows_the_name(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    for is_named, least_s, most_s in ((True, 86_000, 86_400), (False, 500, 600)):
        await store.step(CANCEL, [], Step(f"{is_named}", FIRST, is_named))
        assert least_s < await ask(raw, "TTL", KEYS.operation(f"{is_named}")) <= most_s


async def test_in_a_full_redis_a_step_that_finds_nothing_goes_on(
    full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    gone, task = await missing(store), await in_delivery(store)
    async with full():
        assert await step_of(store, CANCEL, gone) == FIRST
        last = Operation("mark", None, 2, 0, 9)
        assert await step_of(store, CANCEL, task, of=last) == replace(last, touched=1)


async def test_a_replay_that_is_refused_in_a_full_redis_is_no_step(
    full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await dead(store)
    async with full():
        with pytest.raises(StoreFull):
            await step_of(store, REPLAY, task)
    assert await store.operation("id") is None
    assert await state_of(raw, task.key) == DEAD
    assert set(ROWS) == set(COUNTED)


@pytest.mark.parametrize("foreign", ["", "foreign", "1 2 3 mark"])
async def test_a_foreign_value_in_the_place_of_an_operation_is_replaced_or_told(
    foreign: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_due(store)
    await ask(raw, "SET", KEYS.operation("id"), foreign)
    found = await step_of(store, CANCEL, task)
    assert found == (None if foreign.startswith("1 ") else replace(FIRST, touched=1))
