"""A name of Redis that has several addresses: those that are silent keep nobody from one that answers."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.name_server import has_namespaces, naming_for_processes
from tests.support.redis_process import RedisProcess, free_port
from tests.support.service import Process, client_of, serving
from tests.support.waiting import wait_until

CERTIFICATES = Path(__file__).parents[1] / "support/certificates"
SILENT = ["127.66.0.1", "127.66.0.2"]

pytestmark = pytest.mark.skipif(not has_namespaces(), reason="a name server of one's own needs root and unshare")


@contextmanager
def silence(addresses: list[str], port: int) -> Iterator[None]:
    """Let nobody connect to a port of these addresses, nor be refused: each listens and has no room."""
    with ExitStack() as stack:
        for address in addresses:
            stack.enter_context(listener := socket.socket()).bind((address, port))
            listener.listen(0)
            for _ in range(2):
                stack.enter_context(client := socket.socket()).setblocking(False)
                client.connect_ex((address, port))
        yield


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    server = RedisProcess(tmp_path / "redis", "--bind", "127.0.0.1")
    await server.start()
    yield server
    await server.stop()


async def test_addresses_that_are_silent_keep_nobody_from_the_one_that_answers(
    server: RedisProcess, tmp_path: Path
) -> None:
    addresses = [*SILENT, "127.0.0.1"]
    async with naming_for_processes(lambda name, kind: addresses if kind == "A" else [], tmp_path) as (_, prefix):
        url = f"redis://redis.example:{server.port}/0"
        with silence(SILENT, server.port):
            async with serving(tmp_path, prefix=prefix, REDIS_URL=url) as process, client_of(process) as client:
                await client.schedule("http://localhost:1/", ttl=600)
                assert not process.events("redis-away")


async def test_an_address_under_which_another_answers_is_taken(server: RedisProcess, tmp_path: Path) -> None:
    """As 0.0.0.0, which leads to this machine."""
    addresses = ["0.0.0.0", "127.66.0.1"]
    async with naming_for_processes(lambda name, kind: addresses if kind == "A" else [], tmp_path) as (_, prefix):
        url = f"redis://redis.example:{server.port}/0"
        async with serving(tmp_path, prefix=prefix, REDIS_URL=url) as process, client_of(process) as client:
            await client.schedule("http://localhost:1/", ttl=600)


@asynccontextmanager
async def tls_before(server: RedisProcess, address: str) -> AsyncIterator[int]:
    """Take TLS off what comes to a port of this address, on its way to the server."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server, from_server = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pipe(reader, from_server), pipe(to_server, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "test-localhost.pem", CERTIFICATES / "test-key.pem")
    listening = await asyncio.start_server(serve, address, 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


@pytest.mark.parametrize("count", [0, 2])
async def test_an_address_that_speaks_no_tls_is_passed_over(count: int, server: RedisProcess, tmp_path: Path) -> None:
    """Also beside silent ones."""
    async with tls_before(server, "127.0.0.1") as port:
        plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.66.0.3", port)
        addresses = [*SILENT[:count], "127.66.0.3", "127.0.0.1"]
        url = f"rediss://redis.example:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false"
        async with naming_for_processes(lambda name, kind: addresses if kind == "A" else [], tmp_path) as (_, prefix):
            with silence(SILENT, port):
                async with serving(tmp_path, prefix=prefix, REDIS_URL=url) as process, client_of(process) as client:
                    await wait_until(lambda: client.accepts("http://localhost:1/", 600), "it takes a task", 10)
        plain.close()


async def test_addresses_that_take_a_connection_and_speak_no_tls_keep_nobody_from_the_one_that_does(
    server: RedisProcess, tmp_path: Path
) -> None:
    """As proxies whose server is away: they take the connection, and are silent then."""
    addresses = [*SILENT, "127.0.0.1"]
    async with (
        tls_before(server, "127.0.0.1") as port,
        naming_for_processes(lambda _, kind: addresses if kind == "A" else [], tmp_path) as (_, prefix),
    ):
        url = f"rediss://redis.example:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false"
        with ExitStack() as stack:
            for address in SILENT:
                stack.enter_context(listener := socket.socket()).bind((address, port))
                listener.listen()
            async with serving(tmp_path, prefix=prefix, REDIS_URL=url) as process, client_of(process) as client:
                await client.schedule("http://localhost:1/", ttl=600)
                assert not process.events("redis-away")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_where_all_addresses_refuse_one_short_line_says_so(scheme: str, tmp_path: Path) -> None:
    addresses, port = ["127.66.0.1", "127.66.0.2"], free_port()
    async with naming_for_processes(lambda name, kind: addresses if kind == "A" else [], tmp_path) as (_, prefix):
        process = Process(tmp_path, "doctor", prefix=prefix, REDIS_URL=f"{scheme}://redis.example:{port}/0")
        assert await process.ended(20) == 1
    assert process.log == (
        f"redis-scheduler: Redis is not available: Error 111 connecting to redis.example:{port}. Connection refused.\n"
    )


async def test_where_all_addresses_are_silent_the_time_is_that_of_one(tmp_path: Path) -> None:
    """And a command says so in a line."""
    port = free_port()
    async with naming_for_processes(lambda name, kind: SILENT if kind == "A" else [], tmp_path) as (_, prefix):
        with silence(SILENT, port):
            process = Process(tmp_path, "doctor", prefix=prefix, REDIS_URL=f"redis://redis.example:{port}/0")
            assert await process.ended(20) == 1
    assert process.log.count("\n") == 1
    assert "no answer in time" in process.log
