"""Processes that die, stop, and work side by side: nothing is lost, nothing is doubled by the living."""

import asyncio
import contextlib
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest

from redis_scheduler.process.embedded import EmbeddedServer
from tests.support.engine import MODULE
from tests.support.receiver import Receiver, receiving
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.waiting import wait_until

LEASE_AND_SWEEP_S = 15 + 3


async def test_what_was_scheduled_survives_the_kill_of_service_and_redis(tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path) as process, client_of(process) as client:
        scheduled = {await client.schedule(receiver.url, ttl, data=ttl) for ttl in (2, 3)}
        for victim in [
            *psutil.Process(process.process.pid).children(recursive=True),
            psutil.Process(process.process.pid),
        ]:
            victim.kill()
        await process.ended()
    async with serving(tmp_path) as process, client_of(process) as client:
        stats = await client.drained()
        assert receiver.times_by_key.keys() == scheduled
        assert (stats["counters"]["delivered"], stats["ledger_balanced"]) == (2, True)


async def test_the_kill_of_the_service_alone_leaves_no_second_redis(tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path) as process, client_of(process) as client:
        await client.schedule(receiver.url, 2)
        orphans = psutil.Process(process.process.pid).children()
        process.process.kill()
        await process.ended()
    async with serving(tmp_path) as process, client_of(process) as client:
        assert [orphan for orphan in orphans if orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE] == []
        await client.drained()
        assert receiver.times_by_key.total() == 1


async def schedule_many(client: Client, webhook: str, count: int, ttl: float = 0) -> set[str]:
    """Schedule `count` tasks at once."""
    return set(await asyncio.gather(*(client.schedule(webhook, ttl, data=number) for number in range(count))))


