"""look: takes what was idle for the window: a retry whose time has come, a delivery whose worker is lost."""

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters, dump
from tests.scripts.states import (
    IN_DELIVERY,
    TTL_MS,
    State,
    ask,
    claimed,
    failed,
    in_delivery,
    in_due,
    new_task,
    overdue,
    plan_sweep,
    queued,
    reclaimed,
    set_idle,
    state_of,
    swept,
    waiting,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until


async def test_a_delivery_is_taken_when_its_lease_is_over_and_not_before(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    for idle_ms in (0, DEFAULT.window_ms - DEFAULT.lease_ms, DEFAULT.window_ms - 2_000):
        await set_idle(raw, idle_ms, task.claim)
        assert await reclaimed(other) == []
        assert await state_of(raw, task.key) == IN_DELIVERY
    await set_idle(raw, DEFAULT.window_ms, task.claim)
    [claim] = await reclaimed(other)
    assert (claim.id, claim.key, claim.attempts, claim.tries) == (task.claim.id, task.key, 0, 2)
    assert await state_of(raw, task.key) == State("in delivery", owner="worker-b", tries=2)
    assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, claim) <= DEFAULT.lease_ms


async def test_a_retry_is_taken_when_its_delay_is_over_and_not_before(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    parked_ms = redis_ms(await ask(raw, "TIME"))
    await store.retry(failed(task, delay_ms=200))
    await wait_until(lambda: reclaimed(store), "the retry is taken", every_s=0.001)
    assert 200 <= redis_ms(await ask(raw, "TIME")) - parked_ms < 1_200
    assert await state_of(raw, task.key) == State("in delivery", attempts=1, owner="worker-a", tries=1)


async def test_claims_without_an_outcome_are_counted_and_an_outcome_ends_the_count(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    for count in (2, 3, 4, 5):
        await set_idle(raw, DEFAULT.window_ms, task.claim)
        [claim] = await reclaimed(other)
        assert claim.tries == count
        await other.renew([claim.id])
    [failure] = failed(task, delay_ms=0)
    failure.claim = claim
    assert await other.retry([failure]) == [1]
    [claim] = await reclaimed(other)
    assert (claim.attempts, claim.tries) == (1, 1)


async def lost(store: Store, raw: redis.asyncio.Redis, *claims: int) -> list[str]:
    """Make a delivery for each number of claims, all of whose workers were lost, the last just now; return the
    tasks."""
    tasks = [await in_delivery(store) for _ in claims]
    for task, count in zip(tasks, claims, strict=True):
        entry = ("XCLAIM", KEYS.queue, keys.GROUP, "worker-z", 0, task.claim.id)
        await ask(raw, *entry, "IDLE", DEFAULT.window_ms, "RETRYCOUNT", count, "JUSTID")
    return [task.key for task in tasks]


async def test_a_last_chance_is_taken_alone_and_the_next_when_it_has_ended(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    """What was in flight beside a task that kills its worker has lost as many, and must not be buried with it."""
    first, second, third = await lost(store, raw, *[DEFAULT.lost_workers_most - 1] * 3)
    [claim] = await reclaimed(store)
    assert (claim.key, claim.tries) == (first, DEFAULT.lost_workers_most)
    assert await reclaimed(store) == []
    passed_over = State("waiting", owner=keys.WAITING, tries=DEFAULT.lost_workers_most - 1)
    assert [await state_of(raw, key) for key in (second, third)] == [passed_over] * 2
    # Another worker has none.
    [others] = await reclaimed(other)
    assert (others.key, others.tries) == (second, DEFAULT.lost_workers_most)
    await store.settle([claim])
    assert [(claim.key, claim.tries) for claim in await reclaimed(store)] == [(third, DEFAULT.lost_workers_most)]


async def test_beside_a_last_chance_nothing_is_brought_that_lost_its_worker(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    last, lost_once, buried = await lost(store, raw, DEFAULT.lost_workers_most - 1, 1, DEFAULT.lost_workers_most)
    retried = await waiting(store, delay_ms=0)
    taken = await reclaimed(store)
    assert [(claim.key, claim.tries) for claim in taken] == [
        (last, DEFAULT.lost_workers_most),
        (buried, DEFAULT.lost_workers_most + 1),
        (retried.key, 1),
    ]
    assert await state_of(raw, lost_once) == State("waiting", owner=keys.WAITING, tries=1)


async def test_a_last_chance_is_not_taken_beside_what_lost_its_worker_too(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    first, last, second = await lost(store, raw, 1, DEFAULT.lost_workers_most - 1, 1)
    claims = await reclaimed(store)
    assert [(claim.key, claim.tries) for claim in claims] == [(first, 2), (second, 2)]
    # Passed over in the same step, and while either is in flight.
    for claim in claims:
        assert await state_of(raw, last) == State("waiting", owner=keys.WAITING, tries=DEFAULT.lost_workers_most - 1)
        assert await reclaimed(store) == []
        await store.settle([claim])
    assert [(claim.key, claim.tries) for claim in await reclaimed(store)] == [(last, DEFAULT.lost_workers_most)]


async def test_what_lost_its_worker_is_not_brought_to_a_last_chance_taken_before(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    await lost(store, raw, DEFAULT.lost_workers_most - 1)
    [last] = await reclaimed(store)
    [lost_once] = await lost(other, raw, 1)
    retried = await waiting(other, delay_ms=0)
    assert [claim.key for claim in await reclaimed(store)] == [retried.key]
    assert await state_of(raw, lost_once) == State("waiting", owner=keys.WAITING, tries=1)
    # Another worker has none.
    assert [claim.key for claim in await reclaimed(other)] == [lost_once]
    assert await state_of(raw, last.key) == State("in delivery", owner=store.name, tries=DEFAULT.lost_workers_most)


async def test_what_is_buried_holds_nothing_up(store: Store, raw: redis.asyncio.Redis) -> None:
    buried, last = await lost(store, raw, DEFAULT.lost_workers_most, DEFAULT.lost_workers_most - 1)
    assert [claim.key for claim in await reclaimed(store)] == [buried, last]


async def test_a_last_chance_counts_that_its_worker_took_again_after_a_stall(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    """It is under way there still, though any other worker would bury it."""
    await lost(store, raw, DEFAULT.lost_workers_most - 1)
    [last] = await reclaimed(store)
    await set_idle(raw, DEFAULT.window_ms, last)
    assert [claim.tries for claim in await reclaimed(store)] == [DEFAULT.lost_workers_most + 1]
    await lost(store, raw, 1)
    assert await reclaimed(store) == []


async def test_a_last_chance_is_taken_beside_what_lost_no_worker(store: Store, raw: redis.asyncio.Redis) -> None:
    await in_delivery(store)
    retried = await waiting(store, delay_ms=0)
    [last] = await lost(store, raw, DEFAULT.lost_workers_most - 1)
    assert [claim.key for claim in await reclaimed(store)] == [retried.key, last]


@pytest.mark.parametrize("taken", [2, DEFAULT.lost_workers_most])
async def test_what_a_lost_answer_took_counts_too(
    taken: int, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    """The resend knows nothing of it, nor does the worker before it lists what is pending."""
    first, last = await lost(store, raw, taken - 1, DEFAULT.lost_workers_most - 1)
    await reclaimed(store)
    resent = Store(client, store.name)
    assert await reclaimed(resent) == []
    [entry] = await resent.pending(10)
    assert (entry.key, entry.tries) == (first, taken)
    assert await reclaimed(resent) == []
    await resent.settle((await resent.load([entry]))[0])
    assert [claim.key for claim in await reclaimed(resent)] == [last]


async def test_a_last_chance_that_was_retried_holds_nothing_up(store: Store, raw: redis.asyncio.Redis) -> None:
    first, second = await lost(store, raw, *[DEFAULT.lost_workers_most - 1] * 2)
    [claim] = await reclaimed(store)
    await store.retry([Unsettled(claim, b"{}")])
    assert [(claim.key, claim.tries) for claim in await reclaimed(store)] == [
        (first, 1),
        (second, DEFAULT.lost_workers_most),
    ]


async def test_no_more_than_the_limit_is_taken_and_the_rest_at_once_after(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await in_delivery(store) for _ in range(5)]
    await set_idle(raw, DEFAULT.window_ms, *(task.claim for task in tasks))
    first = await reclaimed(other, limit=2)
    second, wait_s = await swept(other, 2)
    assert wait_s == 0
    third = (await other.look(2)).entries
    assert [*(claim.key for claim in first), *(entry.key for entry in (*second, *third))] == [
        task.key for task in tasks
    ]


async def test_no_more_than_the_limit_is_taken_where_a_step_has_to_look_twice(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    await store.schedule([new_task(0) for _ in range(40)])
    claims = await claimed(store, 40)
    await set_idle(raw, DEFAULT.window_ms, claims[0], *claims[25:])
    assert [claim.key for claim in await reclaimed(other, limit=2)] == [claims[0].key, claims[25].key]


async def test_a_worker_that_dies_between_reclaim_and_load_leaves_a_lease(
    store: Store, other: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*arguments: object) -> list[Claim]:
        raise ConnectionAbortedError

    task = await waiting(store, delay_ms=0)
    monkeypatch.setattr(other, "load", die)
    with pytest.raises(ConnectionAbortedError):
        await reclaimed(other)
    assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, task.claim) <= DEFAULT.lease_ms


async def test_what_was_never_claimed_is_left_to_the_readers(store: Store) -> None:
    await queued(store)
    assert await reclaimed(store) == []


async def test_entries_whose_task_is_gone_are_dropped(store: Store, raw: redis.asyncio.Redis) -> None:
    """No script leaves such an entry; a hand at the keys may."""
    task = await in_delivery(store)
    ids = [(await ask(raw, "XADD", KEYS.queue, "*", "key", key)).decode() for key in ("gone", task.key, "deleted")]
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, store.name, "STREAMS", KEYS.queue, ">")
    await ask(raw, "XDEL", KEYS.queue, ids[2])
    await ask(
        raw,
        *("XCLAIM", KEYS.queue, keys.GROUP, store.name, 0, task.claim.id, *ids, "IDLE", DEFAULT.window_ms, "JUSTID"),
    )
    assert [claim.id for claim in await reclaimed(store)] == [task.claim.id]
    assert [row[0].decode() for row in (await dump(raw))[b"pending"]] == [task.claim.id]
    assert await ask(raw, "XLEN", KEYS.queue) == 1
    assert await counters(raw) == {"scheduled": 1}


async def test_a_waiting_task_that_was_updated_is_taken_with_its_new_record(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    kept, gone = await waiting(store, delay_ms=0), await waiting(store, delay_ms=0)
    await store.cancel([(gone.key, None)])
    assert [claim.key for claim in await reclaimed(other)] == [kept.key]


async def test_a_claim_of_new_entries_does_not_disturb_what_waits(store: Store, raw: redis.asyncio.Redis) -> None:
    parked = await waiting(store, delay_ms=30_000)
    await queued(store)
    await claimed(store, 1)
    assert await state_of(raw, parked.key) == State("waiting", attempts=1, owner=keys.WAITING)
    assert 29_000 < await waits_ms(raw, parked.claim) <= 30_000


async def test_a_look_tells_when_the_next_task_is_due_and_what_is_pending_for_whom(store: Store, other: Store) -> None:
    first = await store.look(10)
    assert (first.due_in_s, first.held, first.is_all_paused) == (None, 0, False)
    await in_due(store)
    await in_delivery(store)
    await waiting(store)
    sweep = await store.look(10)
    assert sweep.due_in_s is not None
    assert TTL_MS / 1000 - 1 < sweep.due_in_s <= TTL_MS / 1000 + 0.001
    assert (sweep.held, (await other.look(10)).held) == (1, 0)


async def test_what_is_due_is_told_and_left_to_a_promotion(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await overdue(store)
    assert (await store.look(10)).due_in_s == 0
    assert await state_of(raw, task.key) == State("due")


async def test_of_a_paused_deployment_a_look_tells_only_that(store: Store, raw: redis.asyncio.Redis) -> None:
    await overdue(store)
    await store.pause_all(True)
    sweep = await store.look(10)
    assert (sweep.is_all_paused, sweep.due_in_s, sweep.entries) == (True, None, [])


@pytest.mark.parametrize("key", ["due", "workers"])
async def test_a_foreign_key_in_the_place_of_another_loop_keeps_no_sweep_from_its_step(
    key: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await waiting(store, delay_ms=0)
    await raw.set(getattr(KEYS, key), "foreign")
    await plan_sweep(store)
    sweep = await store.look(10)
    assert [entry.key for entry in sweep.entries] == [task.key]
    assert sweep.due_in_s == (0 if key == "due" else None)
    await raw.delete(getattr(KEYS, key))  # the check after each test wants its own


@pytest.mark.parametrize("in_ms", [0, 900])
@pytest.mark.parametrize("limit", [0, 10])
async def test_a_look_says_that_its_worker_lives_if_it_has_joined(
    in_ms: int, limit: int, store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    await raw.zadd(KEYS.workers, {store.name: 1})
    for each in (store, other):
        await plan_sweep(store, in_ms)
        await each.look(limit)
    now_ms = redis_ms(await ask(raw, "TIME"))
    score = await raw.zscore(KEYS.workers, store.name)
    assert score is not None
    assert now_ms - 10_000 < int(score) <= now_ms
    assert await raw.zscore(KEYS.workers, other.name) is None


async def test_a_look_that_comes_too_late_says_that_its_worker_lives_and_nothing_else(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await waiting(store, delay_ms=0)
    await raw.zadd(KEYS.workers, {store.name: 1})
    store._clock_offset_ms = (0, 0)  # so the call seems to be as old as the machine
    assert (await store.look(10)).entries == []
    score = await raw.zscore(KEYS.workers, store.name)
    assert score is not None
    assert int(score) > 1
    assert (await state_of(raw, task.key)).owner == "waiting"
