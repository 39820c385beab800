"""The limiter in a worker that runs: when it asks, and when it asks no longer."""

import asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.task.limit import Limit
from tests.integration.conftest import OneShard, schedule
from tests.support.names import KEYS
from tests.support.receiver import Receiver
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
