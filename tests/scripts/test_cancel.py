"""cancel: takes a task out wherever it stands, and says whether an attempt is under way."""

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from tests.scripts.contents import counters, dump, traces
from tests.scripts.states import MAKERS, MISSING, ask, in_delivery, in_due, queued, state_of, stored_of
from tests.support.names import KEYS
from tests.support.store import Store, letters

LETTERS = {
    "missing": "N",
    "due": "C",
    "queued": "C",
    "held": "C",
    "held retry": "C",
    "in turn": "C",
    "awaiting": "D",
    "awaiting retry": "D",
    "paused": "C",
    "paused retry": "C",
    "in delivery": "D",
    "redelivered": "D",
    "waiting": "C",
    "deferred": "C",
    "dead": "C",
}


@pytest.mark.parametrize("state", MAKERS)
async def test_a_cancelled_task_leaves_nothing_but_its_count(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    before = await counters(raw)
    assert letters(await store.cancel([(task.key, None)])) == LETTERS[state]
    assert await state_of(raw, task.key) == MISSING
    assert await traces(raw, task) == []
    # The dead were counted when they died.
    cancelled = {} if state in ("missing", "dead") else {"cancelled": 1}
    assert await counters(raw) == before | cancelled


@pytest.mark.parametrize("state", MAKERS)
async def test_a_cancelled_task_cannot_be_claimed(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await MAKERS[state][0](store)
    await store.cancel([(task.key, None)])
    assert await ask(raw, "XLEN", KEYS.queue) == 0
    assert await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 10) == []
    assert await ask(raw, "ZCARD", KEYS.due) == 0


async def test_each_task_of_a_batch_has_its_own_letter_and_the_others_stay(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    delivering, waiting_for_time, in_queue, bystander = [
        await make(store) for make in (in_delivery, in_due, queued, in_due)
    ]
    batch = [delivering.key, "unknown", waiting_for_time.key, in_queue.key, in_queue.key]
    assert letters(await store.cancel([(key, None) for key in batch])) == "DNCCN"
    assert await ask(raw, "HKEYS", KEYS.tasks) == [bystander.key.encode()]
    assert await counters(raw) == {"scheduled": 4, "cancelled": 3}


async def test_a_cancel_that_finds_nothing_writes_nothing(store: Store, raw: redis.asyncio.Redis) -> None:
    before = await dump(raw)
    assert letters(await store.cancel([("unknown", None), ("unknown", "mail")])) == "NN"
    assert await dump(raw) == before


async def test_the_attempt_under_way_has_no_say_after_a_cancel(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    await store.cancel([(task.key, None)])
    before = await dump(raw)
    assert await store.settle([task.claim]) == [0]
    assert await store.release([task.claim]) == [0]
    assert await dump(raw) == before


async def test_a_batch_that_meets_a_lost_group_half_way_is_not_applied_by_halves(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await in_due(store), await in_delivery(store)]
    await ask(raw, "XGROUP", "DESTROY", KEYS.queue, keys.GROUP)
    assert letters(await store.cancel([(task.key, None) for task in tasks])) == "CC"
    assert await counters(raw) == {"scheduled": 2, "cancelled": 2}


@pytest.mark.parametrize("state", MAKERS)
async def test_a_task_with_another_record_than_expected_stays(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    before = await dump(raw)
    assert letters(await store.cancel([(task.key, None, b"other")])) == ("N" if state == "missing" else "X")
    assert await dump(raw) == before
    if state != "missing":
        assert letters(await store.cancel([(task.key, None, await stored_of(raw, task.key))])) == LETTERS[state]
        assert await state_of(raw, task.key) == MISSING
