"""promote: moves what is due into the queue, in the order of the due times, and nothing early."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import dump
from tests.scripts.states import (
    DEFERRED,
    DUE,
    IN_DELIVERY,
    QUEUED,
    WEBHOOK,
    State,
    ask,
    deferred,
    due_ms,
    entry_of,
    failed,
    in_delivery,
    in_due,
    new_task,
    overdue,
    queued,
    state_of,
    stored_of,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until


async def queue(raw: redis.asyncio.Redis) -> list[str]:
    return [fields[1].decode() for _, fields in await ask(raw, "XRANGE", KEYS.queue, "-", "+")]


async def overdue_tasks(store: Store, count: int) -> list[str]:
    """Tasks due a millisecond apart, all of them by now; the earliest first."""
    tasks = [new_task(count - number) for number in range(count)]
    await store.schedule(tasks)
    last_ms = int(await store.client.command("ZSCORE", KEYS.due, tasks[0].key))

    async def is_due() -> bool:
        return redis_ms(await store.client.command("TIME")) >= last_ms

    await wait_until(is_due, "all are due", every_s=0.001)
    return [task.key for task in reversed(tasks)]


async def test_what_is_due_is_moved_in_the_order_of_the_due_times(store: Store, raw: redis.asyncio.Redis) -> None:
    in_order = await overdue_tasks(store, 20)
    assert await store.promote() == Promotion(20, None)
    assert await queue(raw) == in_order
    assert [await state_of(raw, key) for key in in_order] == [QUEUED] * 20


async def test_no_more_than_the_limit_is_moved_and_the_earliest_first(store: Store, raw: redis.asyncio.Redis) -> None:
    in_order = await overdue_tasks(store, 7)
    # What is still due now is due in no time at all.
    assert await store.promote(3) == Promotion(3, 0)
    assert await queue(raw) == in_order[:3]
    assert await store.promote(3) == Promotion(3, 0)
    assert await store.promote(3) == Promotion(1, None)
    assert await queue(raw) == in_order


async def test_nothing_is_moved_early_and_the_next_due_time_is_told(store: Store, raw: redis.asyncio.Redis) -> None:
    late, later = await in_due(store), await in_due(store)
    past = await overdue(store)
    promotion = await store.promote()
    assert promotion.moved == 1
    assert promotion.wait_s is not None
    now_ms, next_ms = redis_ms(await ask(raw, "TIME")), await due_ms(raw, late.key)
    assert next_ms is not None
    # The millisecond of the clock that was asked later has begun already.
    assert next_ms - now_ms - 1 <= 1000 * promotion.wait_s < next_ms - now_ms + 1_000
    assert [await state_of(raw, task.key) for task in (past, late, later)] == [QUEUED, DUE, DUE]
    before = await dump(raw)
    assert (await store.promote()).moved == 0
    assert await dump(raw) == before


async def test_a_task_is_moved_in_the_millisecond_of_its_due_time_and_not_before(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [new_task(10) for _ in range(2)]
    [due_at_ms, _] = await store.schedule(tasks)

    async def is_moved() -> bool:
        promotion = await store.promote()
        if not promotion.moved:
            assert promotion.wait_s is not None
            assert promotion.wait_s > 0
        return bool(promotion.moved)

    await wait_until(is_moved, "the tasks are moved", every_s=0)
    for task in tasks:
        entry_id = await entry_of(raw, task.key)
        assert entry_id is not None
        assert due_at_ms <= int(entry_id.split("-")[0]) < due_at_ms + 1_000


async def test_an_empty_due_moves_nothing_and_says_so(store: Store, raw: redis.asyncio.Redis) -> None:
    before = await dump(raw)
    assert await store.promote() == Promotion(0, None)
    assert await dump(raw) == before


async def test_a_deferred_retry_comes_back_with_its_attempts(store: Store, raw: redis.asyncio.Redis) -> None:
    kept = await deferred(store)
    task = await in_delivery(store)
    await store.defer(failed(task, delay_ms=0))

    async def is_moved() -> bool:
        return (await store.promote()).moved == 1

    await wait_until(is_moved, "the retry is moved", every_s=0.001)
    assert await state_of(raw, task.key) == State("queued", attempts=1)
    assert await state_of(raw, kept.key) == DEFERRED


async def test_several_timers_share_the_work_and_move_no_task_twice(store: Store, raw: redis.asyncio.Redis) -> None:
    in_order = await overdue_tasks(store, 30)
    others = [Store(store.client, f"worker-{number}") for number in range(3)]
    moved = [(await other.promote(10)).moved for other in others]
    assert moved == [10, 10, 10]
    assert await queue(raw) == in_order


async def test_what_is_claimed_with_it_is_leased_and_read(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    await store.defer(failed(task, delay_ms=0))
    await store.client.command("ZADD", KEYS.due, 1, task.key)
    in_order = [*await overdue_tasks(store, 3)]
    promotion = await store.promote(most_claims=3)
    assert (promotion.moved, promotion.wait_s) == (4, None)
    assert [claim.key for claim in promotion.claims] == [task.key, *in_order[:2]]
    assert [(claim.attempts, claim.tries) for claim in promotion.claims] == [(1, 1), (0, 1), (0, 1)]
    assert [claim.record.webhook for claim in promotion.claims] == [WEBHOOK] * 3
    for claim in promotion.claims:
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, claim) <= DEFAULT.lease_ms
    assert await state_of(raw, in_order[0]) == IN_DELIVERY
    assert await state_of(raw, in_order[2]) == QUEUED
    assert await store.settle(promotion.claims) == [1, 1, 1]


async def test_what_stood_in_the_queue_before_is_claimed_first(store: Store, raw: redis.asyncio.Redis) -> None:
    first = await queued(store)
    second = await overdue(store)
    promotion = await store.promote(most_claims=10)
    assert [claim.key for claim in promotion.claims] == [first.key]
    assert await state_of(raw, second.key) == QUEUED


async def test_nothing_is_claimed_where_nothing_came_due(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await queued(store)
    assert await store.promote(most_claims=10) == Promotion(0, None)
    assert await state_of(raw, task.key) == QUEUED


async def test_once_its_room_is_used_up_no_more_is_claimed(store: Store, raw: redis.asyncio.Redis) -> None:
    in_order = await overdue_tasks(store, 4)
    size = len(await stored_of(raw, in_order[0]))
    promotion = await Store(store.client, store.name, replace(DEFAULT, promoted_bytes=size + 1)).promote(most_claims=4)
    assert [claim.key for claim in promotion.claims] == in_order[:2]
    assert [(await state_of(raw, key)).place for key in in_order] == ["in delivery"] * 2 + ["queued"] * 2


async def test_what_is_kept_of_failures_takes_room_too(store: Store, raw: redis.asyncio.Redis) -> None:
    in_order = await overdue_tasks(store, 3)
    await ask(raw, "HSET", KEYS.failures, in_order[0], b'1 {"error":"%s","elapsed_ms":1}' % (b"x" * 1_000))
    promotion = await Store(store.client, store.name, replace(DEFAULT, promoted_bytes=1_000)).promote(most_claims=3)
    assert [claim.key for claim in promotion.claims] == in_order[:1]


async def test_an_entry_that_is_no_tasks_is_claimed_and_passed_over(store: Store, raw: redis.asyncio.Redis) -> None:
    foreign = (await ask(raw, "XADD", KEYS.queue, "*", "key", "foreign")).decode()
    first, second = await overdue(store), await overdue(store)
    promotion = await store.promote(most_claims=2)
    assert (promotion.moved, [claim.key for claim in promotion.claims]) == (2, [first.key])
    assert await state_of(raw, second.key) == QUEUED
    # The next look at what is pending here takes it out.
    entries = await store.pending(10)
    assert [entry.id for entry in entries] == [foreign, promotion.claims[0].id]
    assert [claim.key for claim in (await store.load(entries))[0]] == [first.key]
    assert await queue(raw) == [first.key, second.key]
    assert [entry.id for entry in await store.pending(10)] == [promotion.claims[0].id]


async def test_an_entry_that_was_deleted_before_anybody_claimed_it_is_passed_over(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    for claim_with_promotion in (True, False):
        gone = (await ask(raw, "XADD", KEYS.queue, "*", "key", "gone")).decode()
        task = await overdue(store)
        await ask(raw, "XDEL", KEYS.queue, gone)
        if claim_with_promotion:
            assert [claim.key for claim in (await store.promote(most_claims=2)).claims] == [task.key]
        else:
            await store.promote()
            reader = QueueReader(client, store.name)
            assert [entry.key for entry in await reader.claim(2)] == [task.key]
            await reader.aclose()


async def test_what_cannot_be_taken_out_is_not_put(redis_url: str, store: Store, raw: redis.asyncio.Redis) -> None:
    """As where somebody takes rights from the user of a running service: the task would stand twice."""
    [key] = await overdue_tasks(store, 1)
    await ask(raw, "ACL", "SETUSER", "limited", "on", ">password", "~*", "&*", "+@all")
    limited = RedisClient(f"{redis_url.replace('://', '://limited:password@', 1)}", 3, KEYS)
    try:
        await limited.command("TIME")  # this checks that the user may do all that the service needs
        await ask(raw, "ACL", "SETUSER", "limited", "-zrem")
        with pytest.raises(StoreRefused, match="NOPERM for ZREM"):
            await Store(limited, "worker-a").promote()
    finally:
        await limited.aclose()
        await ask(raw, "ACL", "DELUSER", "limited")
    assert await queue(raw) == []
    assert await state_of(raw, key) == DUE
    assert await store.promote() == Promotion(1, None)
    assert await state_of(raw, key) == QUEUED
