"""What a connection may hold of the service: requests that wait, answers that nobody reads, heads, bodies."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from redis_scheduler.api import bounds, protocol
from redis_scheduler.api.limits import DEFAULT, Limits
from tests.support.receiver import Receiver
from tests.support.recorder import Recorder, recording
from tests.support.service import client_of, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.whole_start

TOKEN = "test-token"
SMALL = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def limits() -> Limits:
    """Those of `recorder`. A test that needs others is parametrised with them."""
    return DEFAULT


@pytest.fixture
async def recorder(limits: Limits) -> AsyncIterator[Recorder]:
    async with recording(send_buffer=4_096, limits=limits) as running:
        yield running


def connect(port: int, receive_buffer: int = 4_096) -> socket.socket:
    """Return a connection that takes little of what its client has not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def push(client: socket.socket, data: bytes) -> None:
    """Send as much as goes through, for as long as the connection lives."""
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(client, data)


def held(at: protocol.JsonHttpProtocol) -> int:
    """Bytes that a connection keeps unparsed."""
    return len(at._unparsed)


async def test_few_requests_wait_in_a_connection(recorder: Recorder) -> None:
    client = connect(recorder.port)
    sending = asyncio.create_task(push(client, b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n" + SMALL * 1_000_000))
    try:
        await wait_until(lambda: recorder.connections and recorder.connections[0].pipeline, "requests wait")
        for _ in range(50):
            await asyncio.sleep(0.005)
            assert len(recorder.connections[0].pipeline) <= bounds.PIPELINED_REQUESTS
            assert held(recorder.connections[0]) <= 300_000
        assert not sending.done(), "the rest stays with the client"
        recorder.gate.set()
        for _ in range(200):  # its answers are not read: that holds up the requests, too
            await asyncio.sleep(0.005)
            assert len(recorder.connections[0].pipeline) <= bounds.PIPELINED_REQUESTS
            assert held(recorder.connections[0]) <= 300_000
        assert not sending.done()
    finally:
        sending.cancel()
        client.close()


async def test_bodies_that_are_asked_for_let_no_more_in(recorder: Recorder) -> None:
    """An application that asks for a body made uvicorn read on, while others waited."""
    client = connect(recorder.port)
    request = b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    sending = asyncio.create_task(push(client, request * 100_000))
    most = 0
    try:
        await wait_until(lambda: recorder.connections, "connected")
        for _ in range(200):
            await asyncio.sleep(0.005)
            most = max(most, held(recorder.connections[0]))
            assert len(recorder.connections[0].pipeline) <= bounds.PIPELINED_REQUESTS
        assert 0 < most <= 300_000
    finally:
        sending.cancel()
        client.close()


@pytest.mark.parametrize("body", [b"", b"x", b"\r\n\r\n" * 3, b"y" * 70_000])
async def test_all_that_waited_are_answered_in_their_order(recorder: Recorder, body: bytes) -> None:
    count = 3_000 if len(body) < 100 else 30
    wire = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (at, len(body), body) for at in range(count)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
    writer.write(wire)
    async with asyncio.timeout(20):
        for number in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(f"/{number}")) == f"/{number}".encode(), head
    writer.close()
    assert recorder.requests == [("POST", f"/{number}", body) for number in range(count)]


@pytest.mark.parametrize(
    "request_", [b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /large HTTP/1.0\r\n\r\n", SMALL * 3_000]
)
async def test_a_connection_whose_answers_are_not_read_is_aborted(recorder: Recorder, request_: bytes) -> None:
    recorder.large = b"x" * 1_000_000
    async with recording(send_buffer=4_096, limits=Limits(unread_timeout_s=0.6)) as watched:
        watched.large = recorder.large
        client = connect(watched.port)
        await push(client, request_)
        await wait_until(lambda: watched.begun, "begun")
        await wait_until(lambda: not watched.connections, "aborted", timeout_s=20)
        client.close()


async def test_a_connection_whose_answers_are_read_slowly_is_kept() -> None:
    async with recording(send_buffer=4_096, limits=Limits(unread_timeout_s=2, read_bytes=10_000)) as watched:
        watched.large = b"x" * 500_000
        client = connect(watched.port)
        await push(client, b"GET /large HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := await asyncio.get_running_loop().sock_recv(client, 10_000):
            answer += piece
            await asyncio.sleep(0.06)  # 330,000 bytes in 2 s, and 3 s for all
        assert answer.endswith(watched.large)
        client.close()


async def test_a_head_of_very_many_fields_is_refused(recorder: Recorder) -> None:
    for fields, status in ((protocol.HEAD_FIELDS, b" 200 "), (protocol.HEAD_FIELDS + 1, b" 400 "), (20_000, b" 400 ")):
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(
            b"GET /one HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * (fields - 1) + (b"\r\n" if fields < 20_000 else b"")
        )
        assert status in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


@pytest.mark.parametrize("limits", [Limits(held_bytes=500_000)], ids=["500 kB"])
async def test_all_connections_together_hold_little_of_requests(recorder: Recorder) -> None:
    state = recorder.server.server_state
    assert isinstance(state, bounds.ConnectionState)
    usual_reader, usual = await asyncio.open_connection("127.0.0.1", recorder.port)
    usual.write(b"GET /one HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000)
    clients = [connect(recorder.port, receive_buffer=100_000) for _ in range(40)]
    waits = b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"
    for number, client in enumerate(clients):
        large = b"GET /one HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 50_000
        await push(client, [large, waits + (large + b"\r\n\r\n") * 3, waits + SMALL * 10_000][number % 3])
    for _ in range(50):
        await asyncio.sleep(0.01)
        assert sum(at._held_bytes for at in recorder.connections) <= state.held_bytes <= 800_000
    await wait_until(lambda: 1 < len(recorder.connections) < 30, "some are aborted")
    recorder.gate.set()
    usual.write(b"\r\n\r\n")
    assert await asyncio.wait_for(usual_reader.readline(), 5) == b"HTTP/1.1 200 OK\r\n"
    usual.close()
    for client in clients:
        client.close()
    await wait_until(lambda: state.held_bytes == 0, "nothing is held")


async def test_a_pipeline_that_comes_in_one_packet_is_counted(recorder: Recorder) -> None:
    state = recorder.server.server_state
    assert isinstance(state, bounds.ConnectionState)
    packet = (
        b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"
        + (b"GET /one HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000 + b"\r\n\r\n") * 14
    )
    _, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
    writer.write(packet)
    await wait_until(lambda: recorder.connections and len(recorder.connections[0].pipeline) == 14, "they wait")
    assert state.held_bytes == len(packet)
    recorder.gate.set()
    await wait_until(lambda: state.held_bytes == 0, "nothing is held")
    writer.close()


async def test_fields_that_are_coming_count_as_what_they_cost(recorder: Recorder) -> None:
    state = recorder.server.server_state
    assert isinstance(state, bounds.ConnectionState)
    reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
    for begin in (
        b"GET /one HTTP/1.1\r\nHost: x\r\n",
        b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ):
        writer.write(begin + b"a: b\r\n" * 250)
        await wait_until(lambda: state.held_bytes > 240 * bounds.FIELD_BYTES, "counted")
        writer.write(b"\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"/one"), 5)
        await wait_until(lambda: state.held_bytes == 0, "nothing is held")
        assert not recorder.connections[0].headers
    writer.close()


@pytest.mark.parametrize("limits", [Limits(held_bytes=0)], ids=["nothing"])
async def test_a_usual_head_is_taken_also_where_others_hold_all(recorder: Recorder) -> None:
    for size, answer in ((1_000, b"HTTP/1.1 200 OK\r\n"), (20_000, b"")):
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(b"GET /one HTTP/1.1\r\nHost: x\r\nX: " + b"y" * size)
        await wait_until(lambda: not recorder.connections or recorder.connections[0]._held_bytes, "it came")
        with contextlib.suppress(ConnectionError):
            writer.write(b"\r\n\r\n")
            assert await asyncio.wait_for(reader.readline(), 5) == answer
        writer.close()
        await wait_until(lambda: not recorder.connections, "closed")


@pytest.mark.parametrize("version", ["1.0", "1.1\r\nHost: x\r\nConnection: close"])
async def test_who_sends_a_body_that_is_refused_sees_the_answer_also_where_it_closes(
    recorder: Recorder, version: str
) -> None:
    """A connection that was closed before the body had come was reset, and a proxy answered 502."""
    size = 5_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
    writer.write(f"POST /refused HTTP/{version}\r\nContent-Length: {size}\r\n\r\n".encode())
    for _ in range(size // 50_000):
        await asyncio.sleep(0.001)
        writer.write(b"x" * 50_000)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"/refused")
    writer.close()


async def test_trailers_and_extensions_of_chunks_have_an_end(recorder: Recorder) -> None:
    head = b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for endless in (b"0\r\n" + b"X-Trailer: y\r\n" * 40_000, b"0\r\nX: " + b"y" * 500_000, b"5;" + b"x" * 500_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(head + endless)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert b" 400 " in (await reader.read() or b" 400 ")
        writer.close()
    assert recorder.requests == []


async def test_an_idle_connection_keeps_nothing_of_its_last_request(recorder: Recorder) -> None:
    process, clients = psutil.Process(), []
    requests = [
        b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
        b"GET /refused HTTP/1.1\r\nHost: x\r\n" + b"X: %s\r\n\r\n" % (b"y" * 60_000),
    ]
    rss = process.memory_info().rss
    for request in requests * 150:
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(request)
        await writer.drain()
        await reader.readuntil(b"/refused")
        clients.append(writer)
    await wait_until(lambda: all(at.cycle is None for at in recorder.connections), "all bodies have come")
    assert len(recorder.connections) == len(clients)
    assert process.memory_info().rss - rss < 15_000_000, "of 39 MB that were sent"
    for writer in clients:
        writer.close()


# The whole service, as strangers may try it


async def test_requests_of_strangers_who_read_nothing_cost_little(
    tmp_path: Path, redis_url: str, receiver: Receiver
) -> None:
    """Five connections, each with 3 MB of the smallest requests: 1.8 GB it was, and a delivery 72 s late."""
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        port = int(client.url.rpartition(":")[2])
        await client.schedule(receiver.url)
        await client.drained()
        service = psutil.Process(process.process.pid)
        before = service.memory_info().rss
        clients = [connect(port, receive_buffer=1_000_000) for _ in range(5)]
        requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (3_000_000 // 27)
        sending = [asyncio.create_task(push(client, requests)) for client in clients]
        try:
            for _ in range(10):
                asked_at = time.monotonic()
                key = await client.schedule(receiver.url)
                await wait_until(lambda: key in {at.key for at in receiver.arrivals}, "delivered", timeout_s=20)  # noqa: B023
                assert time.monotonic() - asked_at < 20
                assert service.memory_info().rss - before < 40_000_000
        finally:
            for task in sending:
                task.cancel()
            for at in clients:
                at.close()
