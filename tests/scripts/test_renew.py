"""renew: starts the lease of a delivery in flight again, and never takes another's."""

from dataclasses import astuple

import pytest
import redis.asyncio

from redis_scheduler.engine.observer import Log
from redis_scheduler.store import keys
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.views import Views
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters, dump, traces
from tests.scripts.states import (
    MAKERS,
    WEBHOOK,
    ask,
    claimed,
    entry_of,
    in_delivery,
    new_task,
    reclaimed,
    redelivered,
    set_idle,
    state_of,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store


@pytest.mark.parametrize("state", MAKERS)
async def test_only_what_is_in_delivery_here_is_renewed(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    whole = await dump(raw)
    expected = {task.claim.id} if before.place == "in delivery" else set()
    assert await store.renew([task.claim.id]) == expected
    assert await dump(raw) == whole
    assert await state_of(raw, task.key) == before


async def test_a_renewed_lease_starts_again_and_the_count_of_claims_stays(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    before = await state_of(raw, task.key)
    for idle_ms in (0, 59_000, 90_000):
        await set_idle(raw, idle_ms, task.claim)
        assert await store.renew([task.claim.id]) == {task.claim.id}
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, task.claim) <= DEFAULT.lease_ms
    assert await state_of(raw, task.key) == before


async def test_a_renewal_never_steals(store: Store, client: RedisClient, raw: redis.asyncio.Redis) -> None:
    mine, lost = await in_delivery(store), await in_delivery(store)
    await set_idle(raw, 60_000, lost.claim)
    other = Store(client, "worker-b")
    assert [claim.key for claim in await reclaimed(other)] == [lost.key]
    assert await store.renew([mine.claim.id, lost.claim.id]) == {mine.claim.id}
    assert (await state_of(raw, lost.key)).owner == "worker-b"


async def test_more_than_a_batch_is_renewed_in_any_order(store: Store, raw: redis.asyncio.Redis) -> None:
    count = 2 * DEFAULT.batch_limit + 1
    for _ in range(3):
        await store.schedule([new_task(0) for _ in range(count // 3 + 1)])
    ids = [claim.id for claim in await claimed(store, count)]
    mixed = ids[::2] + ids[1::2][::-1]
    assert await store.renew(mixed) == set(ids)


async def test_a_load_leases_what_was_claimed_and_leaves_out_what_is_gone(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await in_delivery(store) for _ in range(3)]
    await store.cancel([(tasks[1].key, None)])
    await set_idle(raw, 59_000, tasks[0].claim, tasks[2].claim)
    loaded, _ = await store.load([Entry(task.claim.id, task.key) for task in tasks])
    assert [astuple(claim) for claim in loaded] == [astuple(tasks[at].claim) for at in (0, 2)]
    for claim in loaded:
        assert await waits_ms(raw, claim) > DEFAULT.lease_ms - 1_000
        assert await entry_of(raw, claim.key) == claim.id


async def loaded_as(store: Store, entries: list[Entry]) -> tuple[list[tuple[object, ...]], int]:
    """What a load says, as values."""
    claims, looked_at = await store.load(entries)
    return [astuple(claim) for claim in claims], looked_at


async def test_a_load_takes_out_what_has_no_record_and_counts_it_as_lost(
    store: Store, raw: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [await redelivered(store), await in_delivery(store), await in_delivery(store)]
    await ask(raw, "HDEL", KEYS.tasks, tasks[0].key, tasks[2].key)
    entries = [Entry(task.claim.id, task.key) for task in tasks]
    store.on_records_missing = Log("").records_missing
    with caplog.at_level("WARNING"):
        assert await loaded_as(store, entries) == ([astuple(tasks[1].claim)], 3)
    [line] = caplog.records
    assert (line.message, line.fields["tasks"], line.fields["key"]) == ("record-missing", 2, tasks[0].key)  # type: ignore[attr-defined]
    assert [entry.id for entry in await store.pending(10)] == [tasks[1].claim.id]
    for task in (tasks[0], tasks[2]):
        assert await traces(raw, task) == []
    assert (await counters(raw))["lost"] == 2
    assert await loaded_as(store, entries) == ([astuple(tasks[1].claim)], 3)
    assert (await counters(raw))["lost"] == 2


async def test_a_load_reads_no_more_than_there_is_room_for_and_leases_all(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    data = b'"' + b"x" * (DEFAULT.load_bytes // 3) + b'"'
    tasks = [NewTask(new_task_key(), 0, record_tail(WEBHOOK, 0, None, data), None) for _ in range(5)]
    for task in tasks:
        await store.schedule([task])
    reader = QueueReader(store.client, store.name)
    entries = await reader.claim(10)
    await reader.aclose()
    found = []
    while entries:
        claims, looked_at = await store.load(entries)
        for row in await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 10):
            assert row[2] >= DEFAULT.window_ms - DEFAULT.lease_ms
        assert len(claims) == looked_at == min(2, len(entries))
        found += claims
        entries = entries[looked_at:]
    assert [claim.key for claim in found] == [task.key for task in tasks]
    assert {claim.record.data for claim in found} == {data}


async def test_a_load_and_a_read_have_no_room_for_all_that_is_kept_of_many_failures(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [NewTask(new_task_key(), 0, record_tail(WEBHOOK, 0, None, b"1"), None) for _ in range(5)]
    await store.schedule(tasks)
    failure = b'1 {"error":"no","elapsed_ms":1,"answer":"%s"}' % (b"x" * (DEFAULT.load_bytes // 3))
    for task in tasks:
        await ask(raw, "HSET", KEYS.failures, task.key, failure)
    reader = QueueReader(store.client, store.name)
    entries = await reader.claim(10)
    await reader.aclose()
    claims, looked_at = await store.load(entries)
    assert (len(claims), looked_at) == (2, 2)
    found = await Views(store.client)._read([task.key for task in tasks], DEFAULT.load_bytes)
    assert len(found) == 3, "the room and one failure"


async def test_a_load_reads_one_record_at_least(store: Store) -> None:
    data = b'"' + b"x" * 2 * DEFAULT.load_bytes + b'"'
    await store.schedule([NewTask(new_task_key(), 0, record_tail(WEBHOOK, 0, None, data), None)])
    reader = QueueReader(store.client, store.name)
    [claim], looked_at = await store.load(await reader.claim(10))
    await reader.aclose()
    assert looked_at == 1
    assert claim.record.data == data
