"""The audit: every fault is found and explained, and put right when asked for; what is sound is never touched."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler import keys
from redis_scheduler.audit import FAULTS, LOOK_LIMIT, STEP_BYTES, Finding, _Step, audit, balance
from redis_scheduler.blocking import Bell
from redis_scheduler.errors import StoreFull
from redis_scheduler.models import UNREADABLE
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.store import BATCH_LIMIT, NewTask, Store
from redis_scheduler.views import Ledger, Views
from tests.scripts import states
from tests.scripts.states import (
    DEAD,
    DEFERRED,
    DUE,
    IN_DELIVERY,
    MISSING,
    QUEUED,
    State,
    ask,
    claimed,
    counters,
    due_ms,
    dump,
    new_task,
    state_of,
    typed_keys,
)
from tests.support.audit import problems
from tests.support.waiting import wait_until

Redis = redis.asyncio.Redis
Found = dict[str, set[str]]
"""Of each kind of fault, at what it is found."""

Seed = Callable[[Store, Redis], Awaitable[tuple[Found, str, State]]]
"""Makes a fault; answers what is to be found, a task's key, and where that is to stand after the repair."""

SEEDS: dict[str, Seed] = {}


def seed(function: Seed) -> Seed:
    SEEDS[function.__name__.replace("_", " ")] = function
    return function


async def found(client: RedisClient, repairs: bool = False) -> list[Finding]:
    return [finding async for finding in audit(client, repairs)]


def by_kind(findings: list[Finding]) -> Found:
    return {kind: {f.subject for f in findings if f.kind == kind} for kind in {f.kind for f in findings}}


async def repaired(client: RedisClient) -> Ledger:
    """Put right all that is wrong, which must succeed."""
    await found(client, repairs=True)
    assert await found(client) == []
    await balance(client)
    ledger = await Views(client).ledger()
    assert ledger.is_balanced
    return ledger


# In no place


@seed
async def gone_from_due(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "ZREM", keys.DUE, task.key)
    return {"nowhere": {task.key}}, task.key, DUE


