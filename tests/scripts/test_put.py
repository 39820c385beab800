"""put: a task under its caller's key is entered, or takes the place of the one that has the key."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.written import Put
from redis_scheduler.task.due import due_after
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import (
    DUE,
    MAKERS,
    MISSING,
    PAUSED,
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
from tests.support.store import Store, letters

LETTERS = {"missing": "N", "in delivery": "D", "redelivered": "D", "dead": "X"}
LETTERS |= {"awaiting": "D", "awaiting retry": "D"}
"""Else U."""


async def put_of(store: Store, task: Task, ttl_ms: int = 7_000, type_name: str | None = None) -> Put:
    [raw] = await store.client.command("HMGET", KEYS.tasks, task.key)
    return Put(replace(new_task(ttl_ms, type_name), key=task.key), raw or b"", task.type)


@pytest.mark.parametrize("ttl_ms", [7_000, 0, -1])
@pytest.mark.parametrize("state", MAKERS)
async def test_a_put_takes_the_place_of_the_task_wherever_it_stands(
    state: str, ttl_ms: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    before, was = await counters(raw), MAKERS[state][1]
    put = await put_of(store, task, ttl_ms)
    now_ms, answers = await store.put([put])
    assert letters(answers) == LETTERS.get(state, "U")
    is_paused = was.place == "paused"
    assert await state_of(raw, task.key) == (PAUSED if is_paused else DUE)
    due_at_ms = due_after(now_ms, ttl_ms)
    assert await ask(raw, "ZSCORE", KEYS.paused if is_paused else KEYS.due, task.key) == b"%d" % due_at_ms
    assert await record_of(raw, task.key) == b'{"due":%d' % due_at_ms + put.task.tail
    assert await ask(raw, "HGET", KEYS.failures, task.key) is None
    counted = {"missing": {"scheduled": before.get("scheduled", 0) + 1}, "dead": {"replayed": 1}}
    assert await counters(raw) == before | counted.get(state, {})


@pytest.mark.parametrize("state", MAKERS)
async def test_a_task_that_was_changed_meanwhile_is_not_replaced(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    put = await put_of(store, task)
    put.expected = b"other" if state == "missing" else b""
    before = await dump(raw)
    assert letters((await store.put([put]))[1]) == "C"
    after = await dump(raw)
    del after[KEYS.writer(store.name, "put").encode()]
    assert after == before


@pytest.mark.parametrize("state", MAKERS)
async def test_what_is_dead_stays_so_where_it_may_not_be_revived(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    put = replace(await put_of(store, task), may_revive=False)
    before = await dump(raw)
    assert letters((await store.put([put]))[1]) == ("S" if state == "dead" else LETTERS.get(state, "U"))
    after = await dump(raw)
    del after[KEYS.writer(store.name, "put").encode()]
    assert (after == before) is (state == "dead")


@pytest.mark.parametrize("end", ["settle", "retry", "defer", "bury", "release"])
async def test_the_outcome_of_an_attempt_under_way_does_not_count(
    end: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    await store.put([await put_of(store, task)])
    before = await dump(raw)
    given = [task.claim] if end in ("settle", "release") else failed(task)
    assert await getattr(store, end)(given) == [0]
    assert await dump(raw) == before


@pytest.mark.parametrize(("before", "after"), [(None, "mail"), ("mail", None), ("mail", "bill"), ("mail", "mail")])
@pytest.mark.parametrize("state", MAKERS)
async def test_a_task_is_filed_under_its_new_type_alone(
    state: str, before: str | None, after: str | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store, before)  # type: ignore[call-arg]  # all take a type
    await store.put([await put_of(store, task, type_name=after)])
    assert await typed_keys(raw) == ({after: {task.key}} if after else {})


async def test_each_task_of_a_batch_has_its_own_letter(store: Store, raw: redis.asyncio.Redis) -> None:
    delivering, waiting = await in_delivery(store), await in_due(store)
    gone = replace(delivering, key="own:key")
    puts = [await put_of(store, task) for task in (delivering, waiting, gone)]
    assert letters((await store.put([*puts, puts[0], puts[2]]))[1]) == "DUNCC"
    assert await counters(raw) == {"scheduled": 3}
    assert await due_ms(raw, "own:key") is not None


async def test_of_two_puts_of_a_new_key_one_enters_it(store: Store, raw: redis.asyncio.Redis) -> None:
    first, second = [Put(replace(new_task(7_000), key="own"), b"", None) for _ in range(2)]
    other = Store(store.client, "worker-b")
    assert [letters((await writer.put([put]))[1]) for writer, put in ((store, first), (other, second))] == ["N", "C"]
    await store.cancel([("own", None)])
    assert await state_of(raw, "own") == MISSING
    assert letters((await other.put([second]))[1]) == "N"


async def test_a_task_that_lost_its_place_has_one_again(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    await ask(raw, "ZREM", KEYS.due, task.key)
    assert letters((await store.put([await put_of(store, task)]))[1]) == "U"
    assert await state_of(raw, task.key) == DUE
