"""claim: what is in the queue is claimed, leased and read in one call."""

from dataclasses import replace

import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claiming import Claimed
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import (
    IN_DELIVERY,
    QUEUED,
    WEBHOOK,
    ask,
    deferred,
    in_delivery,
    queued,
    state_of,
    stored_of,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store


async def test_the_oldest_are_claimed_leased_and_read(store: Store, raw: redis.asyncio.Redis) -> None:
    retried = await deferred(store)
    await ask(raw, "ZADD", KEYS.due, 1, retried.key)
    await store.promote()
    tasks = [retried, *[await queued(store) for _ in range(3)]]
    claimed = await store.claim(3)
    assert [claim.key for claim in claimed.claims] == [task.key for task in tasks[:3]]
    assert [(claim.attempts, claim.tries) for claim in claimed.claims] == [(1, 1), (0, 1), (0, 1)]
    assert [claim.record.webhook for claim in claimed.claims] == [WEBHOOK] * 3
    assert claimed.rest == []
    for claim in claimed.claims:
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, claim) <= DEFAULT.lease_ms
    assert await state_of(raw, tasks[1].key) == IN_DELIVERY
    assert await state_of(raw, tasks[3].key) == QUEUED
    assert await store.settle(claimed.claims) == [1, 1, 1]


async def test_what_was_waited_for_comes_first_with_its_lease(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await queued(store) for _ in range(3)]
    reader = QueueReader(store.client, store.name)
    [waited] = await reader.claim(1)
    claimed = await store.claim(1, waited)
    assert [claim.key for claim in claimed.claims] == [task.key for task in tasks[:2]]
    for claim in claimed.claims:
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, claim) <= DEFAULT.lease_ms
    assert await state_of(raw, tasks[2].key) == QUEUED
    [waited] = await reader.claim(1)
    await reader.aclose()
    assert [claim.key for claim in (await store.claim(0, waited)).claims] == [tasks[2].key]


async def test_what_was_waited_for_and_is_anothers_by_now_is_passed_over(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    first, second = await queued(store), await queued(store)
    reader = QueueReader(store.client, store.name)
    [waited] = await reader.claim(1)
    await reader.aclose()
    await ask(raw, "XCLAIM", KEYS.queue, keys.GROUP, "worker-b", 0, waited.id, "JUSTID")
    claimed = await store.claim(1, waited)
    assert [claim.key for claim in claimed.claims] == [second.key]
    assert await store.claim(0, waited) == Claimed()
    assert (await state_of(raw, first.key)).owner == "worker-b"


async def test_what_was_waited_for_and_is_gone_is_left_to_a_load(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await queued(store)
    reader = QueueReader(store.client, store.name)
    [waited] = await reader.claim(1)
    await reader.aclose()
    await ask(raw, "HDEL", KEYS.tasks, task.key)
    claimed = await store.claim(0, waited)
    assert (claimed.claims, claimed.rest) == ([], [waited])
    await store.load(claimed.rest)  # which counts it as lost


async def test_an_empty_queue_brings_nothing(store: Store) -> None:
    assert await store.claim(10) == Claimed()


async def test_what_there_is_no_room_for_is_leased_and_left_to_a_load(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await queued(store) for _ in range(4)]
    size = len(await stored_of(raw, tasks[0].key))
    small = Store(store.client, store.name, replace(DEFAULT, load_bytes=size + 1))
    claimed = await small.claim(4)
    assert [claim.key for claim in claimed.claims] == [task.key for task in tasks[:2]]
    assert [entry.key for entry in claimed.rest] == [task.key for task in tasks[2:]]
    assert [await state_of(raw, task.key) for task in tasks] == [IN_DELIVERY] * 4
    rest, looked_at = await store.load(claimed.rest)
    assert ([claim.key for claim in rest], looked_at) == ([task.key for task in tasks[2:]], 2)
    for claim in rest:
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, claim) <= DEFAULT.lease_ms


async def test_what_is_kept_of_failures_takes_room_too(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await queued(store) for _ in range(2)]
    await ask(raw, "HSET", KEYS.failures, tasks[0].key, b'1 {"error":"%s","elapsed_ms":1}' % (b"x" * 1_000))
    claimed = await Store(store.client, store.name, replace(DEFAULT, load_bytes=1_000)).claim(2)
    assert [claim.key for claim in claimed.claims] == [tasks[0].key]
    assert [entry.key for entry in claimed.rest] == [tasks[1].key]


async def test_an_entry_that_is_no_tasks_is_left_to_a_load_which_takes_it_out(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    foreign = (await ask(raw, "XADD", KEYS.queue, "*", "key", "foreign")).decode()
    task = await queued(store)
    claimed = await store.claim(10)
    assert [claim.key for claim in claimed.claims] == [task.key]
    assert [entry.id for entry in claimed.rest] == [foreign]
    assert await store.load(claimed.rest) == ([], 1)
    assert [entry.id for entry in await store.pending(10)] == [claimed.claims[0].id]


async def test_what_another_has_is_not_claimed(store: Store) -> None:
    task = await in_delivery(store)
    assert await Store(store.client, "worker-b").claim(10) == Claimed()
    assert [entry.key for entry in await store.pending(10)] == [task.key]


async def test_what_a_lost_answer_claimed_is_listed_as_pending_and_a_resend_claims_what_is_left(store: Store) -> None:
    tasks = [await queued(store) for _ in range(3)]
    await store.claim(2)
    assert [claim.key for claim in (await store.claim(2)).claims] == [tasks[2].key]
    assert [entry.key for entry in await store.pending(10)] == [task.key for task in tasks]
