"""Connections: strangers cannot take those that deliveries and clients need, however many they open."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.engine import MODULE
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Process, client_of, serving
from tests.support.tokens import make_token, revoke
from tests.support.waiting import wait_until

ROOT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FEW_FILES = {"module": MODULE, "OPEN_FILES": "160"}
"""Starts a process that may have so many files open."""


def stats_with(token: str) -> bytes:
    return f"GET /stats HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode()


STATS = stats_with(TOKEN)


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    """Connections, closed after the test."""
    opened: list[socket.socket] = []
    yield opened
    for at in opened:
        at.close()


def connect(process: Process, clients: list[socket.socket], source: str = "127.0.0.1") -> socket.socket:
    at = socket.socket()
    clients.append(at)
    at.settimeout(5)
    at.bind((source, 0))
    at.connect(("127.0.0.1", process.events("started")[0]["port"]))
    return at


async def ask(at: socket.socket, request: bytes) -> bytes:
    """Return the status line of the answer; empty where the connection has been closed."""

    def exchange() -> bytes:
        with contextlib.suppress(ConnectionError):
            at.sendall(request)
            answer = b""
            while b"}" not in answer and (piece := at.recv(65_536)):
                answer += piece
            return answer.partition(b"\r\n")[0]
        return b""

    return await asyncio.to_thread(exchange)


async def known_clients(
    process: Process, clients: list[socket.socket], count: int, token: str = TOKEN
) -> list[socket.socket]:
    """Return connections that have shown the token."""
    known = []
    for _ in range(count):
        known.append(connect(process, clients))
        assert await ask(known[-1], stats_with(token)) == b"HTTP/1.1 200 OK"
    return known


def taken(process: Process) -> int:
    """Connections to the API that the process has."""
    port = process.events("started")[0]["port"]
    return sum(at.laddr.port == port and bool(at.raddr) for at in psutil.Process(process.process.pid).net_connections())


@pytest.mark.parametrize("begins", [b"", b"GET / HT", ROOT, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"])
async def test_idle_strangers_leave_connections_to_clients_and_deliveries(
    begins: bytes, tmp_path: Path, redis_url: str, receiver: Receiver, clients: list[socket.socket]
) -> None:
    async with serving(tmp_path, "--port=0", **FEW_FILES, REDIS_URL=redis_url, RETRIES="0") as process:
        for _ in range(400):
            at = connect(process, clients)
            with contextlib.suppress(ConnectionError):
                at.sendall(begins)
        await wait_until(lambda: 0 < taken(process) <= 80, "at most half of the descriptors are strangers'")
        async with client_of(process) as client:
            sent = [await client.schedule(receiver.url) for _ in range(30)]
            await wait_until(lambda: {at.key for at in receiver.arrivals} == set(sent), "delivered")
        assert process.events("connections-full")
        assert not process.events("dead")


async def test_who_has_shown_the_token_is_closed_for_no_other(
    tmp_path: Path, redis_url: str, clients: list[socket.socket]
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, API_CONNECTIONS="20") as process:
        known = await known_clients(process, clients, 10)
        for _ in range(60):
            await ask(connect(process, clients), ROOT)
        for at in known:
            assert await ask(at, STATS) == b"HTTP/1.1 200 OK"
        assert taken(process) <= 20


async def test_one_address_closes_its_own(tmp_path: Path, redis_url: str, clients: list[socket.socket]) -> None:
    """Another's are left, although they are the oldest."""
    async with serving(tmp_path, REDIS_URL=redis_url, API_CONNECTIONS="40") as process:
        other = connect(process, clients, "127.0.0.2")
        assert await ask(other, ROOT) == b"HTTP/1.1 200 OK"
        first, *_, last = [connect(process, clients) for _ in range(60)]
        assert await ask(last, ROOT) == b"HTTP/1.1 200 OK"
        assert await ask(first, ROOT) == b"", "the oldest of its address was closed"
        assert await ask(other, ROOT) == b"HTTP/1.1 200 OK"
        await wait_until(lambda: taken(process) == 11, "ten of one address, and the other's")


async def test_many_addresses_leave_room_for_one_that_brings_the_token(
    tmp_path: Path, redis_url: str, clients: list[socket.socket]
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, API_CONNECTIONS="8") as process:
        for number in range(40):
            connect(process, clients, f"127.0.1.{1 + number}")
        assert await ask(connect(process, clients), STATS) == b"HTTP/1.1 200 OK"
        await wait_until(lambda: taken(process) <= 8, "no more than there may be")


async def test_where_all_are_known_a_new_one_is_refused_and_told(
    tmp_path: Path, redis_url: str, clients: list[socket.socket]
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, API_CONNECTIONS="4") as process:
        known = await known_clients(process, clients, 4)
        assert await ask(connect(process, clients), STATS) == b""
        assert (await wait_until(lambda: process.events("connections-full"), "told"))[0]["refused"] == 1
        known.pop().close()

        async def has_room() -> bool:
            return await ask(connect(process, clients), STATS) == b"HTTP/1.1 200 OK"

        await wait_until(has_room, "room again")
        for at in known:
            assert await ask(at, STATS) == b"HTTP/1.1 200 OK"


@pytest.fixture
async def held(
    tmp_path: Path, redis_url: str, client: RedisClient, clients: list[socket.socket]
) -> AsyncIterator[tuple[Process, str, list[socket.socket]]]:
    """A process all of whose connections a token with rights holds, the token, and the connections."""
    async with serving(tmp_path, REDIS_URL=redis_url, API_CONNECTIONS="8") as process:
        token = await make_token(client, "metrics")
        yield process, token, await known_clients(process, clients, 8, token)


async def test_what_was_a_token_keeps_no_connections(
    held: tuple[Process, str, list[socket.socket]], client: RedisClient, clients: list[socket.socket]
) -> None:
    """Whoever asks now and then for what is open to all would keep those that it had when it was revoked."""
    process, token, before = held
    await revoke(client, token)

    async def is_refused() -> bool:
        return await ask(before[-1], stats_with(token)) == b"HTTP/1.1 401 Unauthorized"

    await wait_until(is_refused, "the process knows that it was revoked")
    for at, request in zip(before, [ROOT, stats_with(token)] * 4, strict=True):
        await ask(at, request)
    await known_clients(process, clients, 8)
    for at in before:
        assert await ask(at, ROOT) == b""


async def test_a_token_with_rights_shuts_out_no_other(
    held: tuple[Process, str, list[socket.socket]], clients: list[socket.socket]
) -> None:
    """Where it holds all connections it loses its oldest to others, down to a quarter."""
    process, token, greedy = held
    others = await known_clients(process, clients, 6)
    assert await ask(connect(process, clients), STATS) == b"", "the others are of API_AUTH"
    for at in others:
        assert await ask(at, STATS) == b"HTTP/1.1 200 OK"
    kept = [at for at in greedy if await ask(at, stats_with(token))]
    assert kept == greedy[-2:]


async def test_a_setting_beyond_the_limit_of_open_files_is_told(tmp_path: Path, redis_url: str) -> None:
    async with serving(tmp_path, "--port=0", **FEW_FILES, REDIS_URL=redis_url, API_CONNECTIONS="100") as process:

        def is_told() -> bool:
            warnings = [event["warning"] for event in process.events("hazard")]
            return any("API_CONNECTIONS=100" in warning and "80" in warning for warning in warnings)

        await wait_until(is_told, "told")
