"""Timer and reclaimer: each wakes when it must, rides out an outage, and stops at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from redis_scheduler.engine.timer import Timer
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.integration.conftest import OneShard, schedule
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

SLEEPY = replace(DEFAULT, longest_sleep_s=60.0)
WEBHOOK = "http://127.0.0.1:9/"


def make_timer(client: RedisClient, store: Store, timing: Timing = DEFAULT) -> Timer:
    return Timer(store, Bell(client), client.outage, timing)


async def queued(raw: redis.asyncio.Redis, count: int) -> None:
    """Wait until so many tasks are in the queue."""

    async def are_queued() -> bool:
        return bool(await raw.xlen(KEYS.queue) == count)

    await wait_until(are_queued, f"{count} tasks queued")


async def test_one_look_moves_all_that_is_due_and_tells_the_time_to_the_next(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    for _ in range(3):
        await schedule(store, WEBHOOK, 200, ttl_ms=1)
    await schedule(store, WEBHOOK, ttl_ms=600)
    await asyncio.sleep(0.002)
    wait_s = await make_timer(client, store).run_once()
    assert await raw.xlen(KEYS.queue) == 600
    assert 0 < wait_s <= 0.6


async def test_the_bell_wakes_a_timer_that_sleeps(client: RedisClient, store: Store, raw: redis.asyncio.Redis) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(make_timer(client, store, SLEEPY).run(stop))

        async def is_listening() -> bool:
            return dict(await raw.pubsub_numsub(KEYS.bell))[KEYS.bell.encode()] == 1

        await wait_until(is_listening, "it listens")
        await schedule(store, WEBHOOK, ttl_ms=100)
        await queued(raw, 1)
        stop.set()


async def test_a_lost_bell_costs_no_more_than_the_longest_sleep(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    stop = asyncio.Event()
    with patch.object(Bell, "listen", side_effect=StoreUnavailable):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(make_timer(client, store).run(stop))
            await asyncio.sleep(0.05)
            await schedule(store, WEBHOOK, ttl_ms=20)
            scheduled_at = time.monotonic()
            await queued(raw, 1)
            assert time.monotonic() - scheduled_at < DEFAULT.longest_sleep_s + 0.5 < 2
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
    monkeypatch.setattr(store, "reclaim", AsyncMock(return_value=Sweep([], 60.0)))
    made = make_timer(client, store, SLEEPY) if kind == "timer" else engine.reclaimer
    run: Callable[[asyncio.Event], Awaitable[None]] = made.run
    for _ in range(2):
        stop = asyncio.Event()
        running = asyncio.ensure_future(run(stop))
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.wait_for(running, 0.5)
    running = asyncio.ensure_future(run(asyncio.Event()))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 0.5)


async def test_an_error_that_is_no_outage_ends_the_timer(client: RedisClient, store: Store) -> None:
    with patch.object(store, "promote", side_effect=ZeroDivisionError), pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(make_timer(client, store).run(asyncio.Event()), 5)
    assert caught.group_contains(ZeroDivisionError)
