"""Timer and reclaimer: each wakes when it must, rides out an outage, and stops at once."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from redis_scheduler.engine.timer import Timer
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.timing import DEFAULT, LAST_MS, Timing
from tests.integration.conftest import CONCURRENCY, OneShard, schedule, working
from tests.scripts.states import failed, in_delivery, plan_sweep, taken_on
from tests.support.names import KEYS
from tests.support.routed import Routed
from tests.support.store import Store
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"


def make_timer(client: RedisClient, store: Store, timing: Timing = DEFAULT) -> Timer:
    return Timer(store, Bell(client), client.outage, timing)


async def queued(raw: redis.asyncio.Redis, count: int) -> None:
    """Wait until so many tasks are in the queue."""

    async def are_queued() -> bool:
        return bool(await raw.xlen(KEYS.queue) == count)

    await wait_until(are_queued, f"{count} tasks queued")


async def is_listening(raw: redis.asyncio.Redis) -> bool:
    """Whether somebody hears the bell."""
    shard = "SHARD" if isinstance(raw, Routed) else ""  # in a cluster it is heard in its slot alone
    return bool((await raw.execute_command("PUBSUB", f"{shard}NUMSUB", KEYS.bell))[1])


async def test_one_look_moves_all_that_is_due_and_tells_the_time_to_the_next(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    for _ in range(3):
        await schedule(store, WEBHOOK, 200, ttl_ms=1)
    await schedule(store, WEBHOOK, ttl_ms=600)
    await asyncio.sleep(0.002)
    wait_s = await make_timer(client, store).run_once()
    assert await raw.xlen(KEYS.queue) == 600
    assert wait_s is not None
    assert 0 < wait_s <= 0.6


async def test_the_bell_wakes_a_timer_that_sleeps(client: RedisClient, store: Store, raw: redis.asyncio.Redis) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(make_timer(client, store).run(stop))
        await wait_until(lambda: is_listening(raw), "it listens")
        await schedule(store, WEBHOOK, ttl_ms=100)
        await queued(raw, 1)
        stop.set()


@pytest.fixture
async def unrung(engine: OneShard) -> AsyncIterator[asyncio.Event]:
    """A timer that hears no bell and has promoted once, and a reclaimer. The event ends both."""
    stop, promote, has_promoted = asyncio.Event(), engine.intake.promote, asyncio.Event()

    async def promoting() -> Promotion:
        promotion = await promote()
        has_promoted.set()
        return promotion

    with (
        patch.object(Bell, "listen", side_effect=StoreUnavailable),
        patch.object(engine.intake, "promote", promoting),
    ):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.consumers[0].timer.run(stop))
            await has_promoted.wait()
            tasks.create_task(engine.reclaimer.run(stop))
            yield stop
            stop.set()


async def test_a_lost_bell_costs_no_more_than_a_look(
    unrung: asyncio.Event, engine: OneShard, store: Store, raw: redis.asyncio.Redis
) -> None:
    sweep, looks = engine.intake.sweep, 0

    async def sweeping() -> Sweep:
        nonlocal looks
        found = await sweep()
        looks += not await raw.xlen(KEYS.queue)
        return found

    await schedule(store, WEBHOOK, ttl_ms=20)
    with patch.object(engine.intake, "sweep", sweeping):
        await queued(raw, 1)
    assert looks <= 2, "one may have been under way, or have come before it was due"


async def test_a_look_finds_that_all_is_paused_and_that_it_goes_on(
    unrung: asyncio.Event, engine: OneShard, store: Store, raw: redis.asyncio.Redis
) -> None:
    await store.pause_all(True)
    await wait_until(lambda: engine.intake.is_all_paused, "it is paused")
    await schedule(store, WEBHOOK, ttl_ms=1)
    seen = await raw.hget(KEYS.sweep, "seen_ms")

    async def has_looked() -> bool:
        return bool(await raw.hget(KEYS.sweep, "seen_ms") != seen)

    await wait_until(has_looked, "another look")
    assert await raw.xlen(KEYS.queue) == 0
    await raw.delete(KEYS.pause_all)  # no bell tells of it
    await queued(raw, 1)
    await wait_until(lambda: not engine.intake.is_all_paused, "the answer of that promotion has come")


async def test_what_is_due_later_does_not_put_off_what_the_timer_has_heard_of(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    """A look may be older than a promotion."""
    timer, stop = make_timer(client, store), asyncio.Event()
    with patch.object(Bell, "listen", side_effect=StoreUnavailable):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(timer.run(stop))
            await wait_until(lambda: timer._rings_at == math.inf, "it has promoted, and waits")
            await schedule(store, WEBHOOK, ttl_ms=200)
            timer.expect(0.2)
            timer.expect(60)
            await queued(raw, 1)
            stop.set()


@pytest.mark.parametrize("due_ms", [LAST_MS, math.inf])
async def test_what_is_due_in_thousands_of_years_ends_no_timer(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, due_ms: float
) -> None:
    timer, stop = make_timer(client, store), asyncio.Event()
    [key] = await schedule(store, WEBHOOK, ttl_ms=60_000)
    await raw.execute_command("ZADD", KEYS.due, due_ms, key)
    with patch.object(Bell, "listen", side_effect=StoreUnavailable):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(timer.run(stop))
            await wait_until(lambda: timer._rings_at != -math.inf, "it has promoted, and waits")
            timer.expect(math.inf)
            await schedule(store, WEBHOOK, ttl_ms=50)
            timer.expect(0.05)
            await queued(raw, 1)
            stop.set()


@pytest.mark.parametrize("comes_again", ["retry", "release", "expect"])
async def test_what_another_worker_has_come_again_soon_is_not_slept_through(
    comes_again: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """Over many shards looks are seconds apart; the bell calls for one."""
    timing, stop, has_looked = DEFAULT.over(SHARDS_MOST), asyncio.Event(), asyncio.Event()
    store, other = Store(client, "worker-a", timing), Store(client, "worker-b", timing)
    task = await in_delivery(other)
    await plan_sweep(other, timing.look_interval_ms)
    async with working(client, store, CONCURRENCY, timing) as engine, asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.consumers[0].timer.run(stop))
        await wait_until(lambda: is_listening(raw), "it listens")
        sweep = engine.intake.sweep

        async def sweeping() -> Sweep:
            found = await sweep()
            has_looked.set()
            return found

        with patch.object(engine.intake, "sweep", sweeping):
            tasks.create_task(engine.reclaimer.run(stop))
            await has_looked.wait()
            slept_from = time.monotonic()
            if comes_again == "retry":
                await other.retry(failed(task, delay_ms=100))
            elif comes_again == "release":
                await other.release([task.claim])
            else:
                await other.expect([taken_on(task, 100)])

            async def has_come() -> bool:
                if comes_again == "expect":
                    return bool(await raw.hexists(KEYS.entries, task.key))  # it is queued again
                rows: Any = await raw.xpending_range(KEYS.queue, GROUP, "-", "+", 1)
                return bool(rows[0]["consumer"] == b"worker-a")

            await wait_until(has_come, "it brings the task")
            assert time.monotonic() - slept_from < 0.5 * timing.look_interval_ms / 1000
            stop.set()


async def test_an_outage_is_ridden_out_with_one_line_for_each_change(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stop, calls = asyncio.Event(), 0
    execute = client._execute

    async def flaky(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 6:
            raise RedisConnectionError
        return await execute(*arguments)

    with patch.object(client, "_execute", flaky):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(make_timer(client, store).run(stop))
            await wait_until(lambda: calls > 6, "Redis is there again")
            await schedule(store, WEBHOOK, ttl_ms=20)
            await queued(raw, 1)
            stop.set()
    events = [record.message for record in caplog.records if record.message.startswith("redis-")]
    assert events == ["redis-away", "redis-back"]


@pytest.mark.parametrize("kind", ["timer", "reclaimer"])
async def test_it_stops_at_once_runs_again_and_honours_cancellation(
    kind: str, client: RedisClient, store: Store, engine: OneShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "look", AsyncMock(return_value=Sweep([], 60.0)))
    made = make_timer(client, store) if kind == "timer" else engine.reclaimer
    run: Callable[[asyncio.Event], Awaitable[None]] = made.run
    for _ in range(2):
        stop = asyncio.Event()
        running = asyncio.ensure_future(run(stop))
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.wait_for(running, 5)
    running = asyncio.ensure_future(run(asyncio.Event()))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)


async def test_an_error_that_is_no_outage_ends_the_timer(client: RedisClient, store: Store) -> None:
    with patch.object(store, "promote", side_effect=ZeroDivisionError), pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(make_timer(client, store).run(asyncio.Event()), 5)
    assert caught.group_contains(ZeroDivisionError)
