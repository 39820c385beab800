"""Alerts of several processes: one of them looks and tells, and another takes its place where it cannot."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import redis.asyncio

from tests.support.alerts import Watched, look_anew, texts, working
from tests.support.audit import plain
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import client_of, serving
from tests.support.waiting import wait_until


async def test_one_alert_comes_however_many_processes_look(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver
) -> None:
    receiver.status = 500
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "ALERT_WEBHOOK": alerted.url, "ALERT_EVERY": "60"}
    async with AsyncExitStack() as stack:
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            process = await stack.enter_async_context(serving(tmp_path / str(number), **variables))
        api = await stack.enter_async_context(client_of(process))
        raw = await stack.enter_async_context(plain(redis_url))

        async def has_looked() -> bool:
            return bool(await raw.hexists(KEYS.alerts, "noted"))

        await wait_until(has_looked, "one has looked")
        # One of the alert's own deaths is not told.
        alerted.statuses = [500]
        for _ in range(5):
            await api.schedule(receiver.url, 0, data="x")
        assert await texts(alerted, 1) == [("died", "began")]
        noted = await raw.hget(KEYS.alerts, "noted")

        async def has_looked_again() -> bool:
            return await raw.hget(KEYS.alerts, "noted") != noted

        await wait_until(has_looked_again, "one has looked again", 30)
        assert len(alerted.arrivals) == 1


async def test_without_a_worker_the_process_that_looks_tells_it(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, PORT="0") as process,
        client_of(process) as api,
        Watched(redis_url, alerted, alert_late=600.0) as watched,
    ):
        await api.schedule(receiver.url, 0, data="x")

        async def is_told() -> bool:
            await watched.look()
            return bool(alerted.arrivals)

        alerted.statuses = [503]  # it is sent until it is taken
        await wait_until(is_told, "it is told", 20)
        await watched.look()
        assert await texts(alerted, 2) == [("no-workers", "began")] * 2
        assert len({arrival.key for arrival in alerted.arrivals}) == 1
        (tmp_path / "worker").mkdir()
        async with working(tmp_path / "worker", redis_url, alerted, PORT="0"):
            await api.drained()
            await watched.look()
            assert (await texts(alerted, 3))[2:] == [("no-workers", "over")]


async def test_while_all_is_paused_the_process_that_looks_tells_it(
    redis_url: str, tmp_path: Path, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with working(tmp_path, redis_url, alerted) as process, Watched(redis_url, alerted) as watched:
        await raw.set(KEYS.pause_all, 1)
        await raw.hincrby(KEYS.counters, "scheduled", 1)
        await watched.look()
        assert await texts(alerted, 1) == [("ledger", "began")]
        await raw.hincrby(KEYS.counters, "scheduled", -1)
        await raw.delete(KEYS.pause_all)
        assert process.process.poll() is None


async def begin_to_send(watched: Watched, alerted: Receiver, raw: redis.asyncio.Redis) -> asyncio.Task[None]:
    """Let it look while the ledger is not balanced, and send that to a receiver that does not answer yet."""
    await raw.hincrby(KEYS.counters, "scheduled", 1)
    alerted.may_answer.clear()
    looking = asyncio.create_task(watched.look())
    await texts(alerted, 1)
    return looking


async def test_while_the_receiver_stalls_no_other_process_sends_the_same(
    redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with Watched(redis_url, alerted) as watched, Watched(redis_url, alerted) as other:
        looking = await begin_to_send(watched, alerted, raw)
        for _ in range(3):
            await look_anew(other.watch)
        assert not looking.done()
        alerted.may_answer.set()
        await looking
        await other.look()
        assert await texts(alerted, 1) == [("ledger", "began")]
        await raw.hincrby(KEYS.counters, "scheduled", -1)


async def test_what_a_process_that_dies_has_not_sent_another_sends(
    redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with Watched(redis_url, alerted) as watched, Watched(redis_url, alerted) as other:
        looking = await begin_to_send(watched, alerted, raw)
        looking.cancel()
        await asyncio.wait([looking])
        alerted.may_answer.set()
        await look_anew(other.watch)
        await watched.look()
        assert await texts(alerted, 2) == [("ledger", "began")] * 2
        assert len({arrival.key for arrival in alerted.arrivals}) == 1
        await raw.hincrby(KEYS.counters, "scheduled", -1)


async def test_a_process_that_cannot_keep_its_turn_stops_sending(
    redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with Watched(redis_url, alerted) as watched:
        looking = await begin_to_send(watched, alerted, raw)
        await raw.hset(KEYS.alerts, "who", "another")
        async with asyncio.timeout(5):  # an attempt has longer
            await looking
        assert [one async for one in raw.hscan_iter(KEYS.alerts, "tell:*")]
        alerted.may_answer.set()
        await raw.hincrby(KEYS.counters, "scheduled", -1)
