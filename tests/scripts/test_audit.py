"""The audit: every fault is found and explained, and put right when asked for; what is sound is never touched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import as_it_is
from redis_scheduler.store.audit import FAULTS, Finding, audit, balance
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.ledger import Ledger
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.script import Script
from redis_scheduler.store.views import Views
from redis_scheduler.store.walk import Suspect, Walk
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import name_shown
from redis_scheduler.task.record import UNREADABLE
from tests.scripts import states
from tests.scripts.contents import counters, dump
from tests.scripts.faults import Found
from tests.scripts.index_faults import SEEDS
from tests.scripts.states import DEAD, DUE, MISSING, QUEUED, ask, change, claimed, due_ms, in_due, state_of
from tests.support.audit import problems
from tests.support.names import KEYS
from tests.support.store import Store, letters
from tests.support.waiting import wait_until

Redis = redis.asyncio.Redis


async def found(client: RedisClient, repairs: bool = False) -> list[Finding]:
    return [finding async for finding in audit(client, repairs, has_all_series=True)]


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


# What holds for all

SOUND = (
    *(states.in_due, states.in_delivery, states.redelivered, states.waiting, states.deferred, states.dead),
    *(states.paused, states.paused_retry, states.awaiting, states.held),
    states.queued,
    states.in_turn,
)
"""Tasks in every state. Those that no claim makes come last; beside the last one what tokens have waits."""


@pytest.mark.parametrize("name", SEEDS)
async def test_a_fault_is_found_and_explained_and_nothing_is_changed(
    name: str, store: Store, client: RedisClient, raw: Redis
) -> None:
    for make in SOUND[:-2]:
        await make(store, None)
    expected, _, _ = await SEEDS[name](store, raw)
    before = await dump(raw)
    findings = await found(client)
    assert by_kind(findings) == expected
    assert len(findings) == sum(map(len, expected.values())), "each is told once"
    for finding in findings:
        subject = finding.subject
        is_index = finding.kind in ("empty type", "wrong sum")
        title = name_shown(subject) if is_index else f"{FAULTS[finding.kind].subject} {subject}"
        assert finding.text.startswith(f"{title} ")
        assert finding.text.endswith(f"; with --repair: {FAULTS[finding.kind].repair}")
        assert "{" not in finding.text.replace(KEYS.tag, "")
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
    await store.resume([key.decode() for key in await ask(raw, "ZRANGE", KEYS.paused, 0, -1)])
    for member in await ask(raw, "ZRANGE", KEYS.awaiting, 0, -1):
        await ask(raw, "ZADD", KEYS.awaiting, 1, member)
    await Limiting(store.client).admit()
    await states.plan_sweep(store)
    await store.look(10)
    for member in await ask(raw, "ZRANGE", KEYS.due, 0, -1):
        await ask(raw, "ZADD", KEYS.due, 1, member)
    await store.promote(in_turn=True)
    claims, _ = await store.load(await store.pending(10))
    claims += await claimed(store, await ask(raw, "XLEN", KEYS.queue) - len(claims))
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


@pytest.mark.parametrize("loss", [("XGROUP", "DESTROY", KEYS.queue, keys.GROUP), ("DEL", KEYS.queue)])
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
    await ask(raw, "ZREM", KEYS.due, task.key)
    await found(client, repairs=True)
    assert await dump(raw) == before


async def test_a_task_is_put_back_into_its_index_at_its_due_time(store: Store, client: RedisClient, raw: Redis) -> None:
    await states.in_due(store, "mail")
    before = await dump(raw)
    await ask(raw, "DEL", KEYS.type_index("mail"))
    await found(client, repairs=True)
    assert await dump(raw) == before


async def test_a_task_put_back_before_all_others_rings_the_bell(store: Store, client: RedisClient, raw: Redis) -> None:
    later, task = await states.in_due(store), await states.overdue(store)
    due_at = await due_ms(raw, task.key)
    await ask(raw, "ZREM", KEYS.due, task.key)
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
    await ask(raw, "HSET", KEYS.tasks, standing.key, "{", lying.key, b'{"due":"\xff')
    await ask(raw, "ZREM", KEYS.due, lying.key)
    before = await dump(raw)
    for repairs in (False, True):
        findings = await found(client, repairs)
        assert by_kind(findings) == {"unreadable record": {standing.key, lying.key}}
        assert all(f"HDEL {KEYS.tasks}" in finding.text for finding in findings)
        assert await dump(raw) == before
    # As the text advises.
    await ask(raw, "HDEL", KEYS.tasks, standing.key, lying.key)
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
    await ask(raw, "HSET", KEYS.tasks, task.key, record)
    assert by_kind(await found(client)) == {"unreadable record": {task.key}}
    assert [claim.record is UNREADABLE for claim in await claimed(store, 2)] == [False, True]
    stored = await Views(client).task(task.key)
    assert stored is not None
    assert (stored.record, stored.state) == (UNREADABLE, "in delivery")
    assert letters(await store.cancel([(sound.key, None), (task.key, stored.record.type)])) == "DD"
    assert by_kind(await found(client, repairs=True)) == {"wrongly listed": {task.key}}
    assert await found(client) == []


async def test_attempts_that_are_no_number_are_none(store: Store, client: RedisClient, raw: Redis) -> None:
    task = await states.queued(store)
    await ask(raw, "HSET", KEYS.failures, task.key, "many")
    [claim] = await claimed(store, 1)
    stored = await Views(client).task(task.key)
    assert stored is not None
    assert (claim.attempts, stored.attempts) == (0, 0)
    assert await store.settle([claim]) == [1]


async def test_a_record_that_cannot_be_read_is_taken_out_of_a_second_place(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.queued(store)
    await ask(raw, "HSET", KEYS.tasks, task.key, "[[")
    await ask(raw, "ZADD", KEYS.due, 1, task.key)
    assert set(by_kind(await found(client, repairs=True))) == {"unreadable record", "several places"}
    assert await state_of(raw, task.key) == QUEUED
    await store.purge()


@pytest.mark.parametrize("name", ["due", "queued", "in delivery", "waiting", "deferred"])
async def test_what_is_lost_is_counted_once(name: str, store: Store, client: RedisClient, raw: Redis) -> None:
    for _ in range(2):
        task = await states.MAKERS[name][0](store)
        await ask(raw, "HDEL", KEYS.tasks, task.key)
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
    await ask(raw, "HDEL", KEYS.tasks, task.key)
    assert "lost" not in (await repaired(client)).counters


async def test_what_is_found_again_is_taken_off_the_lost(store: Store, client: RedisClient, raw: Redis) -> None:
    task = await states.dead(store)
    await ask(raw, "ZREM", KEYS.dead, task.key)
    ledger = await repaired(client)
    assert (ledger.counters["died"], ledger.counters["lost"], ledger.due) == (1, -1, 1)
    assert letters(await store.cancel([(task.key, None)])) == "C"


async def test_a_counter_that_is_no_number_counts_nothing_until_it_is_repaired(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    await ask(raw, "HSET", KEYS.counters, "delivered", "one", b"\xff", b"\xff")
    assert (await Views(client).ledger()).missing == 1
    assert (await repaired(client)).counters["lost"] == 1
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    assert (await Views(client).ledger()).counters["delivered"] == 1


async def test_a_lost_counter_is_counted_as_lost(store: Store, client: RedisClient, raw: Redis) -> None:
    await states.in_due(store)
    assert await store.settle([(await states.in_delivery(store)).claim]) == [1]
    await ask(raw, "HDEL", KEYS.counters, "delivered")
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


GROWS = {"nowhere", "not listed", "no end", "not counted", "wrong sum"}


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
    await ask(raw, "HSET", KEYS.counters, "scheduled", 1)
    async with full(raw):
        with pytest.raises(StoreFull):
            await balance(client)
    assert await balance(client) == 1


@pytest.mark.parametrize("repairs", [False, True])
async def test_labels_that_change_between_the_read_and_the_look_are_no_fault(
    repairs: bool, store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await in_due(store, index_of("order=17"))
    met = [suspect async for suspects in Walk(client).suspects() for suspect in suspects if suspect.what == "task"]
    met += [Suspect("foreign", task.key, listed=index_of("order=18"), head=met[0].head)]
    task.type = index_of("order=18")
    await store.update([replace(await change(store, task), old_listed=index_of("order=17"))])
    before = await dump(raw)
    assert await client.run(Script("audit").bind(KEYS, met, group=keys.GROUP, repair=int(repairs)), as_it_is) == []
    assert await dump(raw) == before


async def test_what_a_terminal_obeys_is_told_escaped(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await raw.zadd(KEYS.due, {"a\x1b[2J\n\u202e": 1})
    [text] = [finding.text async for finding in audit(client, repairs=True)]
    assert text.startswith(r"task a\x1b[2J\n\u202e stands in due")
