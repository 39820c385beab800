"""What foreign hands put under our names: a script refuses it and changes nothing, or does all of its work in spite of
it."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store import keys
from redis_scheduler.store.audit import audit, balance
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.claim import Entry
from tests.scripts import states
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import DUE, IN_DELIVERY, IN_TURN, MISSING, Task, ask, change, failed, plan_sweep, state_of
from tests.scripts.verbs import VERBS
from tests.support.audit import assert_whole
from tests.support.names import KEYS
from tests.support.store import Store, letters

PLACES = [
    *(
        KEYS.tasks,
        KEYS.due,
        KEYS.queue,
        KEYS.entries,
        KEYS.failures,
        KEYS.dead,
        KEYS.dead_bytes,
        KEYS.paused,
        KEYS.awaiting,
        KEYS.held,
    ),
    *(KEYS.idempotency, KEYS.idempotency_ends, KEYS.counters, KEYS.types, KEYS.sweep),
    *(KEYS.results, KEYS.segment(1)),
]
COUNTERS = [
    "scheduled",
    "delivered",
    "failed",
    "died",
    "expired",
    "cancelled",
    "purged",
    "replayed",
    "ended",
    "dead_dropped",
    "results_dropped",
    "lost",
]
KEPT = f"{KEYS.tag}:kept"
SWEEP = [
    "cursor",
    "next_ms",
    "seen_ms",
    "look_by_ms",
    "held_until_ms",
    "clock_ms",
    "step_ms",
    "rewind_from_ms",
    "rewound",
]
OF_NOBODY = [
    "sign in",
    "token write",
    "token find",
    "token take",
    "page",
    "ledger",
    "pending",
    "retire",
    "tally",
    "note",
    "watch",
    "watch that goes on",
    "alert",
    "alert copy",
]
"""Verbs that write nothing of a task."""

WRITING = [name for name in VERBS if name not in OF_NOBODY]


async def held(raw: redis.asyncio.Redis) -> dict[bytes, Any]:
    """All that Redis holds, less what the group says of the stream, whose last id moves by an entry that is taken
    back."""
    found = await dump(raw)
    found.pop(b"group", None)
    return found


async def done_or_unchanged(name: str, task: Task, store: Store, raw: redis.asyncio.Redis) -> bool:
    """Call the verb; see that nothing was changed if it was refused. Return whether it was done."""
    before = await held(raw)
    try:
        await VERBS[name].call(store, task)
    except (StoreUnavailable, StoreFull):
        assert await held(raw) == before
        return False
    return True


async def mend(store: Store) -> None:
    """Have an audit put right whatever is wrong, and the books balanced. The audit that each test ends with sees
    whether they are."""
    async for _ in audit(store.client, repairs=True):
        pass
    await balance(store.client)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRITING)
async def test_a_foreign_key_leaves_nothing_half_done_and_is_left_alone(
    name: str, place: str, full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    await _call_beside_a_foreign_key(name, place, nullcontext(), store, raw)
    await assert_whole(store.client)
    await ask(raw, "FLUSHALL")
    await store.client.create_group()
    await _call_beside_a_foreign_key(name, place, full(), store, raw)


async def _call_beside_a_foreign_key(
    name: str, place: str, condition: AbstractAsyncContextManager[None], store: Store, raw: redis.asyncio.Redis
) -> None:
    await store.client.ensure_checked()  # so that the verb's script is reached
    task = await VERBS[name].make(store)
    has_kept = await ask(raw, "EXISTS", place)
    if has_kept:
        await ask(raw, "RENAME", place, KEPT)
    await ask(raw, "SET", place, "foreign")
    async with condition:
        await done_or_unchanged(name, task, store, raw)
    assert await ask(raw, "GET", place) == b"foreign"
    await ask(raw, "DEL", place)
    if has_kept:
        await ask(raw, "RENAME", KEPT, place)
    await mend(store)


@pytest.mark.parametrize("value", ["x", "", "1.5", "9223372036854775807", "nan"])
@pytest.mark.parametrize("name", [name for name in WRITING if name != "balance"])
async def test_a_counter_that_is_no_number_keeps_no_task_from_its_way(
    name: str, value: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await VERBS[name].make(store)
    for counter in COUNTERS:
        await ask(raw, "HSET", KEYS.counters, counter, value)
    await VERBS[name].call(store, task)
    assert await state_of(raw, task.key) == VERBS[name].after
    await mend(store)


@pytest.mark.parametrize(
    "value", ["x", "", "-1", "1e400", "nan", "inf", "99999999999999999999999", "(x", "(1-1", "0-0"]
)
@pytest.mark.parametrize("field", SWEEP)
async def test_whatever_stands_in_the_sweeps_fields_the_sweep_goes_on(
    field: str, value: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.waiting(store, delay_ms=0)
    await plan_sweep(store)
    other = await states.in_delivery(store)
    deferred = await states.deferred(store)
    await ask(raw, "HSET", KEYS.sweep, field, value)
    # The first may hold the sweep, as after a gap.
    for _ in range(2):
        sweep = await store.look(10)
        assert 0 <= sweep.wait_s <= 5
        if sweep.must_rewind:
            await store.rewind()
        if sweep.entries:
            break
        await ask(raw, "HDEL", KEYS.sweep, "held_until_ms")
        await plan_sweep(store)
    assert [entry.key for entry in sweep.entries] == [task.key]
    await ask(raw, "HSET", KEYS.sweep, field, value)
    await store.release([other.claim])
    assert (await state_of(raw, other.key)).owner == keys.WAITING
    assert await states.due_ms(raw, deferred.key)


@pytest.mark.parametrize("field", SWEEP)
async def test_whatever_stands_in_the_sweeps_fields_a_retry_is_parked_and_a_claim_released(
    field: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    one, two = await states.in_delivery(store), await states.in_delivery(store)
    for value in ("x", "1e400", "nan", "99999999999999999999999"):
        await ask(raw, "HSET", KEYS.sweep, field, value)
        await store.rewind()
    await ask(raw, "HSET", KEYS.sweep, field, "x")
    assert await store.retry(failed(one)) == [1]
    await ask(raw, "HSET", KEYS.sweep, field, "x")
    assert await store.release([two.claim]) == [1]


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(
    "name", ["schedule", "promote", "promote and claim", "promote in turn", "promote out of a line", "update"]
)
async def test_a_queue_that_takes_no_more_entries_loses_no_task(
    name: str, is_full: bool, full: Full, store: Store, raw: redis.asyncio.Redis
) -> None:
    last = f"{2**64 - 1}-{2**64 - 1}"
    task = await VERBS[name].make(store)
    await ask(raw, "XADD", KEYS.queue, last, "key", "foreign")
    if name == "schedule":
        before = await held(raw)
        async with full() if is_full else nullcontext():
            with pytest.raises((StoreUnavailable, StoreFull)):
                await store.schedule([states.new_task(0), states.new_task(0, "mail"), states.new_task(5_000)])
        assert await held(raw) == before
    else:
        async with full() if is_full else nullcontext():
            assert not await done_or_unchanged(name, task, store, raw)
        assert await state_of(raw, task.key) == {"update": IN_DELIVERY, "promote out of a line": IN_TURN}.get(name, DUE)
    # Nor does it keep an audit from its end.
    assert [finding.kind async for finding in audit(store.client)] == ["stray entry"]
    await ask(raw, "DEL", KEYS.queue)
    await store.client.create_group()
    await mend(store)


async def test_a_batch_that_a_foreign_key_refuses_leaves_nothing(store: Store, raw: redis.asyncio.Redis) -> None:
    for place in (KEYS.tasks, KEYS.entries, KEYS.due, KEYS.queue):
        await ask(raw, "DEL", place)
        await ask(raw, "SET", place, "foreign")
        before = await held(raw)
        with pytest.raises(StoreUnavailable):
            await store.schedule([states.new_task(0, "mail"), states.new_task(1_000, "bill"), states.new_task(0)])
        assert await held(raw) == before
        await ask(raw, "DEL", place)
    await store.client.create_group()


FOREIGN_IDS = ["notanid", "", "-", "+", "(5", "5", "1-", "99999999999999999999-0", b"\xff\xfe"]


@pytest.mark.parametrize("place", FOREIGN_IDS)
async def test_a_place_that_is_no_id_spoils_no_other_task_of_the_batch(
    place: str | bytes, store: Store, raw: redis.asyncio.Redis
) -> None:
    makers = (states.in_due, states.queued, states.in_delivery, states.in_due)
    for ttl_ms in (None, 5_000):
        tasks = [await make(store) for make in reversed(makers)]
        await ask(raw, "HSET", KEYS.entries, tasks[2].key, place)
        _, answers = await store.update([await change(store, task, ttl_ms) for task in tasks])
        assert letters(answers) == "UDUU"
        for task in tasks:
            assert b'"new"' in await states.record_of(raw, task.key)
        assert letters(await store.cancel([(task.key, None) for task in tasks])) == "CCCC"
        for task in tasks:
            assert await state_of(raw, task.key) == MISSING
        await mend(store)


@pytest.mark.parametrize("failure", ["x", "", "99999999999999999999 {}", "-1 {}", "1e3 {}", b"\xff"])
async def test_a_failure_that_says_nothing_keeps_its_task_from_no_end(
    failure: str | bytes, store: Store, raw: redis.asyncio.Redis
) -> None:
    for end in (store.retry, store.defer, store.bury):
        task = await states.in_delivery(store)
        await ask(raw, "HSET", KEYS.failures, task.key, failure)
        [loaded], _ = await store.load([Entry(task.claim.id, task.key)])
        task.claim = loaded
        assert await end(failed(task)) == [1]
        await store.cancel([(task.key, None)])


async def test_what_foreign_hands_wrote_in_a_writers_place_stops_no_write(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await states.in_due(store)
    for verb in ("schedule", "cancel"):
        await ask(raw, "SET", KEYS.writer(store.name, verb), "x")
    await states.in_due(store)
    assert letters(await store.cancel([(task.key, None)])) == "C"


@pytest.mark.parametrize("claims", [2**53, 2**63 - 1])
async def test_however_often_an_entry_was_claimed_it_is_taken(
    claims: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    tasks = [await states.waiting(store, delay_ms=0) for _ in range(3)]
    place = (KEYS.queue, keys.GROUP, keys.WAITING, 0, tasks[1].claim.id)
    await ask(raw, "XCLAIM", *place, "IDLE", 60_000, "RETRYCOUNT", claims, "JUSTID")
    await plan_sweep(store)
    assert [entry.key for entry in (await store.look(10)).entries] == [task.key for task in tasks]


async def test_only_a_full_redis_is_taken_for_one(store: Store, raw: redis.asyncio.Redis, redis_url: str) -> None:
    """Redis names the user in what it refuses."""
    task = await states.overdue(store)
    await ask(raw, "ACL", "SETUSER", "OOM", "on", ">password", "~*", "&*", "+@all")
    client = RedisClient(redis_url.replace("://", "://OOM:password@"), timeout_s=5, keys=KEYS)
    try:
        await client.command("PING")
        await ask(raw, "ACL", "SETUSER", "OOM", "-xadd")
        assert not await done_or_unchanged("promote", task, Store(client, store.name), raw)
        assert await state_of(raw, task.key) == DUE
    finally:
        await client.aclose()
        await ask(raw, "ACL", "DELUSER", "OOM")