@pytest.mark.long
async def test_a_killed_workers_deliveries_all_arrive_within_the_lease(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    variables = {"REDIS_URL": redis_url, "CONCURRENCY": "150", "RETRY_TIME": "3600"}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(serving(tmp_path, "api", **variables))
        doomed = await stack.enter_async_context(serving(tmp_path, "worker", **variables))
        survivor = await stack.enter_async_context(serving(tmp_path, "worker", **variables))
        client = await stack.enter_async_context(client_of(api))
        scheduled = await schedule_many(client, receiver.url, 200)
        await wait_until(lambda: len(receiver.arrivals) == 200, "all 200 are in delivery")
        doomed.process.kill()
        killed_at = time.time()
        receiver.may_answer.set()
        stats = await client.drained(timeout_s=LEASE_AND_SWEEP_S + 5)
        assert receiver.times_by_key.keys() == scheduled
        again = [arrival for arrival in receiver.arrivals if arrival.at > killed_at]
        assert again
        assert max(arrival.at for arrival in again) - killed_at < LEASE_AND_SWEEP_S
        # The survivor's own are never doubled: only what the killed worker had comes twice, and at most twice.
        assert len(receiver.arrivals) == 200 + len(again)
        assert stats["counters"]["delivered"] == 200
        assert 200 - len(again) >= 200 - 150
        assert all(arrival.attempt == 1 for arrival in receiver.arrivals)
        assert not survivor.events("retry")


async def test_ten_workers_promote_and_deliver_each_task_once(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    variables = {"REDIS_URL": redis_url}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(serving(tmp_path, "api", **variables))
        workers = [Process(tmp_path, "workers", "2", module=MODULE, API_AUTH=TOKEN, **variables) for _ in range(5)]
        for worker in workers:
            stack.push_async_callback(worker.stop)
        for worker in workers:
            await worker.started()
        client = await stack.enter_async_context(client_of(api))
        scheduled = await schedule_many(client, receiver.url, 1000, ttl=2)
        stats = await client.drained(timeout_s=30)
        # However often it was promoted: a worker may send what is surplus there back to `due`, to come again.
        assert receiver.times_by_key == dict.fromkeys(scheduled, 1)
        assert (stats["counters"]["delivered"], stats["ledger_balanced"]) == (1000, True)


async def test_a_stop_finishes_what_is_in_flight_and_claims_no_more(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url) as api,
        serving(tmp_path, "worker", REDIS_URL=redis_url, CONCURRENCY="13") as worker,
        client_of(api) as client,
    ):
        await schedule_many(client, receiver.url, 30)
        await wait_until(lambda: receiver.in_flight >= 9, "its slots are full")
        worker.signal(signal.SIGTERM)
        await wait_until(lambda: worker.events("draining"), "it drains")
        receiver.may_answer.set()
        assert await worker.ended() == 0
        stats = await client.stats()
        arrived = len(receiver.arrivals)
        assert stats["counters"]["delivered"] == arrived < 30
        assert (stats["states"]["in_delivery"], stats["counters"]["failed"]) == (0, 0)
        async with serving(tmp_path, "worker", REDIS_URL=redis_url):
            await client.drained()
        assert len(receiver.arrivals) == 30


async def test_what_outlasts_the_grace_is_released_and_burns_no_attempt(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    variables = {"REDIS_URL": redis_url, "SHUTDOWN_GRACE": "0.5"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        key = await client.schedule(receiver.url)
        await wait_until(lambda: receiver.arrivals, "it is in delivery")
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert process.events("released")
    receiver.may_answer.set()
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        stats = await client.drained()
    assert [(arrival.key, arrival.attempt) for arrival in receiver.arrivals] == [(key, 1)] * 2
    assert stats["counters"]["failed"] == 0


async def test_a_second_signal_skips_the_wait(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await wait_until(lambda: receiver.arrivals, "it is in delivery")
        process.signal(signal.SIGTERM)
        await wait_until(lambda: process.events("draining"), "it drains")
        signalled_at = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert time.monotonic() - signalled_at < 10, "the grace is 15 s"
        assert process.events("released")
    receiver.may_answer.set()
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        await client.drained()


async def test_a_background_task_that_dies_stops_the_process_with_its_error(redis_url: str, tmp_path: Path) -> None:
    process = Process(tmp_path, "faulty", module=MODULE, REDIS_URL=redis_url, API_AUTH=TOKEN)
    try:
        assert await process.ended() == 1
        assert "ZeroDivisionError" in process.events("died")[0]["traceback"]
    finally:
        await process.stop()


async def test_a_stop_does_not_wait_for_a_body_that_does_not_come(redis_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url) as process:
        port = (await process.started())["port"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /schedule HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\nContent-Length: 50\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        async with client_of(process) as client:
            await client.stats()  # so that the head before it has been read
        process.signal(signal.SIGTERM)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"status":503' in answer
        assert await process.ended(5) == 0
        writer.close()


async def test_a_machine_out_of_sockets_burns_no_attempt(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process, client_of(process) as client:
        async with receiving() as other:
            await client.schedule(other.url)
            await client.drained()  # its own connections are open, those of the worker too
        pid = process.process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, most))
        await client.schedule(receiver.url)
        await wait_until(lambda: process.events("given-back"), "it says so")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        stats = await client.drained()
        assert (stats["counters"]["delivered"], stats["counters"]["failed"]) == (2, 0)


@pytest.mark.long
async def test_an_outage_longer_than_the_lease_doubles_nothing_of_the_living(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.delay_s = 14
    folder = tmp_path / "redis"
    server = EmbeddedServer(folder)
    await server.start()
    variables = {"REDIS_URL": server.url, "TIMEOUT": "60", "CONCURRENCY": "12", "module": MODULE, "LEASE_MS": "5000"}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(serving(tmp_path, "api", **variables))
        for _ in range(2):
            await stack.enter_async_context(serving(tmp_path, "worker", **variables))
        client = await stack.enter_async_context(client_of(api))
        scheduled = await schedule_many(client, receiver.url, 16)
        await wait_until(lambda: len(receiver.arrivals) == 16, "all are in delivery")
        await server.stop()
        await asyncio.sleep(6)  # the outage: longer than the lease
        await server.start()
        stack.push_async_callback(server.stop)
        stats = await client.drained(timeout_s=30)
        assert receiver.times_by_key == dict.fromkeys(scheduled, 1)
        assert (stats["counters"]["delivered"], stats["ledger_balanced"]) == (16, True)
