"""The limiter in a worker that runs: when it asks, and when it asks no longer."""

import asyncio
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.limit import Limit
from tests.integration.conftest import TIMING, OneShard, schedule, working
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.store import Store
from tests.support.waiting import wait_until


async def test_what_is_limited_no_longer_is_not_asked_for(
    engine: OneShard, client: RedisClient, store: Store, receiver: Receiver
) -> None:
    limiting, stop, name = Limiting(client), asyncio.Event(), f"127.0.0.1:{receiver.port}"
    receiver.may_answer.clear()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(engine.run(stop, asyncio.Event(), 10))
        try:
            assert not engine.worker.is_limited
            await limiting.say(name, Limit(concurrency=2))
            await wait_until(lambda: engine.worker.is_limited, "it notices the limit")
            keys = await schedule(store, receiver.url, 4)
            await wait_until(lambda: receiver.in_flight == 2, "as many as may be are under way")
            assert len(engine.limiter.begun) == 2
            await limiting.say(name, None)
            await wait_until(lambda: not engine.limiter.is_on, "it notices that there is no limit")
            # What has begun has its permit to give back.
            assert engine.worker.is_limited
            receiver.may_answer.set()
            await wait_until(lambda: not engine.worker.is_limited, "it looks no longer")
            await wait_until(lambda: set(receiver.times_by_key) == set(keys), "all arrived")
            keys += await schedule(store, receiver.url, 4)
            await wait_until(lambda: set(receiver.times_by_key) == set(keys), "all arrived")
            assert not engine.worker.is_limited
            await wait_until(lambda: not engine.holdings.claims, "all are settled")
            # Those that were held were admitted with permits, which end by themselves.
            assert await client.command("ZCARD", KEYS.permits, read=int) <= 2
        finally:
            stop.set()
            await running


async def test_while_redis_is_away_a_rate_holds_for_a_while(tmp_path: Path, receiver: Receiver) -> None:
    rate, timing = 40, replace(TIMING, rate_held_s=3.0)
    async with (
        redis_process(tmp_path / "redis") as server,
        aclosing(RedisClient(server.url, 1, KEYS)) as client,
        working(client, Store(client, "worker-a"), 200, timing) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        store, outage, stop = Store(client, "worker-a"), Outage(), asyncio.Event()
        await Limiting(client).say(f"127.0.0.1:{receiver.port}", Limit(rate=rate))
        loops = [
            tasks.create_task(outage.loop(stop, once))
            for once in (engine.limiter.ask_once, engine.limiter.admit_once, engine.outcomes.write_once)
        ]
        await wait_until(lambda: engine.worker.is_limited, "it knows the limit")
        for _ in range(40):  # about 20 a second: half of the rate
            await schedule(store, receiver.url)
            await engine.intake.claim_once()
            await asyncio.sleep(0.05)
        await schedule(store, receiver.url, 90)
        await engine.intake.claim_once()
        before = len(receiver.arrivals)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await wait_until(lambda: len(receiver.arrivals) >= before + 11, "the pace goes on", timeout_s=20)
            times = [arrival.at for arrival in receiver.arrivals[before:]]
            assert 10 / (times[10] - times[0]) <= 1.1 * rate
            await wait_until(lambda: engine.limiter._held_rates is None, "it stops", timeout_s=20)
            assert 0 < len(engine.limiter.asking) <= 90 - 11
        finally:
            os.kill(server.pid, signal.SIGCONT)

        async def is_done() -> bool:
            await engine.intake.claim_once()
            return len(receiver.times_by_key) == 130 and not engine.holdings.claims

        await wait_until(is_done, "all arrived", 20)
        assert max(receiver.times_by_key.values()) == 1
        stop.set()
        for loop in loops:
            loop.cancel()
