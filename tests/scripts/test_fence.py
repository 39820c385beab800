"""The fence: whoever no longer owns an entry, or has not seen its last failure, has no say; but a success counts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.task.claim import Claim
from tests.scripts.contents import counters, dump
from tests.scripts.states import MISSING, State, Task, failed, in_delivery, reclaimed, set_idle, state_of
from tests.support.store import Store

FENCED: dict[str, Callable[[Store, Task], Awaitable[Sequence[int]]]] = {
    "retry": lambda store, task: store.retry(failed(task)),
    "defer": lambda store, task: store.defer(failed(task)),
    "bury": lambda store, task: store.bury(failed(task)),
    "expire": lambda store, task: store.expire(failed(task)),
    "release": lambda store, task: store.release([task.claim]),
}


async def take_over(by: Store, raw: redis.asyncio.Redis, task: Task) -> Claim:
    """The lease of a delivery in flight runs out, and the worker claims it."""
    await set_idle(raw, 60_000, task.claim)
    [claim] = await reclaimed(by)
    return claim


@pytest.mark.parametrize("verb", FENCED)
async def test_a_worker_whose_entry_was_taken_over_changes_nothing_and_the_new_owner_does(
    verb: str, store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    claim = await take_over(other, raw, task)
    assert await state_of(raw, task.key) == State("in delivery", owner="worker-b", tries=2)
    before = await dump(raw)
    assert await FENCED[verb](store, task) == [0]
    assert await dump(raw) == before
    assert await FENCED[verb](other, Task(task.key, claim)) == [1]


@pytest.mark.parametrize("verb", FENCED)
async def test_a_claim_from_before_the_last_failure_changes_nothing(
    verb: str, store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    claim = await take_over(other, raw, task)
    assert await other.retry(failed(Task(task.key, claim), delay_ms=0)) == [1]
    [current] = await reclaimed(store)
    assert (current.id, current.attempts) == (task.claim.id, 1)
    before = await dump(raw)
    assert await FENCED[verb](store, task) == [0]
    assert await FENCED[verb](store, Task(task.key, replace(current, attempts=2))) == [0]
    assert await dump(raw) == before
    assert await FENCED[verb](store, Task(task.key, current)) == [1]


@pytest.mark.parametrize("verb", FENCED)
async def test_a_claim_of_another_entry_or_task_changes_nothing(
    verb: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task, another = await in_delivery(store), await in_delivery(store)
    before = await dump(raw)
    stray = replace(task.claim, id=another.claim.id)
    assert await FENCED[verb](store, Task(stray.key, stray)) == [0]
    assert await store.settle([stray]) == [0]
    assert await dump(raw) == before


async def test_a_late_success_counts_whoever_owns_the_entry_by_now(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    claim = await take_over(other, raw, task)
    assert await store.settle([task.claim]) == [1]
    assert await state_of(raw, task.key) == MISSING
    before = await dump(raw)
    assert await other.settle([claim]) == [0]
    assert await other.retry(failed(Task(task.key, claim))) == [0]
    assert await dump(raw) == before
    assert await counters(raw) == {"scheduled": 1, "delivered": 1}


async def test_a_late_success_counts_although_the_new_owner_has_failed_meanwhile(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    claim = await take_over(other, raw, task)
    assert await other.retry(failed(Task(task.key, claim))) == [1]
    assert await store.settle([task.claim]) == [1]
    assert await state_of(raw, task.key) == MISSING


async def test_a_late_success_does_not_count_once_the_task_was_deferred(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    claim = await take_over(other, raw, task)
    await other.defer(failed(Task(task.key, claim)))
    before = await dump(raw)
    assert await store.settle([task.claim]) == [0]
    assert await dump(raw) == before