@seed
async def gone_from_due_after_a_failure(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.deferred(store)
    await ask(raw, "ZREM", keys.DUE, task.key)
    return {"nowhere": {task.key}}, task.key, DEFERRED


@seed
async def gone_from_dead(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.dead(store)
    await ask(raw, "ZREM", keys.DEAD, task.key)
    return {"nowhere": {task.key}}, task.key, DEFERRED


@seed
async def gone_from_entries(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HDEL", keys.ENTRIES, task.key)
    return {"nowhere": {task.key}, "stray entry": {task.claim.id}}, task.key, DUE


# An entry that is not there


@seed
async def gone_from_queue(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store, "mail")
    await ask(raw, "XDEL", keys.QUEUE, task.claim.id)
    return {"no entry": {task.key}}, task.key, QUEUED


@seed
async def gone_from_queue_in_delivery(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    await ask(raw, "XDEL", keys.QUEUE, task.claim.id)
    return {"no entry": {task.key}, "stray pending": {task.claim.id}}, task.key, QUEUED


@seed
async def in_the_entry_of_another(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, other = await states.in_delivery(store), await states.queued(store)
    await ask(raw, "HSET", keys.ENTRIES, task.key, other.claim.id)
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_of_no_id(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HSET", keys.ENTRIES, task.key, "no id")
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_by_half_its_id(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HSET", keys.ENTRIES, task.key, task.claim.id.partition("-")[0])
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_of_another_service(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XDEL", keys.QUEUE, task.claim.id)
    entry_id: bytes = await ask(raw, "XADD", keys.QUEUE, "*", "other", task.key)
    await ask(raw, "HSET", keys.ENTRIES, task.key, entry_id)
    return {"no entry": {task.key}, "stray entry": {entry_id.decode()}}, task.key, QUEUED


@seed
async def in_an_entry_with_more_fields(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XDEL", keys.QUEUE, task.claim.id)
    entry_id: bytes = await ask(raw, "XADD", keys.QUEUE, "*", "key", task.key, "more", "1")
    await ask(raw, "HSET", keys.ENTRIES, task.key, entry_id)
    return {"no entry": {task.key}, "stray entry": {entry_id.decode()}}, task.key, QUEUED


# In several places


@seed
async def in_due_and_in_delivery(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store, "mail")
    await ask(raw, "ZADD", keys.DUE, 1, task.key)
    return {"several places": {task.key}}, task.key, IN_DELIVERY


@seed
async def in_due_and_dead(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.dead(store, "mail")
    await ask(raw, "ZADD", keys.DUE, 1, task.key)
    return {"several places": {task.key}, "not listed": {task.key}}, task.key, DEFERRED


@seed
async def in_the_queue_and_dead(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "ZADD", keys.DEAD, 1, task.key)
    return {"several places": {task.key}}, task.key, QUEUED


@seed
async def in_all_three_places(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    await ask(raw, "ZADD", keys.DEAD, 1, task.key)
    await ask(raw, "ZADD", keys.DUE, 1, task.key)
    return {"several places": {task.key}}, task.key, IN_DELIVERY


@seed
async def in_due_and_in_an_entry_that_is_gone(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(raw, "HSET", keys.ENTRIES, task.key, "1-1")
    return {"several places": {task.key}}, task.key, DUE


@seed
async def dead_and_in_an_entry_that_is_gone(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.dead(store, "mail")
    await ask(raw, "HSET", keys.ENTRIES, task.key, "1-1")
    return {"several places": {task.key}}, task.key, DEAD


# Without a record


def seed_without_a_record(name: str) -> None:
    async def without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
        task = await states.MAKERS[name][0](store)
        await ask(raw, "HDEL", keys.TASKS, task.key)
        return {"no record": {task.key}}, task.key, MISSING

    SEEDS[f"{name} without a record"] = without_a_record


for state in states.MAKERS:
    if state != "missing":
        seed_without_a_record(state)


@seed
async def in_all_places_of_a_type_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.redelivered(store, "mail")
    await ask(raw, "ZADD", keys.DEAD, 1, task.key)
    await ask(raw, "ZADD", keys.DUE, 1, task.key)
    await ask(raw, "HDEL", keys.TASKS, task.key)
    return {"no record": {task.key}, "wrongly listed": {task.key}}, task.key, MISSING


@seed
async def in_an_entry_of_no_id_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "HSET", keys.ENTRIES, task.key, "no id")
    return {"no record": {task.key}}, task.key, MISSING


@seed
async def a_failure_of_no_task(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "HSET", keys.FAILURES, task.key, b"1 " + states.FAILURE)
    return {"stray failure": {task.key}}, task.key, MISSING


# Entries and pending ids of nobody


@seed
async def a_second_entry(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    entry_id: bytes = await ask(raw, "XADD", keys.QUEUE, "*", "key", task.key)
    return {"stray entry": {entry_id.decode()}}, task.key, IN_DELIVERY


@seed
async def an_entry_of_a_waiting_task_that_a_worker_has(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    entry_id: bytes = await ask(raw, "XADD", keys.QUEUE, "*", "key", task.key)
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", keys.QUEUE, ">")
    return {"stray entry": {entry_id.decode()}}, task.key, DUE


@seed
async def an_entry_that_is_not_of_this_service(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    entry_id: bytes = await ask(raw, "XADD", keys.QUEUE, "*", "other", task.key)
    return {"stray entry": {entry_id.decode()}}, task.key, QUEUED


@seed
async def a_pending_id_of_no_entry(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    await ask(raw, "XDEL", keys.QUEUE, task.claim.id)
    for place in (keys.TASKS, keys.ENTRIES):
        await ask(raw, "HDEL", place, task.key)
    return {"stray pending": {task.claim.id}}, task.key, MISSING


# Passed by: the group is past the entry, and nobody has it


@seed
async def of_a_consumer_that_was_deleted(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store, "mail")
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", keys.QUEUE, ">")
    assert await ask(raw, "XGROUP", "DELCONSUMER", keys.QUEUE, keys.GROUP, "worker-b") == 1
    return {"forgotten": {task.claim.id}}, task.key, QUEUED


@seed
async def acknowledged_by_another(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.redelivered(store)
    await ask(raw, "XACK", keys.QUEUE, keys.GROUP, task.claim.id)
    return {"forgotten": {task.claim.id}}, task.key, State("queued", attempts=1)


@seed
async def passed_by(store: Store, raw: Redis) -> tuple[Found, str, State]:
    tasks = [await states.queued(store) for _ in range(3)]
    await ask(raw, "XGROUP", "SETID", keys.QUEUE, keys.GROUP, "$")
    return {"forgotten": {task.claim.id for task in tasks}}, tasks[1].key, QUEUED


@seed
async def passed_by_for_ever(store: Store, raw: Redis) -> tuple[Found, str, State]:
    tasks = [await states.queued(store) for _ in range(3)]
    # What is queued anew is behind this too.
    await ask(raw, "XGROUP", "SETID", keys.QUEUE, keys.GROUP, f"{2**64 - 1}-0")
    return {"forgotten": {task.claim.id for task in tasks}}, tasks[1].key, QUEUED


@seed
async def passed_by_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XGROUP", "SETID", keys.QUEUE, keys.GROUP, "$")
    await ask(raw, "HDEL", keys.TASKS, task.key)
    return {"no record": {task.key}}, task.key, MISSING


# Types


@seed
async def not_in_the_index_of_its_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_delivery(store, "mail"), await states.in_due(store, "mail")
    await ask(raw, "ZREM", keys.type_index("mail"), task.key)
    return {"not listed": {task.key}}, task.key, IN_DELIVERY


@seed
async def the_only_one_of_its_type_and_not_in_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "ZREM", keys.type_index("mail"), task.key)
    return {"not listed": {task.key}, "empty type": {"mail"}}, task.key, DUE


@seed
async def of_a_type_that_is_not_named(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, "mail"), await states.in_due(store, "bill")
    await ask(raw, "SREM", keys.TYPES, "mail")
    return {"not listed": {task.key}}, task.key, DUE


@seed
async def dead_and_in_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.dead(store, "mail"), await states.in_due(store, "mail")
    await ask(raw, "ZADD", keys.type_index("mail"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DEAD


@seed
async def gone_but_for_the_index(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "ZADD", keys.type_index("mail"), 1, task.key)
    await ask(raw, "SADD", keys.TYPES, "mail")
    return {"wrongly listed": {task.key}}, task.key, MISSING


@seed
async def in_the_index_of_another_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.in_due(store, "mail"), await states.in_due(store, "bill")
    await ask(raw, "ZADD", keys.type_index("bill"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, DUE


@seed
async def in_an_index_without_a_type(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, _ = await states.queued(store), await states.in_due(store, "bill")
    await ask(raw, "ZADD", keys.type_index("bill"), 1, task.key)
    return {"wrongly listed": {task.key}}, task.key, QUEUED


@seed
async def a_type_without_tasks(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store, "mail")
    await ask(raw, "SADD", keys.TYPES, "bill")
    return {"empty type": {"bill"}}, task.key, DUE


# Counters


@seed
async def a_counter_that_is_no_number(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(
        raw, "HSET", keys.COUNTERS, "died", "many", "failed", "007", "lost", "1e3", "cancelled", "-", "others", "x"
    )
    return {"no number": {"died", "failed", "lost", "cancelled"}}, task.key, DUE


# What holds for all

SOUND = (
    *(states.in_due, states.in_delivery, states.redelivered, states.waiting, states.deferred, states.dead),
    states.queued,
)
"""Tasks in every state; the queued one last, as the others are made by claims."""


@pytest.mark.parametrize("name", SEEDS)
async def test_a_fault_is_found_and_explained_and_nothing_is_changed(
    name: str, store: Store, client: RedisClient, raw: Redis
) -> None:
    for make in SOUND[:-1]:
        await make(store, None)
    expected, _, _ = await SEEDS[name](store, raw)
    before = await dump(raw)
    findings = await found(client)
    assert by_kind(findings) == expected
    assert len(findings) == sum(map(len, expected.values())), "each is told once"
    for finding in findings:
        assert finding.text.startswith(f"{FAULTS[finding.kind].subject} {finding.subject} ")
        assert finding.text.endswith(f"; with --repair: {FAULTS[finding.kind].repair}")
        assert "{" not in finding.text.replace("{rs:0}", "")
    assert await dump(raw) == before
    assert await problems(raw) == [finding.text for finding in findings]
    await repaired(client)


@pytest.mark.parametrize("name", SEEDS)
async def test_a_repair_brings_the_task_where_it_belongs_and_leaves_no_fault(
    name: str, store: Store, client: RedisClient, raw: Redis
) -> None:
    expected, key, state = await SEEDS[name](store, raw)
    findings = await found(client, repairs=True)
    if "not listed" in expected:
        # The task that is put back into the index is what its type was without.
        expected.pop("empty type", None)
    assert by_kind(findings) == expected
    assert all("; repaired: " in finding.text for finding in findings)
    assert await found(client) == []
    assert await state_of(raw, key) == state
    await balance(client)
    assert (await Views(client).ledger()).is_balanced
    before = await dump(raw)
    assert await found(client, repairs=True) == []
    assert await balance(client) == 0
    assert await dump(raw) == before


@pytest.mark.parametrize("name", SEEDS)
async def test_after_a_repair_every_task_is_delivered_once(
    name: str, store: Store, client: RedisClient, raw: Redis
) -> None:
    _, key, state = await SEEDS[name](store, raw)
    await repaired(client)
    for member in await ask(raw, "ZRANGE", keys.DUE, 0, -1):
        await ask(raw, "ZADD", keys.DUE, 1, member)
    await store.promote()
    claims, _ = await store.load(await store.pending(10))
    claims += await claimed(store, await ask(raw, "XLEN", keys.QUEUE) - len(claims))
    assert [claim.key for claim in claims].count(key) == (state.place not in ("missing", "dead"))
    assert await store.settle(claims) == [1] * len(claims)
    assert await state_of(raw, key) == (DEAD if state == DEAD else MISSING)


@pytest.mark.parametrize("type_name", [None, "mail"])
async def test_what_is_sound_is_never_found_nor_changed(
    type_name: str | None, store: Store, client: RedisClient, raw: Redis
) -> None:
    for make in SOUND:
        await make(store, type_name)
    before = await dump(raw)
    assert await found(client, repairs=True) == []
    assert await balance(client) == 0
    assert await dump(raw) == before


async def test_an_empty_redis_is_sound(client: RedisClient) -> None:
    assert await found(client, repairs=True) == []


@pytest.mark.parametrize("loss", [("XGROUP", "DESTROY", keys.QUEUE, keys.GROUP), ("DEL", keys.QUEUE)])
async def test_a_group_that_is_missing_is_made(
    loss: tuple[str, ...], store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.in_delivery(store)
    await ask(raw, *loss)
    findings = await found(client, repairs=True)
    assert by_kind(findings) == ({} if loss[0] == "XGROUP" else {"no entry": {task.key}})
    assert await state_of(raw, task.key) == QUEUED
    assert [claim.key for claim in await claimed(store, 1)] == [task.key]


# What a repair does


async def test_a_task_is_put_back_at_its_due_time_and_keeps_its_place_in_the_index(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.in_due(store, "mail")
    before = await dump(raw)
    await ask(raw, "ZREM", keys.DUE, task.key)
    await found(client, repairs=True)
    assert await dump(raw) == before


async def test_a_task_is_put_back_into_its_index_at_its_due_time(store: Store, client: RedisClient, raw: Redis) -> None:
    await states.in_due(store, "mail")
    before = await dump(raw)
    await ask(raw, "DEL", keys.type_index("mail"))
    await found(client, repairs=True)
    assert await dump(raw) == before


async def test_a_task_put_back_before_all_others_rings_the_bell(store: Store, client: RedisClient, raw: Redis) -> None:
    later, task = await states.in_due(store), await states.overdue(store)
    due_at = await due_ms(raw, task.key)
    await ask(raw, "ZREM", keys.DUE, task.key)
    async with listening(client) as rings:
        before = len(rings)
        await found(client, repairs=True)
        await wait_until(lambda: len(rings) > before, "the bell rang")
    assert await due_ms(raw, task.key) == due_at
    assert (await store.promote()).moved == 1
    assert await state_of(raw, later.key) == DUE


@asynccontextmanager
async def listening(client: RedisClient) -> AsyncIterator[list[None]]:
    rings: list[None] = []
    task = asyncio.create_task(Bell(client).listen(lambda: rings.append(None)))
    await wait_until(lambda: rings, "it listens")
    try:
        yield rings
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_record_that_cannot_be_read_is_told_and_left(store: Store, client: RedisClient, raw: Redis) -> None:
    standing, lying = await states.in_due(store, "mail"), await states.in_due(store)
    await ask(raw, "HSET", keys.TASKS, standing.key, "{", lying.key, b'{"due":"\xff')
    await ask(raw, "ZREM", keys.DUE, lying.key)
    before = await dump(raw)
    for repairs in (False, True):
        findings = await found(client, repairs)
        assert by_kind(findings) == {"unreadable record": {standing.key, lying.key}}
        assert all("HDEL {rs:0}:tasks" in finding.text for finding in findings)
        assert await dump(raw) == before
    # As the text advises.
    await ask(raw, "HDEL", keys.TASKS, standing.key, lying.key)
    assert (await repaired(client)).counters["lost"] == 2


@pytest.mark.parametrize(
    "record",
    [
        b"{}",
        b'{"due":1,"webhook":"localhost","ttl":1}',
        b'{"due":1,"webhook":"http://[/","ttl":1}',
        b'{"due":9e99,"webhook":"http://localhost/","ttl":1}',
        b'{"due":999999999999999999,"webhook":"http://localhost/","ttl":1}',
        b'{"due":-99999999999999999,"webhook":"http://localhost/","ttl":1}',
        b'{"due":1,"webhook":' + 100_000 * b"[",
    ],
)
async def test_a_record_that_says_nothing_is_loaded_as_unreadable_and_not_trusted(
    record: bytes, store: Store, client: RedisClient, raw: Redis
) -> None:
    sound, task = await states.queued(store), await states.queued(store, "mail")
    await ask(raw, "HSET", keys.TASKS, task.key, record)
    assert by_kind(await found(client)) == {"unreadable record": {task.key}}
    assert [claim.record is UNREADABLE for claim in await claimed(store, 2)] == [False, True]
    [stored] = await Views(client).tasks([task.key])
    assert stored is not None
    assert (stored.record, stored.state) == (UNREADABLE, "in delivery")
    assert await store.cancel([(sound.key, None), (task.key, stored.record.type)]) == "DD"
    assert by_kind(await found(client, repairs=True)) == {"wrongly listed": {task.key}}
    assert await found(client) == []


async def test_attempts_that_are_no_number_are_none(store: Store, client: RedisClient, raw: Redis) -> None:
    task = await states.queued(store)
    await ask(raw, "HSET", keys.FAILURES, task.key, "many")
    [claim] = await claimed(store, 1)
    [stored] = await Views(client).tasks([task.key])
    assert stored is not None
    assert (claim.attempts, stored.attempts) == (0, 0)
    assert await store.settle([claim]) == [1]


async def test_a_record_that_cannot_be_read_is_taken_out_of_a_second_place(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.queued(store)
    await ask(raw, "HSET", keys.TASKS, task.key, "[[")
    await ask(raw, "ZADD", keys.DUE, 1, task.key)
    assert set(by_kind(await found(client, repairs=True))) == {"unreadable record", "several places"}
    assert await state_of(raw, task.key) == QUEUED
    await store.purge()


@pytest.mark.parametrize("name", ["due", "queued", "in delivery", "waiting", "deferred"])
async def test_what_is_lost_is_counted_once(name: str, store: Store, client: RedisClient, raw: Redis) -> None:
    for _ in range(2):
        task = await states.MAKERS[name][0](store)
        await ask(raw, "HDEL", keys.TASKS, task.key)
    await found(client, repairs=True)
    assert (await Views(client).ledger()).missing == 2
    before = await counters(raw)
    assert await balance(client) == 2
    assert await counters(raw) == before | {"lost": 2}
    assert await balance(client) == 0


async def test_the_record_of_a_dead_letter_that_is_lost_is_counted_already(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.dead(store)
    await ask(raw, "HDEL", keys.TASKS, task.key)
    assert "lost" not in (await repaired(client)).counters


async def test_what_is_found_again_is_taken_off_the_lost(store: Store, client: RedisClient, raw: Redis) -> None:
    task = await states.dead(store)
    await ask(raw, "ZREM", keys.DEAD, task.key)
    ledger = await repaired(client)
    assert (ledger.counters["died"], ledger.counters["lost"], ledger.due) == (1, -1, 1)
    assert await store.cancel([(task.key, None)]) == "C"


async def test_a_counter_that_is_no_number_counts_nothing_until_it_is_repaired(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    await ask(raw, "HSET", keys.COUNTERS, "delivered", "one", b"\xff", b"\xff")
    assert (await Views(client).ledger()).missing == 1
    assert (await repaired(client)).counters["lost"] == 1
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    assert (await Views(client).ledger()).counters["delivered"] == 1


async def test_a_lost_counter_is_counted_as_lost(store: Store, client: RedisClient, raw: Redis) -> None:
    await states.in_due(store)
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    await ask(raw, "HDEL", keys.COUNTERS, "delivered")
    assert await found(client) == []
    assert (await Views(client).ledger()).missing == 1
    assert (await repaired(client)).counters["lost"] == 1


# A full Redis


@asynccontextmanager
async def full(raw: Redis) -> AsyncIterator[None]:
    await ask(raw, "CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        await ask(raw, "CONFIG", "SET", "maxmemory", 0)


GROWS = {"nowhere", "not listed"}


@pytest.mark.parametrize("name", SEEDS)
async def test_a_full_redis_takes_what_is_removed_or_queued_anew_and_refuses_what_grows_whole(
    name: str, store: Store, client: RedisClient, raw: Redis
) -> None:
    expected, key, state = await SEEDS[name](store, raw)
    before = await dump(raw)
    async with full(raw):
        if expected.keys() & GROWS and "several places" not in expected:
            with pytest.raises(StoreFull):
                await found(client, repairs=True)
            assert await dump(raw) == before
        else:
            await found(client, repairs=True)
            assert await state_of(raw, key) == state
    await repaired(client)
    assert await state_of(raw, key) == state


async def test_a_full_redis_refuses_to_count_what_is_lost(store: Store, client: RedisClient, raw: Redis) -> None:
    await ask(raw, "HSET", keys.COUNTERS, "scheduled", 1)
    async with full(raw):
        with pytest.raises(StoreFull):
            await balance(client)
    assert await balance(client) == 1


# Bounds


@pytest.fixture
def answers(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each answer that the client gets."""
    sizes: list[int] = []
    resending = client.resending

    async def noted(send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await resending(send)
        sizes.append(size_of(answer))
        return answer

    monkeypatch.setattr(client, "resending", noted)
    return sizes


def size_of(answer: Any) -> int:
    return sum(map(size_of, answer)) if isinstance(answer, list) else len(answer) if isinstance(answer, bytes) else 8


async def test_large_records_make_no_large_answer(store: Store, client: RedisClient, answers: list[int]) -> None:
    large = b'"' + 250_000 * b"x" + b'"'
    tasks = [
        NewTask(keys.new_task_key(), 600_000, states.tail(data=large, type_name="mail"), "mail") for _ in range(60)
    ]
    for start in range(0, len(tasks), 10):
        await store.schedule(tasks[start : start + 10])
    answers.clear()
    assert await found(client) == []
    # HSCAN answers whole buckets, which hold more than it was asked for: no body of a task comes with them.
    assert max(answers) < 100_000
    assert len(answers) > 60 * 250_000 // (2 * STEP_BYTES), "steps are small where records are large"


def test_a_small_record_before_large_ones_makes_no_large_step() -> None:
    step = _Step()
    for limit in (2, 4, 8):
        step.note(1, 5)
        assert step.limit == limit
    step.note(7, 7 * STEP_BYTES)
    assert step.limit == 1


async def test_every_stray_entry_and_pending_id_of_many_is_found(store: Store, client: RedisClient, raw: Redis) -> None:
    ids = {await ask(raw, "XADD", keys.QUEUE, "*", "key", "gone") for _ in range(2 * LOOK_LIMIT + 50)}
    strays = {entry_id.decode() for entry_id in ids}
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", keys.QUEUE, ">")
    assert by_kind(await found(client)) == {"stray entry": strays}
    await ask(raw, "XDEL", keys.QUEUE, *ids)
    assert by_kind(await found(client)) == {"stray pending": strays}
    assert len(await found(client, repairs=True)) == len(strays)
    assert await found(client) == []


async def test_small_records_are_read_many_at_once_and_every_one_is_looked_at(
    store: Store, client: RedisClient, raw: Redis, answers: list[int]
) -> None:
    tasks = [new_task(number % 2 * 600_000, "mail") for number in range(12 * BATCH_LIMIT)]
    for start in range(0, len(tasks), BATCH_LIMIT):
        await store.schedule(tasks[start : start + BATCH_LIMIT])
    await claimed(store, BATCH_LIMIT + 1)
    answers.clear()
    assert await found(client) == []
    assert len(answers) < len(tasks) // 6
    await ask(raw, "DEL", keys.DUE, keys.QUEUE, keys.ENTRIES)
    assert by_kind(await found(client)) == {"nowhere": {task.key for task in tasks}}
    assert len(await found(client, repairs=True)) == len(tasks)
    assert await typed_keys(raw) == {"mail": {task.key for task in tasks}}
    assert (await Views(client).ledger()).due == len(tasks)
