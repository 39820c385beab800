"""A series that comes due: its occurrences are queued, and it waits for its next time, all in one moment."""

import pytest
import redis.asyncio

from redis_scheduler.store.claims import FireAnswer
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.series import Firing
from tests.scripts import states
from tests.scripts.conftest import Full
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import (
    DEAD,
    DUE,
    IN_DELIVERY,
    MADE_MS,
    MISSING,
    NEXT_MS,
    QUEUED,
    claimed,
    due_ms,
    fired,
    record_of,
    state_of,
)
from tests.support.store import Store

FENCED, SKIPPED, MADE = FireAnswer.FENCED, FireAnswer.SKIPPED, FireAnswer.MADE


async def keys_made(raw: redis.asyncio.Redis, firing: Firing) -> list[states.State]:
    return [await state_of(raw, one.key) for one in firing.made]


@pytest.mark.parametrize("type_name", [None, "mail"])
async def test_its_occurrences_are_queued_and_it_waits_for_its_next_time(
    type_name: str | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.in_delivery(store, type_name)
    firing = fired(task, 2)
    assert await store.fire([firing]) == [MADE]
    assert await state_of(raw, task.key) == DUE
    assert await due_ms(raw, task.key) == NEXT_MS
    assert await record_of(raw, task.key) == b'{"due":%d' % NEXT_MS + firing.after.tail
    assert await keys_made(raw, firing) == [QUEUED, QUEUED]
    for number, one in enumerate(firing.made):
        assert await record_of(raw, one.key) == b'{"due":%d' % (MADE_MS + number) + one.tail
    assert await counters(raw) == {"scheduled": 3}
    assert await typed_keys(raw) == ({"mail": {task.key, *(one.key for one in firing.made)}} if type_name else {})
    assert [claim.key for claim in await claimed(store, 2)] == [one.key for one in firing.made]


async def test_many_series_fire_in_one_call_each_with_its_own(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await states.in_delivery(store, "mail" if number % 2 else None) for number in range(6)]
    firings = [fired(task, number) for number, task in enumerate(tasks)]
    await store.cancel([(tasks[3].key, "mail")])
    assert await store.fire(firings) == [MADE, MADE, MADE, FENCED, MADE, MADE]
    for number, firing in enumerate(firings):
        assert await keys_made(raw, firing) == [MISSING if number == 3 else QUEUED] * number
    assert (await counters(raw))["scheduled"] == 6 + 1 + 2 + 4 + 5


@pytest.mark.parametrize("type_name", [None, "mail"])
async def test_a_series_that_ends_is_gone_and_counted_and_its_last_occurrence_stays(
    type_name: str | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.in_delivery(store, type_name)
    firing = fired(task, next_ms=None)
    assert await store.fire([firing]) == [MADE]
    assert await state_of(raw, task.key) == MISSING
    assert await keys_made(raw, firing) == [QUEUED]
    assert await counters(raw) == {"scheduled": 2, "ended": 1}
    assert await typed_keys(raw) == ({"mail": {firing.made[0].key}} if type_name else {})


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        *[(make, SKIPPED) for name, (make, _) in states.MAKERS.items() if name not in ("missing", "dead")],
        *[(states.MAKERS[name][0], MADE) for name in ("missing", "dead")],
    ],
)
async def test_none_is_made_while_the_one_before_is_unfinished(
    make: states.Maker, answer: FireAnswer, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.in_delivery(store)
    before = await make(store)
    firing = fired(task, unless=before.key)
    firing.otherwise.due_ms = NEXT_MS + 1
    assert await store.fire([firing]) == [answer]
    goes_on = firing.after if answer is MADE else firing.otherwise
    assert await record_of(raw, task.key) == b'{"due":%d' % (goes_on.due_ms or 0) + goes_on.tail
    assert await due_ms(raw, task.key) == goes_on.due_ms
    assert await keys_made(raw, firing) == [QUEUED if answer is MADE else MISSING]


async def test_a_skipped_occurrence_may_be_the_last(store: Store, raw: redis.asyncio.Redis) -> None:
    task, before = await states.in_delivery(store), await states.in_due(store)
    firing = fired(task, unless=before.key)
    firing.otherwise.due_ms = None
    assert await store.fire([firing]) == [SKIPPED]
    assert await state_of(raw, task.key) == MISSING
    assert await counters(raw) == {"scheduled": 2, "ended": 1}


async def test_whoever_fires_a_claim_again_makes_nothing_again(store: Store, raw: redis.asyncio.Redis) -> None:
    """Its worker, and another that had it before: each makes new keys."""
    task = await states.in_delivery(store)
    late = Claim(task.claim.id, task.key, task.claim.record, 0)
    assert await store.fire([fired(task), fired(task)]) == [MADE, FENCED]
    before = await dump(raw)
    for claim in (task.claim, late):
        task.claim = claim
        assert await store.fire([fired(task)]) == [FENCED]
        assert await Store(store.client, "worker-b").fire([fired(task)]) == [FENCED]
    assert await dump(raw) == before


@pytest.mark.parametrize("name", ["missing", "due", "queued", "waiting", "deferred", "dead"])
async def test_it_fires_only_from_its_own_claim(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, state = states.MAKERS[name]
    task = await make(store)
    before = await dump(raw)
    assert await store.fire([fired(task)]) == [FENCED]
    assert await dump(raw) == before
    assert await state_of(raw, task.key) == state


async def test_another_worker_does_not_fire_it(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.in_delivery(store)
    assert await Store(store.client, "worker-b").fire([fired(task)]) == [FENCED]
    assert await state_of(raw, task.key) == IN_DELIVERY


async def test_a_change_since_the_claim_counts_and_the_new_rule_fires(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.in_delivery(store)
    await store.update([await states.change(store, task)])
    changed = await record_of(raw, task.key)
    assert await store.fire([fired(task)]) == [FENCED]
    assert await record_of(raw, task.key) == changed
    [task.claim] = await claimed(store, 1)
    assert await store.fire([fired(task)]) == [MADE]


async def test_failures_of_before_it_was_a_series_are_forgotten(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await states.redelivered(store)
    assert await store.fire([fired(task)]) == [MADE]
    assert await state_of(raw, task.key) == DUE


async def test_in_a_full_redis_it_fires(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await states.in_delivery(store, "mail") for _ in range(3)]
    firings = [fired(tasks[0], 2), fired(tasks[1], next_ms=None), fired(tasks[2], 0)]
    async with full():
        assert await store.fire(firings) == [MADE] * 3
    assert [await keys_made(raw, firing) for firing in firings] == [[QUEUED, QUEUED], [QUEUED], []]
    assert [await state_of(raw, task.key) for task in tasks] == [DUE, MISSING, DUE]
    assert await state_of(raw, tasks[0].key) != DEAD
