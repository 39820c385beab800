"""The limiter in a worker that runs: when it asks, and when it asks no longer."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from redis_scheduler.engine.copying import Copying
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.limit import Limit
from tests.integration.conftest import TIMING, OneShard, schedule, working
from tests.support.names import KEYS
from tests.support.receiver import Receiver, receiving
from tests.support.redis_process import redis_process
from tests.support.standing_still import standing_still
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


async def test_a_claim_that_asks_alone_does_not_wait_for_others(
    client: RedisClient, store: Store, receiver: Receiver
) -> None:
    # Outcomes are not written before the end.
    timing, stop = replace(TIMING, gather_s=60.0), asyncio.Event()
    limiting = Limiting(client, timing, Limit(concurrency=1))
    async with (
        working(client, store, 5, timing, limiting=limiting) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(engine.run(stop, asyncio.Event(), 10))
        await schedule(store, receiver.url)
        await wait_until(lambda: receiver.arrivals, "it arrived")
        stop.set()
        await running


@pytest.mark.long
async def test_while_the_redis_of_limits_alone_is_away_a_rate_outlasts_a_lease(
    client: RedisClient, store: Store, tmp_path: Path, receiver: Receiver
) -> None:
    rate, timing = 20, replace(TIMING, lease_ms=1_500, renew_interval_s=0.5, rate_held_s=60.0)
    stop, name = asyncio.Event(), f"127.0.0.1:{receiver.port}"
    async with (
        receiving() as hanging,
        redis_process(tmp_path / "redis") as server,
        aclosing(RedisClient(server.url, 1, KEYS)) as elsewhere,
        working(client, store, 200, timing, limiting=Limiting(elsewhere, timing)) as engine,
        asyncio.TaskGroup() as tasks,
    ):
        hanging.may_answer.clear()
        running = tasks.create_task(engine.run(stop, asyncio.Event(), 0))
        await Limiting(elsewhere).say(name, Limit(rate=rate))
        # It has a permit to renew, which no answer comes for.
        await Limiting(elsewhere).say(f"127.0.0.1:{hanging.port}", Limit(concurrency=1))
        engine.limiter.hear("told")
        await wait_until(lambda: engine.limiter.is_on, "it knows the limits")
        await schedule(store, hanging.url)
        await wait_until(lambda: engine.limiter.begun, "it has a permit")
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 2.5:  # a pace of 20 a second, hardly below the rate
            await schedule(store, receiver.url)
            await asyncio.sleep(1 / rate)
        async with standing_still(server.pid):
            before, leased = len(receiver.arrivals), set[bool]()
            keys = await schedule(store, receiver.url, 6 * rate)

            def go_on() -> bool:
                leased.add(engine.holdings.is_leased)
                return len(receiver.arrivals) > before + 4 * rate

            # That is after nearly three leases.
            await wait_until(go_on, "the pace goes on", timeout_s=20)
            assert leased == {True}
            took_s = receiver.arrivals[before + 4 * rate].at - receiver.arrivals[before].at
            assert took_s > 3.5
            # What the stop writes to the Redis of tasks does not wait for the other.
            stop.set()
            await running
            consumers = await client.command("XINFO", "CONSUMERS", KEYS.queue, GROUP)
            assert store.name.encode() not in [consumer[1] for consumer in consumers]
        assert max(receiver.times_by_key.values()) == 1
        assert len(set(keys) - set(receiver.times_by_key)) > 0


async def test_limits_are_copied_once_the_other_shard_is_back(client: RedisClient, tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "redis") as server,
        aclosing(RedisClient(server.url, 0.2, KEYS)) as other_client,
        asyncio.TaskGroup() as tasks,
    ):
        first, other, stop = Limiting(client), Limiting(other_client), asyncio.Event()
        await first.say("a:1", Limit(rate=1))
        copying = Copying(first, other)
        async with standing_still(server.pid):
            loop = tasks.create_task(copying.outage.loop(stop, copying.copy_once))
            await wait_until(lambda: other_client.outage.is_away, "the other shard is away")
            assert not copying.outage.is_away

        async def is_copied() -> bool:
            return await other.said() == await first.said()

        await wait_until(is_copied, "the limit is set there")
        await first.say("a:1", None)
        copying.must_copy.set()
        await wait_until(is_copied, "it is forgotten there")
        loop.cancel()


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
            await engine.claimer.claim_once()
            await asyncio.sleep(0.05)
        await schedule(store, receiver.url, 90)
        await engine.claimer.claim_once()
        before = len(receiver.arrivals)
        async with standing_still(server.pid):
            await wait_until(lambda: len(receiver.arrivals) >= before + 11, "the pace goes on", timeout_s=20)
            times = [arrival.at for arrival in receiver.arrivals[before:]]
            assert 10 / (times[10] - times[0]) <= 1.1 * rate
            await wait_until(lambda: engine.limiter._held_rates is None, "it stops", timeout_s=20)
            assert 0 < len(engine.limiter.asking) <= 90 - 11
            assert engine.worker.loading == 0, "they keep no slots from other shards"

        async def is_done() -> bool:
            await engine.claimer.claim_once()
            return len(receiver.times_by_key) == 130 and not engine.holdings.claims

        await wait_until(is_done, "all arrived", 20)
        assert max(receiver.times_by_key.values()) == 1
        stop.set()
        for loop in loops:
            loop.cancel()
