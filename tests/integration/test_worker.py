"""The worker: what it claims it delivers once, on a lease it renews, within its slots."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import CONCURRENCY, TIMING, OneShard, schedule
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.store import Store, letters
from tests.support.waiting import wait_until


async def run_until(engine: OneShard, stop: asyncio.Event, hurry: asyncio.Event | None = None) -> None:
    """Run a worker to its end, which must come."""
    async with asyncio.timeout(30):
        await engine.deliver(stop, hurry or asyncio.Event(), grace_s=10)


async def pending(raw: redis.asyncio.Redis) -> list[Any]:
    """The pending entries of all consumers."""
    return await raw.xpending_range(KEYS.queue, keys.GROUP, "-", "+", 100)


async def settled(raw: redis.asyncio.Redis, count: int) -> None:
    """Wait until so many tasks were delivered."""

    async def are_settled() -> bool:
        return int(await raw.hget(KEYS.counters, "delivered") or 0) == count

    await wait_until(are_settled, f"{count} tasks settled")


async def test_it_never_delivers_more_at_once_than_it_has_slots(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.delay_s = 0.02
    await schedule(store, receiver.url, 60)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_until(engine, stop))
        await settled(raw, 60)
        stop.set()
    assert CONCURRENCY - 1 <= receiver.most_in_flight <= CONCURRENCY
    assert set(receiver.times_by_key.values()) == {1}


async def test_a_claim_that_comes_again_while_in_flight_is_not_delivered_again(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url)
    reader = QueueReader(client, store.name)
    claims, _ = await store.load(await reader.claim(1))
    await reader.aclose()
    engine.worker.accept(claims)
    engine.worker.accept(claims)
    # As after a stall of the event loop: the sweep takes the entry back for the process that still has it.
    await raw.xclaim(KEYS.queue, keys.GROUP, store.name, 0, [claims[0].id], idle=DEFAULT.window_ms, justid=True)
    reclaimed = (await store.look(10)).entries
    assert [entry.key for entry in reclaimed] == [claims[0].key]
    await engine.intake.take(reclaimed)
    receiver.may_answer.set()
    stop = asyncio.Event()
    stop.set()
    await run_until(engine, stop)
    await settled(raw, 1)
    assert len(receiver.arrivals) == 1


async def test_what_a_lost_answer_left_pending_is_delivered(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    await schedule(store, receiver.url, 3)
    reader = QueueReader(client, store.name)
    assert len(await reader.claim(10)) == 3  # and nobody hears of it
    await reader.aclose()
    await engine.intake.recover()
    await wait_until(lambda: len(receiver.arrivals) == 3, "all were delivered")
    stop = asyncio.Event()
    stop.set()
    await run_until(engine, stop)
    await settled(raw, 3)


async def test_a_lease_is_taken_with_the_claim_and_renewed(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_until(engine, stop))
        await wait_until(lambda: receiver.arrivals, "it is in delivery")
        for idle_ms in (DEFAULT.window_ms - DEFAULT.lease_ms, DEFAULT.window_ms - 2000):
            (row,) = await pending(raw)
            assert idle_ms <= row["time_since_delivered"] < idle_ms + 2000
            await raw.xclaim(
                KEYS.queue, keys.GROUP, store.name, 0, [row["message_id"]], idle=DEFAULT.window_ms - 2000, justid=True
            )
        await engine.intake.renew()
        (row,) = await pending(raw)
        assert row["time_since_delivered"] < DEFAULT.window_ms - DEFAULT.lease_ms + 2000
        receiver.may_answer.set()
        await settled(raw, 1)
        stop.set()
    assert len(receiver.arrivals) == 1


async def test_a_task_that_lost_five_workers_is_buried_and_its_neighbour_delivered(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    poison, neighbour = await schedule(store, receiver.url, 2)
    reader = QueueReader(client, "killed")
    entries = {entry.key: entry.id for entry in await reader.claim(10)}
    await reader.aclose()
    for key, claims in ((poison, 5), (neighbour, 4)):
        await raw.xclaim(
            KEYS.queue, keys.GROUP, "killed", 0, [entries[key]], idle=DEFAULT.window_ms, retrycount=claims, justid=True
        )
    reclaimed = (await store.look(10)).entries
    await engine.intake.take(reclaimed)
    stop = asyncio.Event()
    stop.set()
    await wait_until(lambda: receiver.arrivals, "the neighbour was delivered")
    await run_until(engine, stop)
    assert [arrival.key for arrival in receiver.arrivals] == [neighbour]
    assert await raw.zrange(KEYS.dead, 0, -1) == [poison.encode()]
    failure: Any = await raw.hget(KEYS.failures, poison)
    assert failure.startswith(b'0 {"error":"worker lost')


async def test_a_stop_releases_what_was_claimed_and_not_begun(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    await schedule(store, receiver.url, CONCURRENCY + 3)
    reader = QueueReader(client, store.name)
    claims, _ = await store.load(await reader.claim(100))
    await reader.aclose()
    engine.worker.accept(claims)
    await wait_until(lambda: receiver.in_flight == CONCURRENCY - 1, "it has all the slots that one host may have")
    stop, hurry = asyncio.Event(), asyncio.Event()
    stop.set()
    hurry.set()
    await run_until(engine, stop, hurry)
    rows = await pending(raw)
    assert [(row["consumer"], row["times_delivered"]) for row in rows] == [(b"waiting", 0)] * (CONCURRENCY + 3)
    assert min(row["time_since_delivered"] for row in rows) >= DEFAULT.window_ms
    assert not await raw.exists(KEYS.failures)
    assert b"worker-a" not in [row["name"] for row in await raw.xinfo_consumers(KEYS.queue, keys.GROUP)]


@pytest.mark.parametrize("timing", [replace(TIMING, block_ms=60_000)])
async def test_it_stops_at_once_when_idle(engine: OneShard) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_until(engine, stop))
        await asyncio.sleep(0.05)
        stop.set()
        async with asyncio.timeout(10):
            await running


async def test_a_record_that_cannot_be_read_is_buried_and_the_others_are_delivered(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    unreadable, *others = await schedule(store, receiver.url, 20)
    await raw.hset(KEYS.tasks, unreadable, "{")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_until(engine, stop))
        await settled(raw, 19)
        await wait_until(lambda: raw.zcard(KEYS.dead), "it is buried")
        stop.set()
    assert receiver.times_by_key == dict.fromkeys(others, 1)
    failure: Any = await raw.hget(KEYS.failures, unreadable)
    assert failure.startswith(b'0 {"error":"unreadable record","elapsed_ms":0')
    assert await raw.hget(KEYS.counters, "failed") is None
    assert letters(await store.cancel([(unreadable, None)])) == "C"


async def test_a_task_of_a_newer_version_is_left_to_a_newer_worker_without_an_attempt(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it failed before, and waits for its retry."""
    *newer, sound = await schedule(store, receiver.url, 4)
    for key in newer:
        record: bytes = await store.client.command("HGET", KEYS.tasks, key)
        await raw.hset(KEYS.tasks, key, record.replace(b',"data":', b',"later":{"a":"b","data":"c"},"data":'))
    await raw.hset(KEYS.failures, newer[0], '1 {"error":"answered 500","elapsed_ms":1}')
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_until(engine, stop))
        await settled(raw, 1)

        async def are_deferred() -> bool:
            return await raw.zcard(KEYS.due) == 3

        await wait_until(are_deferred, "they are deferred")
        stop.set()
    assert receiver.times_by_key == {sound: 1}
    for key in newer:
        until_ms = await raw.zscore(KEYS.due, key)
        assert until_ms is not None
        assert (
            DEFAULT.newer_delay_ms / 2
            < until_ms - redis_ms(await store.client.command("TIME"))
            <= DEFAULT.newer_delay_ms
        )
    assert await raw.hgetall(KEYS.failures) == {newer[0].encode(): b'1 {"error":"answered 500","elapsed_ms":1}'}
    assert not int(await raw.hget(KEYS.counters, "failed") or 0)
    # One line for all of them.
    [line] = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "left-to-newer"]
    assert line["error"] == "written by a newer version: its member later is not known here"
    # A newer worker's record is as it was.
    record = await store.client.command("HGET", KEYS.tasks, newer[0])
    assert record.endswith(b'"data":"c"},"data":1}')
    assert letters(await store.cancel([(key, None) for key in newer])) == "CCC"


@pytest.mark.parametrize("timing", [replace(TIMING, block_ms=600_000)])
async def test_a_claim_that_is_blocked_ends_when_it_is_to_begin_anew(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """Redis counts a blocked call's time by its wall clock: after a step back it would wait for it to catch up."""
    stop = asyncio.Event()

    async def claims() -> int:
        stats = await raw.info("commandstats")
        is_blocked = (await raw.info("clients"))["blocked_clients"] > 0
        return int(stats["cmdstat_xreadgroup"]["calls"]) if is_blocked else 0

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_until(engine, stop))
        before = await wait_until(claims, "the claim is blocked")
        await engine.intake.unblock()

        async def is_blocked_again() -> bool:
            return await claims() > before

        await wait_until(is_blocked_again, "another claim is blocked")
        stop.set()
