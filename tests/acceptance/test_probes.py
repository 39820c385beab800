"""The probes: /healthz says that the process lives, /readyz that a request would be served. Neither asks for the
token."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
import redis.asyncio

from redis_scheduler.api import server
from redis_scheduler.api.app import create_app
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from tests.support.asked import asked
from tests.support.names import KEYS, SHARDS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, free_port, redis_process
from tests.support.service import Client, Process, client_of, serving
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

OK = (200, {"status": 200, "data": "ok"})
NOT_READY = (503, {"status": 503, "error": "Not ready", "code": "not-ready"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_is_answered_with_any_token_and_none(path: str, api: Client) -> None:
    right = api.headers
    for headers in ({}, {"Authorization": "wrong"}, right):
        api.headers = headers
        assert await api.call("GET", path) == OK
        async with api.session.head(api.url + path, headers=headers) as response:
            assert (response.status, await response.read()) == (200, b"")
        for method in ("POST", "PUT", "DELETE"):
            assert (await api.call(method, path))[0] == (405 if headers is right else 401)
    for other in ("/healthz/", "/readyz/x", "/HEALTHZ"):
        assert (await api.call("GET", other))[0] == 404


@contextlib.asynccontextmanager
async def with_redis(folder: Path) -> AsyncIterator[tuple[RedisProcess, Process, Client]]:
    """A service on a Redis of its own."""
    async with (
        redis_process(folder / "redis") as database,
        serving(folder, REDIS_URL=database.url, HOST="127.0.0.1") as process,
        client_of(process) as client,
    ):
        client.headers = {}
        await wait_until(lambda: _is(client, "/readyz", OK), "it is ready")
        yield database, process, client


async def _is(client: Client, path: str, answer: tuple[int, object]) -> bool:
    return await client.call("GET", path) == answer


async def test_while_redis_hangs_it_lives_and_is_not_ready_within_two_seconds(tmp_path: Path) -> None:
    async with with_redis(tmp_path) as (database, process, client):

        async def slowest_s(path: str, answer: tuple[int, object]) -> float:
            """How long the last of 200 that ask at once has waited."""
            started = time.monotonic()
            assert await asyncio.gather(*(client.call("GET", path) for _ in range(200))) == [answer] * 200
            return time.monotonic() - started

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client.session:
            async with standing_still(database.pid):
                await asyncio.sleep(0.3)  # an answer of before holds as long as that
                usual_s = await slowest_s("/healthz", OK)
                asking = asyncio.create_task(slowest_s("/readyz", NOT_READY))
                await asyncio.sleep(0)  # so that the requests are on their way
                assert await client.call("GET", "/healthz") == OK
                assert not asking.done()
                took_s = await asking
                # Beside what so many cost on this machine.
                usual_s = max(usual_s, await slowest_s("/healthz", OK))
                assert took_s < 2 + usual_s
                # All of them shared one call of each shard.
                connections = psutil.Process(process.process.pid).net_connections()
                assert len([one for one in connections if one.raddr and one.raddr.port == database.port]) < 12 * SHARDS
            await wait_until(lambda: _is(client, "/readyz", OK), "it is ready again")


async def test_without_redis_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}", HOST="127.0.0.1") as process,
        client_of(process) as client,
    ):
        client.headers = {}
        assert await client.call("GET", "/readyz") == NOT_READY
        assert await client.call("GET", "/healthz") == OK


async def test_whoever_asks_how_often_redis_is_asked_a_few_times_a_second(tmp_path: Path) -> None:
    async with with_redis(tmp_path) as (database, _process, client):
        raw = redis.asyncio.Redis(port=database.port, protocol=2)
        async with asked(raw) as commands:
            started = time.monotonic()
            for _ in range(20):
                answers = await asyncio.gather(*(client.call("GET", "/readyz") for _ in range(50)))
                assert answers == [OK] * 50
            seconds = time.monotonic() - started
        await raw.aclose()
        # The timer asks for the pause beside it: so count who asks for the id. Whoever joins does that, too.
        ids = [command for command in commands if command[0] == "GET" and command[1] == KEYS.instance]
        assert len(ids) <= seconds / 0.2 + 3


async def test_a_full_redis_is_one_that_answers(api: Client, raw: redis.asyncio.Redis) -> None:
    await raw.config_set("maxmemory", 1)
    try:
        await asyncio.sleep(0.3)  # an answer of before holds as long as that
        assert await api.call("GET", "/readyz") == OK
    finally:
        await raw.config_set("maxmemory", 0)


async def test_a_process_that_stops_is_not_ready(client: RedisClient) -> None:
    stop, hurry, stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
    listener = server.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = create_app([client], "writer", "token", 1_000, [Deployment()], stopping.is_set)
    running = server.create_server(app, grace_s=1)
    async with asyncio.TaskGroup() as tasks, aiohttp.ClientSession() as session:
        tasks.create_task(running.run_until(stop, hurry, listener))
        asking = Client(session, f"http://127.0.0.1:{port}")
        assert await asking.call("GET", "/readyz") == OK
        stopping.set()
        assert await asking.call("GET", "/readyz") == NOT_READY
        assert await asking.call("GET", "/healthz") == OK
        stop.set()


READYZ = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_while_it_drains_nobody_is_told_that_it_is_ready(tmp_path: Path, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    async with serving(tmp_path, HOST="127.0.0.1") as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await wait_until(lambda: receiver.in_flight, "it is in delivery")
        port = int(client.url.rpartition(":")[2])
        kept, other = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in (kept, other):  # the other keeps the port open
            writer.write(READYZ)
            assert (await asyncio.wait_for(reader.readuntil(b"}\n"), 5)).startswith(b"HTTP/1.1 200 ")
        process.signal(signal.SIGTERM)
        await wait_until(lambda: process.events("stopping"), "it stops")
        # On a kept connection, until it is told to close; then on a new one.
        head = b""
        while b"connection: close" not in head:
            kept[1].write(READYZ)
            head = await asyncio.wait_for(kept[0].readuntil(b"}\n"), 5)
            assert head.startswith(b"HTTP/1.1 503 ")
        new = await asyncio.open_connection("127.0.0.1", port)
        new[1].write(READYZ)
        assert (await asyncio.wait_for(new[0].read(), 5)).startswith(b"HTTP/1.1 503 ")
        for _, writer in (kept, other, new):
            writer.close()
        assert process.process.poll() is None
        receiver.may_answer.set()
        assert await process.ended() == 0
