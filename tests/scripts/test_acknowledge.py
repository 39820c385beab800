"""Acknowledgements: who may give one, when it counts, and what becomes of a task that awaits one."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.scripts.states import (
    AWAITING,
    IN_DELIVERY,
    MAKERS,
    QUEUED,
    RETRY_DELAY_MS,
    State,
    ask,
    awaiting,
    change,
    claimed,
    failed,
    in_delivery,
    plan_sweep,
    state_of,
    taken_on,
)
from tests.scripts.verbs import said
from tests.support.names import KEYS
from tests.support.store import Store, letters

Redis = redis.asyncio.Redis
TOLERANCE_MS = 5_000


async def mark_of(store: Store, limit: int = 1) -> list[str]:
    """What the claims of the queue's tasks say of their acknowledgements."""
    return [claim.mark for claim in await claimed(store, limit)]


@pytest.mark.parametrize("state", MAKERS)
@pytest.mark.parametrize("sign", ["+", "-", ""])
async def test_what_is_said_counts_only_of_the_attempt_that_is_under_way_or_awaited(
    sign: str, state: str, store: Store, raw: Redis
) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    entry_id = task.claim.id
    letter = {"missing": "N", "in delivery": "A", "awaiting": "A"}.get(before.place, "O")
    assert letters(await store.acknowledge([said(task, sign)])) == letter
    after = State("queued", before.attempts) if before.place == "awaiting" and sign else before
    assert await state_of(raw, task.key) == after
    for other in (replace(said(task, sign), attempts=7), replace(said(task, sign), id="7-7")):
        assert letters(await store.acknowledge([other])) == ("N" if state == "missing" else "O")
    assert await state_of(raw, task.key) == after
    if letter == "A" and sign:
        assert letters(await store.acknowledge([said(task, sign)])) == "A", "it may be said twice"
        assert letters(await store.acknowledge([said(task, "-" if sign == "+" else "+")])) == "O", "not both"
        if before.place == "awaiting":
            assert await mark_of(store) == [f"@{entry_id}{sign}"]


@pytest.mark.parametrize("make", [in_delivery, states.redelivered])
async def test_the_mark_keeps_attempts_and_failure_and_goes_with_the_next_outcome(
    make: states.Maker, store: Store, raw: Redis
) -> None:
    task = await make(store)
    before = await ask(raw, "HGET", KEYS.failures, task.key) or b"0"
    await store.expect([taken_on(task)])
    attempts, _, rest = before.partition(b" ")
    mark = b"%s@%s" % (attempts, task.claim.id.encode())
    assert await ask(raw, "HGET", KEYS.failures, task.key) == mark + (b" " + rest if rest else b"")
    await store.acknowledge([said(task, "-")])
    [task.claim] = await claimed(store, 1)
    assert await store.retry(failed(task)) == [1]
    count = int(attempts) + 1
    assert await states.failure_of(raw, task.key) == b"%d %s" % (count, states.FAILURE)


async def test_what_was_said_before_the_answer_queues_the_task_and_is_not_lost_with_the_worker(
    store: Store, raw: Redis
) -> None:
    tasks = [await in_delivery(store) for _ in range(2)]
    await store.acknowledge([said(task) for task in tasks])
    loaded, _ = await store.load([Entry(task.claim.id, task.key) for task in tasks])
    assert [claim.mark for claim in loaded] == [f"@{task.claim.id}+" for task in tasks]
    assert await store.expect([taken_on(tasks[0])]) == [1]
    assert [await state_of(raw, task.key) for task in tasks] == [QUEUED, IN_DELIVERY]
    assert await mark_of(store) == [f"@{tasks[0].claim.id}+"]


async def test_an_extension_counts_from_now(store: Store, raw: Redis) -> None:
    task = await awaiting(store)
    await ask(raw, "ZADD", KEYS.awaiting, 1, task.key)
    assert letters(await store.acknowledge([replace(said(task, ""), within_ms=90_000)])) == "A"
    until_ms = int(await ask(raw, "ZSCORE", KEYS.awaiting, task.key))
    assert abs(until_ms - redis_ms(await ask(raw, "TIME")) - 90_000) < TOLERANCE_MS


async def test_what_is_not_acknowledged_in_time_is_queued_by_a_sweep_some_at_a_time(store: Store, raw: Redis) -> None:
    tasks = [await awaiting(store) for _ in range(4)]
    for task in tasks[1:]:
        await ask(raw, "ZADD", KEYS.awaiting, 1, task.key)
    for left in (2, 1, 1):
        await plan_sweep(store)
        sweep = await store.look(2)
        assert await ask(raw, "ZCARD", KEYS.awaiting) == left
        # Where there may be more, the next step comes as soon as within a sweep.
        assert (sweep.wait_s <= DEFAULT.sweep_step_interval_ms / 1000) == (left == 2)
    assert await state_of(raw, tasks[0].key) == AWAITING
    assert sorted(await mark_of(store, 3)) == sorted(f"@{task.claim.id}" for task in tasks[1:])


@pytest.mark.parametrize("sign", ["+", ""])
async def test_a_change_makes_what_is_said_of_the_record_before_count_no_more(
    sign: str, store: Store, raw: Redis
) -> None:
    task = await awaiting(store)
    if sign:
        await store.acknowledge([said(task, sign)])
    await store.update([await change(store, task)])
    assert letters(await store.acknowledge([said(task)])) == "O"
    assert await ask(raw, "HEXISTS", KEYS.failures, task.key) == 0
    assert await mark_of(store) == [""]


async def test_an_answer_that_fails_after_all_counts(store: Store, raw: Redis) -> None:
    task = await in_delivery(store)
    await store.acknowledge([said(task)])
    assert await store.retry(failed(task, delay_ms=RETRY_DELAY_MS)) == [1]
    assert await state_of(raw, task.key) == states.WAITING
    assert letters(await store.acknowledge([said(task)])) == "O"


async def test_a_foreign_key_in_the_place_of_the_awaited_stops_no_sweep(store: Store, raw: Redis) -> None:
    task = await states.retriable(store)
    await ask(raw, "SET", KEYS.awaiting, "foreign")
    assert [entry.key for entry in (await store.look(10)).entries] == [task.key]
    await ask(raw, "DEL", KEYS.awaiting)


@pytest.mark.parametrize("make", [in_delivery, awaiting])
async def test_while_all_is_paused_only_that_it_goes_on_is_noted(make: states.Maker, store: Store, raw: Redis) -> None:
    task = await make(store)
    before = await state_of(raw, task.key), await ask(raw, "HGET", KEYS.failures, task.key)
    await ask(raw, "SET", KEYS.pause_all, "1")
    for sign in ("+", "-"):
        assert letters(await store.acknowledge([said(task, sign)])) == "P"
        assert (await state_of(raw, task.key), await ask(raw, "HGET", KEYS.failures, task.key)) == before
    assert letters(await store.acknowledge([said(task, "")])) == "A"
    await ask(raw, "DEL", KEYS.pause_all)
    assert letters(await store.acknowledge([said(task)])) == "A"
