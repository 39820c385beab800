"""The sweep: all workers together make one; its place and its next step are kept in Redis."""

import pytest
import redis.asyncio

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import dump
from tests.scripts.states import (
    ask,
    claimed,
    failed,
    in_delivery,
    leave_gap,
    new_task,
    plan_sweep,
    reclaimed,
    set_idle,
    swept,
    waiting,
)
from tests.support.modelled import id_order
from tests.support.names import KEYS
from tests.support.store import Store


async def many_in_delivery(store: Store, count: int) -> list[Claim]:
    for start in range(0, count, 200):
        await store.schedule([new_task(0) for _ in range(min(200, count - start))])
    return [claim for start in range(0, count, 200) for claim in await claimed(store, min(200, count - start))]


async def test_the_cursor_is_carried_over_a_long_head_that_may_not_be_taken(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    claims = await many_in_delivery(store, 1_600)
    await set_idle(raw, DEFAULT.window_ms, claims[-1])
    await plan_sweep(store)
    assert await swept(other, 100) == ([], DEFAULT.sweep_step_interval_ms / 1000)
    cursor = (await ask(raw, "HGET", KEYS.sweep, "cursor")).decode()
    assert id_order(claims[500].id) < id_order(cursor) <= id_order(claims[1_100].id)
    # Another process goes on where the first has stopped.
    assert [claim.key for claim in await reclaimed(store)] == [claims[-1].key]
    assert await ask(raw, "HGET", KEYS.sweep, "cursor") == b"0-0"


@pytest.mark.parametrize("limit", [1, 7, 30])
async def test_a_small_limit_reaches_as_far(limit: int, store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    claims = await many_in_delivery(store, 700)
    await set_idle(raw, DEFAULT.window_ms, claims[-1])
    await plan_sweep(store)
    taken = (await other.look(limit)).entries
    assert [claim.key for claim in taken] == [claims[-1].key]


async def test_a_step_looks_at_no_more_than_a_thousand_entries(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    claims = await many_in_delivery(store, 1_200)
    await set_idle(raw, DEFAULT.window_ms, claims[-1])
    for limit in (1, 100):
        await ask(raw, "DEL", KEYS.sweep)
        assert await reclaimed(other, limit) == []
        cursor = (await ask(raw, "HGET", KEYS.sweep, "cursor")).decode()
        assert id_order(cursor) <= id_order(claims[1_010].id)


async def test_sweeps_are_paced_by_whether_anything_waits(store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    await in_delivery(store)
    await plan_sweep(store)
    assert await swept(store, 10) == ([], DEFAULT.sweep_idle_interval_ms / 1000)
    await waiting(store)
    await plan_sweep(store)
    assert await swept(store, 10) == ([], DEFAULT.sweep_waiting_interval_ms / 1000)


async def test_before_the_next_step_is_due_nobody_sweeps(store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    task = await waiting(store, delay_ms=0)
    await plan_sweep(store, in_ms=900)
    before = await dump(raw)
    for each in (store, other):
        taken, wait_s = await swept(each, 10)
        assert taken == []
        assert 0 < wait_s <= 0.9
    assert await dump(raw) == before
    assert [claim.key for claim in await reclaimed(other)] == [task.key]


async def test_a_next_step_further_away_than_any_interval_is_not_waited_for(store: Store) -> None:
    task = await waiting(store, delay_ms=0)
    await plan_sweep(store, in_ms=3_600_000)
    taken = (await store.look(10)).entries
    assert [claim.key for claim in taken] == [task.key]


async def test_a_call_that_arrives_late_is_void_and_the_next_one_is_not(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await waiting(store, delay_ms=0)
    await plan_sweep(store, in_ms=900)
    await other.look(10)
    assert other._clock_offset_ms is not None
    late_ms = DEFAULT.sweep_void_after_ms + 1_000
    other._clock_offset_ms = (other._clock_offset_ms[0] - late_ms, other._clock_offset_ms[1])
    await plan_sweep(store)
    before = await dump(raw)
    assert await swept(other, 10) == ([], DEFAULT.sweep_waiting_interval_ms / 1000)
    assert await dump(raw) == before
    taken = (await other.look(10)).entries
    assert [claim.key for claim in taken] == [task.key]


async def test_after_a_gap_in_the_sweeps_entries_are_left_to_their_owners_for_a_while(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    await set_idle(raw, DEFAULT.window_ms, task.claim)
    await leave_gap(store)
    assert await swept(other, 10) == ([], DEFAULT.sweep_hold_ms / 1000)
    taken, wait_s = await swept(other, 10)
    assert taken == []
    assert 0 < wait_s <= DEFAULT.sweep_hold_ms / 1000
    assert await store.renew([task.claim.id]) == {task.claim.id}


async def test_a_failure_recorded_after_a_gap_does_not_end_the_hold(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    delivering, failing, releasing = [await in_delivery(store) for _ in range(3)]
    await set_idle(raw, DEFAULT.window_ms, delivering.claim)
    await leave_gap(store)
    await other.look(10)
    assert await store.retry(failed(failing)) == [1]
    assert await store.release([releasing.claim]) == [1]
    taken, wait_s = await swept(other, 10)
    assert taken == []
    assert wait_s > DEFAULT.sweep_hold_ms / 1000 - 1


async def test_a_gap_while_nothing_was_pending_is_none(store: Store) -> None:
    assert await swept(store, 10) == ([], DEFAULT.sweep_idle_interval_ms / 1000)


@pytest.mark.parametrize("gap", ["first sweep of all", "nothing but what waits, and its own"])
async def test_what_no_other_worker_holds_is_not_held(store: Store, raw: redis.asyncio.Redis, gap: str) -> None:
    task, own = await waiting(store, delay_ms=0), await in_delivery(store)
    await set_idle(raw, DEFAULT.window_ms, own.claim)
    if gap == "first sweep of all":
        await raw.delete(KEYS.sweep)
    else:
        await leave_gap(store)
    taken = (await store.look(10)).entries
    assert {claim.key for claim in taken} == {task.key, own.key}


async def test_a_release_does_not_hide_a_gap(store: Store, other: Store) -> None:
    _delivering, releasing = [await in_delivery(store) for _ in range(2)]
    await leave_gap(store)
    assert await store.release([releasing.claim]) == [1]
    assert await swept(other, 10) == ([], DEFAULT.sweep_hold_ms / 1000)


async def test_a_release_brings_the_sweep_at_once(store: Store, other: Store) -> None:
    task = await in_delivery(store)
    await plan_sweep(store, in_ms=900)
    await store.release([task.claim])
    taken = (await other.look(10)).entries
    assert [claim.key for claim in taken] == [task.key]
