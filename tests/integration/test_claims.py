"""Claims, sweeps, recoveries and stops that meet: an entry is begun once, and none is left behind."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store import keys
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claiming import Claimed
from redis_scheduler.store.claims import RetryAnswer
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import CONCURRENCY, TIMING, OneShard, schedule, working
from tests.support.asked import asked, calls_of
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import server_version
from tests.support.store import SCRIPTS, Store
from tests.support.waiting import wait_until


async def pending(raw: redis.asyncio.Redis) -> list[Any]:
    return await raw.xpending_range(KEYS.queue, keys.GROUP, "-", "+", 1000)


async def claimed(client: RedisClient, name: str, count: int) -> list[Entry]:
    """Claim entries for a consumer, and tell nobody."""
    reader = QueueReader(client, name)
    entries = await reader.claim(count)
    await reader.aclose()
    assert len(entries) == count
    return entries


async def stopped(engine: OneShard, grace_s: float = 10) -> None:
    """Run a worker whose stop is set: it finishes what it has."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    stop.set()
    async with asyncio.timeout(20):
        await engine.deliver(stop, hurry, grace_s)


async def test_what_is_being_loaded_is_not_loaded_by_another_and_delivered_twice(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 4)
    entries = await claimed(client, store.name, 4)
    load, may_load = store.load, asyncio.Event()

    async def slow_load(part: list[Entry]) -> tuple[list[Claim], int]:
        # The answer was given before the settle of the other load's deliveries, and comes after it.
        found = await load(part)
        await may_load.wait()
        return found

    with patch.object(store, "load", slow_load):
        loading = asyncio.create_task(engine.intake.take(entries))
        await asyncio.sleep(0.05)
        recovering = asyncio.create_task(engine.intake.recover())
        await asyncio.sleep(0.05)
        may_load.set()
        await asyncio.gather(loading, recovering)
    await wait_until(lambda: len(receiver.arrivals) == 4, "all were delivered")
    await stopped(engine)
    assert set(receiver.times_by_key.values()) == {1}
    assert len(receiver.arrivals) == 4


