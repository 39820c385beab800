"""`redis-scheduler pause-all` and `resume-all`: nothing is delivered in between, whichever way a task would have come,
and everything says so."""

import asyncio
from pathlib import Path

import redis.asyncio

from tests.acceptance.test_moving import command
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import client_of, serving
from tests.support.waiting import wait_until


async def test_between_pause_and_resume_nothing_is_delivered(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.statuses = [500]
    there = {"REDIS_URL": redis_url}
    async with serving(tmp_path, RETRY_TIME="0.5", **there) as service, client_of(service) as client:
        assert (await client.stats())["paused_since"] is None
        receiver.may_answer.clear()
        under_way = await client.schedule(receiver.url)
        await wait_until(lambda: receiver.arrivals, "the attempt is under way")

        pausing = asyncio.create_task(command(0, "pause-all", **there))
        await wait_until(lambda: service.events("paused"), "the worker has seen it")
        receiver.may_answer.set()  # and fails, for a retry that is due long before the resume
        assert "No attempt is under way." in (await pausing).stdout
        later = [await client.schedule(receiver.url, ttl) for ttl in (0, 0.05)]

        async def all_are_due() -> bool:
            due = await raw.zcount(KEYS.due, "-inf", int((await raw.time())[0]) * 1000 - 1000)
            return due == 1

        await wait_until(all_are_due, "what is paused is long due")
        assert {arrival.key for arrival in receiver.arrivals} == {under_way}
        assert len(receiver.arrivals) == 1
        stats = await client.stats()
        assert stats["paused_since"] is not None
        assert stats["running_schedules"] == 3
        status, ready = await client.call("GET", "/readyz")
        assert (status, ready["paused_since"]) == (200, stats["paused_since"])
        assert "Paused since" in (await command(0, "doctor", **there)).stdout

        await command(0, "resume-all", **there)
        await client.drained()
        assert service.events("resumed")
        assert receiver.times_by_key == {under_way: 2, later[0]: 1, later[1]: 1}

        async def is_ready_and_says_no_more() -> bool:
            status, ready = await client.call("GET", "/readyz")
            return status == 200 and "paused_since" not in ready

        await wait_until(is_ready_and_says_no_more, "what Redis said last time is asked anew")


async def claims_nothing(raw: redis.asyncio.Redis) -> bool:
    clients = await raw.info("clients")
    return bool(clients["blocked_clients"] == 0)


async def test_a_worker_that_stops_while_all_is_paused_takes_nothing(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url}
    await command(0, "pause-all", **there)
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await wait_until(lambda: service.events("paused"), "the worker has seen it")
        # A claim that was made before that ends by itself.
        await wait_until(lambda: claims_nothing(raw), "no claim waits in Redis")
        await client.schedule(receiver.url)
        assert (await client.stats())["states"]["queued"] == 1
    assert receiver.arrivals == []
    # Another deployment is not paused; and it goes on after a resume by a new worker.
    await command(0, "resume-all", **there)
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await client.drained()
    assert len(receiver.arrivals) == 1


async def test_a_worker_that_starts_while_all_is_paused_takes_nothing(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url}
    async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
        await command(0, "pause-all", **there)
        keys = [await client.schedule(receiver.url) for _ in range(20)]
        for _ in range(3):
            async with serving(tmp_path, "worker", **there) as worker:
                await wait_until(lambda: worker.events("paused"), "it has seen it")
                assert (await client.stats())["states"]["queued"] == len(keys)
        assert receiver.arrivals == []
        await command(0, "resume-all", **there)
        async with serving(tmp_path, "worker", **there):
            await client.drained()
    assert receiver.times_by_key == dict.fromkeys(keys, 1)
