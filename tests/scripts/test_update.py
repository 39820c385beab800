"""update: compare-and-set of a record; with a new delay also of the due time, and the attempts start afresh."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.record import decode_record
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters, dump
from tests.scripts.states import (
    DEAD,
    DEFERRED,
    DUE,
    MAKERS,
    MISSING,
    PAUSED,
    QUEUED,
    TTL_MS,
    Maker,
    State,
    Task,
    ask,
    change,
    claimed,
    deferred,
    due_ms,
    entry_of,
    failed,
    in_delivery,
    in_due,
    queued,
    reclaimed,
    record_of,
    redelivered,
    set_idle,
    state_of,
    waiting,
)
from tests.support.store import Store, letters
from tests.support.waiting import wait_until

# What update answers in each state, and where the task stands then: without a new delay, and with one.
KEPT = {
    "missing": "N",
    "due": "U",
    "queued": "U",
    "held": "U",
    "held retry": "U",
    "in turn": "U",
    "awaiting": "D",
    "awaiting retry": "D",
    "paused": "U",
    "paused retry": "U",
    "in delivery": "D",
    "redelivered": "D",
    "waiting": "U",
    "deferred": "U",
    "dead": "U",
}
NEW = KEPT | {"dead": "X"}
PLACES_KEPT = {
    "in delivery": State("queued"),
    "redelivered": State("queued", attempts=1),
    "awaiting": QUEUED,
    "awaiting retry": State("queued", attempts=1),
    "waiting": DEFERRED,
}
PLACES_NEW = {"missing": MISSING, "dead": DEAD}
STAY_PAUSED = ("paused", "paused retry")


@pytest.mark.parametrize("state", MAKERS)
async def test_an_update_without_a_delay_keeps_due_time_and_attempts(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    due_before, counters_before = await due_ms(raw, task.key), await counters(raw)
    update = await change(store, task)
    _, answers = await store.update([update])
    assert letters(answers) == KEPT[state]
    assert await state_of(raw, task.key) == PLACES_KEPT.get(state, before)
    assert state == "waiting" or await due_ms(raw, task.key) == due_before
    assert await counters(raw) == counters_before
    if state != "missing":
        assert await record_of(raw, task.key) == b'{"due":%d' % update.due_ms + update.tail


@pytest.mark.parametrize("state", MAKERS)
async def test_an_update_with_a_delay_starts_afresh_from_now(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    before, counters_before = await dump(raw), await counters(raw)
    update = await change(store, task, ttl_ms=7_000)
    now_ms, answers = await store.update([update])
    assert letters(answers) == NEW[state]
    assert await state_of(raw, task.key) == PLACES_NEW.get(state, PAUSED if state in STAY_PAUSED else DUE)
    assert await counters(raw) == counters_before
    if state in PLACES_NEW:
        unchanged = await dump(raw)
        assert {name: unchanged.get(name) for name in before} == before
    else:
        assert await due_ms(raw, task.key) == (None if state in STAY_PAUSED else now_ms + 7_000)
        assert await record_of(raw, task.key) == b'{"due":%d' % (now_ms + 7_000) + update.tail


@pytest.mark.parametrize("ttl_ms", [None, 7_000])
@pytest.mark.parametrize("state", [state for state in MAKERS if state not in ("missing", "dead")])
async def test_of_two_updates_of_one_record_the_second_is_told_and_changes_nothing(
    state: str, ttl_ms: int | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    first, second = await change(store, task, data=b"1"), await change(store, task, ttl_ms, data=b"2")
    await store.update([first])
    before, where = await record_of(raw, task.key), await state_of(raw, task.key)
    assert letters((await store.update([second]))[1]) == "C"
    assert (await record_of(raw, task.key), await state_of(raw, task.key)) == (before, where)


async def test_what_is_queued_keeps_its_entry(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await queued(store)
    await store.update([await change(store, task)])
    assert await entry_of(raw, task.key) == task.claim.id


@pytest.mark.parametrize("delay_ms", [0, 30_000])
async def test_what_waits_for_a_retry_keeps_its_time(delay_ms: int, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await waiting(store, delay_ms=delay_ms)
    retry_at = redis_ms(await ask(raw, "TIME")) + delay_ms
    now_ms, _ = await store.update([await change(store, task)])
    score = await due_ms(raw, task.key)
    assert score is not None
    # What is deferred may come 2 ms later.
    assert max(now_ms, retry_at - 1_000) <= score <= max(now_ms, retry_at + 1) + 2


@pytest.mark.parametrize("verb", ["retry", "release"])
async def test_a_late_success_of_the_old_record_does_not_take_away_what_was_updated_while_it_waited(
    verb: str, store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """A worker lost its lease to another, which failed or gave back; an update came; then the first had its 2xx."""
    task, other = await in_delivery(store), Store(client, "worker-b")
    await set_idle(raw, DEFAULT.window_ms, task.claim)
    [claim] = await reclaimed(other)
    if verb == "retry":
        await other.retry(failed(Task(claim.key, claim), delay_ms=0))
    else:
        await other.release([claim])
    assert (await state_of(raw, task.key)).place == "waiting"
    await store.update([await change(store, task, data=b'"after"')])
    assert await store.settle([task.claim]) == [0]

    async def is_moved() -> bool:
        return (await store.promote()).moved == 1

    await wait_until(is_moved, "the update is queued", every_s=0.001)
    [again] = await claimed(store, 1)
    assert (again.key, again.record.data) == (task.key, b'"after"')


async def test_a_deferred_retry_keeps_its_time_whatever_its_record_says(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await deferred(store)
    retry_at = await due_ms(raw, task.key)
    update = await change(store, task)
    await store.update([update])
    assert await due_ms(raw, task.key) == retry_at
    assert decode_record(await record_of(raw, task.key)).due == update.due_ms


@pytest.mark.parametrize("make", [in_delivery, redelivered])
@pytest.mark.parametrize("ttl_ms", [None, 0, 7_000])
async def test_the_attempt_under_way_has_no_say_after_an_update(
    make: Maker, ttl_ms: int | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await make(store)
    await store.update([await change(store, task, ttl_ms)])
    before = await dump(raw)
    assert await store.settle([task.claim]) == [0]
    assert await store.release([task.claim]) == [0]
    assert await store.renew([task.claim.id]) == set()
    assert await dump(raw) == before


async def test_an_update_during_the_delivery_is_delivered_by_the_next_claim(store: Store) -> None:
    task = await redelivered(store)
    await store.update([await change(store, task, data=b'"after"')])
    [claim] = await claimed(store, 1)
    assert (claim.key, claim.record.data, claim.attempts) == (task.key, b'"after"', 1)


async def test_a_load_behind_an_update_brings_no_new_record_before_its_time(store: Store) -> None:
    task = await in_delivery(store)
    assert letters((await store.update([await change(store, task, TTL_MS)]))[1]) == "D"
    claims, _ = await store.load([Entry(task.claim.id, task.key)])
    assert claims == [], "what is due in ten minutes would be delivered now"


async def test_each_change_of_a_batch_has_its_own_letter(store: Store, raw: redis.asyncio.Redis) -> None:
    delivering, scheduled, changed = [await make(store) for make in (in_delivery, in_due, in_due)]
    changes = [await change(store, task, TTL_MS) for task in (delivering, scheduled, changed)]
    changes[2] = replace(changes[2], expected=b"other")
    unknown = replace(changes[1], key="unknown")
    assert letters((await store.update([*changes, unknown]))[1]) == "DUCN"
    assert b'"new"' not in await record_of(raw, changed.key)