async def test_its_own_retry_that_comes_back_after_a_stall_is_delivered_and_not_stranded(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    (key,) = await schedule(store, receiver.url)
    entries = await claimed(client, store.name, 1)
    await engine.intake.take(entries)
    await wait_until(lambda: receiver.arrivals, "the first attempt is under way")
    # Another took it over meanwhile, failed it and parked it; now it comes back here.
    await raw.hset(KEYS.failures, key, '1 {"error":"by another"}')
    await raw.xclaim(KEYS.queue, keys.GROUP, "waiting", 0, [entries[0].id], idle=DEFAULT.window_ms, justid=True)
    reclaimed = (await store.look(10)).entries
    assert [entry.key for entry in reclaimed] == [key]
    await engine.intake.take(reclaimed)
    receiver.may_answer.set()
    await stopped(engine)
    assert await pending(raw) == []
    assert await raw.hget(KEYS.counters, "delivered") == b"1"
    assert engine.slots.free == CONCURRENCY


async def test_a_retry_that_comes_before_the_answer_to_its_own_record_is_taken_with_that_answer(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.statuses = [503, 200]
    (key,) = await schedule(store, receiver.url)
    entries = await claimed(client, store.name, 1)
    await engine.intake.take(entries)
    await wait_until(lambda: engine.outcomes.unsettled, "the attempt has failed")
    # The record is in Redis and its answer on the way; meanwhile the sweep brings the retry.
    assert await store.retry([failed for _, failed in engine.outcomes.unsettled]) == [1]
    await raw.xclaim(KEYS.queue, keys.GROUP, "waiting", 0, [entries[0].id], idle=DEFAULT.window_ms, justid=True)
    reclaimed = (await store.look(10)).entries
    await engine.intake.take(reclaimed)
    taking = asyncio.create_task(engine.intake.take_early_once())
    await engine.outcomes.write()
    await asyncio.wait_for(taking, 10)  # nothing is renewed here
    await wait_until(lambda: len(receiver.arrivals) == 2, "the retry is delivered, and waits for no renewal")
    assert [(arrival.key, arrival.attempt) for arrival in receiver.arrivals] == [(key, 1), (key, 2)]
    await stopped(engine)


async def test_a_load_that_times_out_is_followed_by_smaller_ones(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 40)
    await claimed(client, store.name, 40)
    load, sizes = store.load, []

    async def narrow_load(part: list[Entry]) -> tuple[list[Claim], int]:
        sizes.append(len(part))
        if len(part) > 12:
            raise StoreUnavailable("too much for this link")
        return await load(part)

    with patch.object(store, "load", narrow_load):
        for _ in range(20):
            with contextlib.suppress(StoreUnavailable):
                await engine.intake.recover()
        await wait_until(lambda: len(receiver.arrivals) == 40, "all were delivered")
    assert sizes[:4] == [40, 40, 12, 24]
    await stopped(engine)


async def test_what_lost_its_lease_is_not_begun_and_what_came_meanwhile_is(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url, CONCURRENCY + 2)
    entries = await claimed(client, store.name, CONCURRENCY + 1)
    await engine.intake.take(entries)
    await raw.xclaim(KEYS.queue, keys.GROUP, "another", 0, [entries[-1].id], justid=True)
    renew = store.renew

    async def slow_renew(ids: list[str]) -> set[str]:
        held = await renew(ids)
        await engine.intake.take(await claimed(client, store.name, 1))
        return held

    with patch.object(store, "renew", slow_renew):
        await engine.intake.renew()
    receiver.may_answer.set()
    await wait_until(lambda: len(receiver.arrivals) == CONCURRENCY + 1, "the rest arrives")
    await stopped(engine)
    assert entries[-1].key not in receiver.times_by_key


async def test_a_stop_gives_back_what_it_was_never_told_of(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 300)
    await claimed(client, store.name, 300)
    with patch.object(engine.intake, "recover"):
        await stopped(engine)
    rows = await pending(raw)
    assert {(row["consumer"], row["times_delivered"]) for row in rows} == {(b"waiting", 0)}
    assert len(rows) == 300
    assert min(row["time_since_delivered"] for row in rows) >= DEFAULT.window_ms


async def test_queued_tasks_without_a_record_hide_nothing_that_was_never_told_of(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    # More than a recovery looks for.
    for _ in range(3):
        for key in await schedule(store, receiver.url, 150):
            await raw.hdel(KEYS.tasks, key)
    expected = await schedule(store, receiver.url, 1)
    await claimed(client, store.name, 451)
    for _ in range(3):
        await engine.intake.recover()
    await wait_until(lambda: list(receiver.times_by_key) == expected, "it is delivered")
    await stopped(engine)
    assert await pending(raw) == []
    assert await raw.hget(KEYS.counters, "lost") == b"450"
    assert await raw.xinfo_consumers(KEYS.queue, keys.GROUP) == []


async def test_full_slots_are_a_sign_of_life_and_no_gap_in_the_sweeps(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url, CONCURRENCY)
    await engine.intake.take(await claimed(client, store.name, CONCURRENCY))
    reclaimer = engine.reclaimer
    await reclaimer.run_once()
    first = int(await raw.hget(KEYS.sweep, "seen_ms") or 0)
    await asyncio.sleep(0.002)
    assert await reclaimer.run_once() > 0
    assert int(await raw.hget(KEYS.sweep, "seen_ms") or 0) > first
    assert engine.slots.free == 0
    receiver.may_answer.set()
    await stopped(engine)


async def test_a_delivery_that_fails_by_a_fault_ends_the_worker_and_leaves_nothing_unsettled(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 3)
    running = asyncio.create_task(engine.deliver(asyncio.Event(), asyncio.Event(), 10))
    await wait_until(lambda: len(receiver.arrivals) == 3, "all were delivered")
    with patch.object(engine.worker._deliverer, "attempt", side_effect=ZeroDivisionError):
        await schedule(store, receiver.url)
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(running, 10)
    assert caught.group_contains(ZeroDivisionError)
    assert await raw.hget(KEYS.counters, "delivered") == b"3"
    assert [row["consumer"] for row in await pending(raw)] == [b"waiting"]


async def test_after_a_stall_nothing_begins_and_nothing_is_swept_before_the_leases_are_renewed(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 2)
    mine, gone = await claimed(client, store.name, 2)
    engine.holdings.renewed_at -= DEFAULT.lease_ms / 1000
    await engine.intake.take([mine, gone])
    assert engine.intake.reclaimable == 0
    assert engine.slots.free == CONCURRENCY - 2, "both stand in line"
    # While it stood still another took one, and delivered it.
    await raw.xclaim(KEYS.queue, keys.GROUP, "another", 0, [gone.id], justid=True)
    await engine.intake.renew()
    await wait_until(lambda: receiver.arrivals, "what is still its own begins")
    await stopped(engine)
    assert list(receiver.times_by_key) == [mine.key]
    assert engine.intake.reclaimable == 0


@pytest.mark.parametrize("timing", [replace(TIMING, batch_limit=2)])
async def test_a_claim_loop_that_waits_for_failures_to_be_written_goes_on_when_they_are(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """More than two batches of failures stop the claim loop, and no delivery is under way whose end would wake it."""
    can_write, retry = asyncio.Event(), store.retry

    async def slow_retry(failed: list[Unsettled]) -> list[RetryAnswer]:
        await can_write.wait()
        return await retry(failed)

    async def waits() -> bool:
        is_blocked = (await raw.info("clients"))["blocked_clients"] > 0
        return len(engine.outcomes.unsettled) >= 4 and not is_blocked and not engine.holdings.has_room.is_set()

    receiver.status = 503
    await schedule(store, receiver.url, CONCURRENCY)
    stop = asyncio.Event()
    with patch.object(store, "retry", slow_retry):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
            await wait_until(waits, "the claim loop waits")
            [key] = await schedule(store, receiver.url)
            receiver.status = 200
            can_write.set()
            await wait_until(lambda: receiver.times_by_key[key], "it goes on")
            stop.set()


async def test_where_more_is_stuck_than_there_are_slots_the_sweep_takes_nothing(
    engine: OneShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.slots, "stuck", CONCURRENCY + 1)
    assert engine.intake.reclaimable == 0


async def test_while_there_is_a_backlog_one_call_claims_leases_and_reads(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """So a worker that dies leaves nothing without a lease. What is waited for in Redis comes singly."""
    stop = asyncio.Event()
    expected = await schedule(store, receiver.url, 8 * CONCURRENCY)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks, asked(raw) as commands:
        running = tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await wait_until(lambda: len(receiver.arrivals) == len(expected), "all arrive")

        async def waits() -> bool:
            return bool((await raw.info("clients"))["blocked_clients"])

        await wait_until(waits, "it waits for more")
        (last,) = await schedule(store, receiver.url)
        await wait_until(lambda: receiver.times_by_key[last], "it comes by the claim that waits")
        stop.set()
        await running
    waited = sum(command[0] == "XREADGROUP" and "BLOCK" in command for command in commands)
    at_once, loads = calls_of(SCRIPTS["claim"], commands), calls_of(SCRIPTS["load"], commands)
    # The first claim waited, those of the last task and of the stop did. A script that is new is sent by its text, too.
    assert waited <= 4
    assert loads <= 3
    assert at_once >= 5
    assert receiver.times_by_key == dict.fromkeys([*expected, last], 1)


async def test_what_waited_is_one_entry_until_a_call_has_leased_it_and_what_else_there_is(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """A worker that dies in between leaves that one for the window."""
    claim, is_asked, may_ask = store.claim, asyncio.Event(), asyncio.Event()

    async def slow_claim(limit: int, waited: Entry | None) -> Claimed:
        is_asked.set()
        await may_ask.wait()
        return await claim(limit, waited)

    expected = await schedule(store, receiver.url, 3)
    with patch.object(store, "claim", slow_claim):
        claiming = asyncio.create_task(engine.claimer.claim_once())
        await is_asked.wait()
        assert len(await pending(raw)) == 1
        may_ask.set()
        await claiming
    await wait_until(lambda: receiver.times_by_key == dict.fromkeys(expected, 1), "all arrive")
    await stopped(engine)


async def test_claims_that_wait_for_nothing_bring_less_where_answers_do_not_come_through(
    engine: OneShard, store: Store, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 2 * CONCURRENCY)
    claim, limits = store.claim, []

    async def narrow_claim(limit: int, waited: Entry | None) -> Claimed:
        limits.append(limit)
        if limit > 2:
            raise StoreUnavailable("too much for this link")
        return await claim(limit, waited)

    engine.worker.ring.busy.add(0)
    engine.intake.load_limit = 12
    with patch.object(store, "claim", narrow_claim):
        for _ in range(3):
            engine.intake.may_claim.set()
            with contextlib.suppress(StoreUnavailable):
                engine.worker.ring.busy.add(0)
                await engine.claimer.claim_once()
    assert limits == [4, 3, 1]
    await stopped(engine)


async def test_what_a_claim_had_no_room_to_read_is_loaded(
    client: RedisClient, store: Store, receiver: Receiver
) -> None:
    narrow = Store(client, store.name, replace(DEFAULT, load_bytes=1))
    expected = await schedule(store, receiver.url, 4)
    async with working(client, narrow, CONCURRENCY) as engine:
        engine.worker.ring.busy.add(0)
        await engine.claimer.claim_once()
        await wait_until(lambda: len(receiver.arrivals) == len(expected), "all arrive")
        await stopped(engine)
    assert receiver.times_by_key == dict.fromkeys(expected, 1)


async def test_over_many_shards_a_claim_blocks_longer_where_the_server_ends_it_in_time(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    timing = replace(DEFAULT, block_ms=60, block_longest_ms=120)
    reader = QueueReader(client, "reader", timing)
    try:
        async with asked(raw) as commands:
            assert await reader.claim(1) == []
    finally:
        await reader.aclose()
    [claim] = [command for command in commands if command[0] == "XREADGROUP" and "BLOCK" in command]
    assert claim[claim.index("BLOCK") + 1] == ("120" if server_version() >= (7, 0) else "60")


async def test_a_claim_blocks_by_the_shards_that_have_come_since_the_one_before(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    timing = replace(DEFAULT, block_ms=60, block_longest_ms=60).over(1)
    reader = QueueReader(client, "reader", timing)
    try:
        async with asked(raw) as commands:
            assert await reader.claim(1) == []
            timing.served.shards = 2
            assert await reader.claim(1) == []
    finally:
        await reader.aclose()
    claims = [command for command in commands if command[0] == "XREADGROUP" and "BLOCK" in command]
    longest = "120" if server_version() >= (7, 0) else "60"
    assert [claim[claim.index("BLOCK") + 1] for claim in claims] == ["60", longest]
