"""restore: puts tasks of an export back, and leaves those alone that are there."""

import pytest
import redis.asyncio

from redis_scheduler.task.options import Options
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import (
    DEAD,
    DEFERRED,
    DUE,
    FAILURE,
    MAKERS,
    PAUSED,
    Task,
    ask,
    claimed,
    due_ms,
    failed,
    failure_of,
    kept,
    missing,
    record_of,
    state_of,
    tail,
)
from tests.support.names import KEYS
from tests.support.store import Store, letters


@pytest.mark.parametrize("state", [name for name in MAKERS if name != "missing"])
async def test_a_task_that_is_there_stays_as_it_is(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await MAKERS[state][0](store)
    before = await dump(raw)
    assert letters(await store.restore([kept(task)])) == "E"
    after = await dump(raw)
    del after[KEYS.writer(store.name, "restore").encode()]
    # The counters are there from the first count on.
    assert {name: after[name] for name in before} == before


async def test_a_task_comes_back_with_its_times_its_type_and_its_failures(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    plain, failed = await missing(store, "mail"), await missing(store)
    first, second = kept(plain), kept(failed, failure=b"1 " + FAILURE)
    second.due_ms -= 1_000_000
    second.at_ms -= second.at_ms % 3  # what is deferred stands at such ms until the clock is set back
    assert letters(await store.restore([first, second])) == "UU"
    assert [await state_of(raw, one.key) for one in (plain, failed)] == [DUE, DEFERRED]
    assert [await due_ms(raw, one.key) for one in (plain, failed)] == [first.at_ms, second.at_ms]
    for one in (first, second):
        assert await record_of(raw, one.key) == b'{"due":%d' % one.due_ms + one.tail
    assert await failure_of(raw, failed.key) == second.failure
    assert await typed_keys(raw) == {"mail": {plain.key}}
    assert await counters(raw) == {"scheduled": 2}


async def test_a_task_that_came_again_comes_back_with_how_often(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await missing(store)
    wanted = kept(task)
    wanted.tail = b',"again":2' + tail(options=Options(again_most=3))
    assert letters(await store.restore([wanted])) == "U"
    assert await record_of(raw, task.key) == b'{"due":%d' % wanted.due_ms + wanted.tail
    await ask(raw, "ZADD", KEYS.due, 1, task.key)
    await store.promote()
    [claim] = await claimed(store, 1)
    assert claim.record.again == 2
    assert await store.again(failed(Task(task.key, claim))) == [1]
    assert (await record_of(raw, task.key)).count(b',"again":3,"head":') == 1


async def test_a_dead_letter_comes_back_as_one(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await missing(store, "mail")
    wanted = kept(task, "dead", failure=b"1 " + FAILURE)
    assert letters(await store.restore([wanted, wanted])) == "UE"
    assert await state_of(raw, task.key) == DEAD
    assert int(await ask(raw, "ZSCORE", KEYS.dead, task.key)) == wanted.at_ms
    assert await typed_keys(raw) == {}
    assert await counters(raw) == {"scheduled": 1, "died": 1}


async def test_a_paused_task_comes_back_as_one(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await missing(store, "mail")
    wanted = kept(task, "paused")
    assert letters(await store.restore([wanted])) == "U"
    assert await state_of(raw, task.key) == PAUSED
    assert int(await ask(raw, "ZSCORE", KEYS.paused, task.key)) == wanted.at_ms
    assert await typed_keys(raw) == {"mail": {task.key}}
    assert letters(await store.resume([task.key])) == "P"
    assert await due_ms(raw, task.key) == wanted.at_ms
