"""How connections to the API end: the client sees the last answer whatever it still sends, and keeps nothing open for
long."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from redis_scheduler.api.limits import DEFAULT, Limits
from tests.support.recorder import Recorder, recording
from tests.support.waiting import wait_until


@pytest.fixture
def limits() -> Limits:
    """Those of `recorder`; a test that needs others is parametrised with them."""
    return DEFAULT


@pytest.fixture
async def recorder(limits: Limits) -> AsyncIterator[Recorder]:
    async with recording(limits=limits) as running:
        yield running


def send_all_then_read(port: int, data: bytes, piece: int = 0) -> bytes:
    """Send as a client that looks for no answer until it has sent everything; return all that comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for start in range(0, len(data), piece or len(data)):
            client.sendall(data[start : start + (piece or len(data))])
        answer = b""
        while read := client.recv(65_536):
            answer += read
        return answer


REFUSED_EARLY = {
    "a target without end": (b"GET /" + b"a" * 3_000_000, b" 400 "),
    "headers without end": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3_000_000, b" 400 "),
    "very many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 500_000, b" 400 "),
    "what is no HTTP": (b"hello\r\n\r\n" + b"a" * 3_000_000, b" 400 "),
    "no host": (b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000, b" 400 "),
    "chunks that are none": (
        b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"z" * 3_000_000,
        b" 400 ",
    ),
    "a body nobody wants, and a close": (
        b"POST /refused HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000,
        b" 200 ",
    ),
    "a body nobody wants, by HTTP/1.0": (
        b"POST /refused HTTP/1.0\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000,
        b" 200 ",
    ),
    "bytes behind the last request": (b"GET /one HTTP/1.0\r\n\r\n" + b"\0" * 3_000_000, b" 200 "),
    "requests behind the last one": (
        b"GET /one HTTP/1.0\r\n\r\n" + b"GET /two HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000,
        b" 200 ",
    ),
}


@pytest.mark.parametrize("name", REFUSED_EARLY)
async def test_a_client_that_is_still_sending_sees_the_answer(name: str, recorder: Recorder) -> None:
    data, status = REFUSED_EARLY[name]
    for piece in (0, 1_000):
        answer = await asyncio.to_thread(send_all_then_read, recorder.port, data, piece)
        assert status in answer.partition(b"\r\n")[0]
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer
    await wait_until(lambda: not recorder.connections, "closed")
    assert recorder.server.server_state.held_bytes == 0


async def test_the_answers_that_are_due_come_before_a_refusal_and_nothing_is_read_meanwhile(recorder: Recorder) -> None:
    waits = b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"
    sending = asyncio.create_task(asyncio.to_thread(send_all_then_read, recorder.port, waits + b"\0" * 10_000_000))
    await wait_until(lambda: recorder.begun, "begun")
    await asyncio.sleep(0.3)
    assert recorder.connections[0]._dropped_bytes < 1_000_000
    recorder.gate.set()
    answers = await sending
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answers


@pytest.mark.parametrize("limits", [Limits(silent_s=0.2)], ids=["soon"])
async def test_who_does_not_close_its_side_is_closed_soon(recorder: Recorder) -> None:
    for request in (b"hello\r\n\r\n", b"POST /refused HTTP/1.0\r\nContent-Length: 9\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(request)
        began = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 5)
        await wait_until(lambda: not recorder.connections, "closed")
        assert time.monotonic() - began < 3
        writer.close()


@pytest.mark.parametrize(
    "limits",
    [Limits(silent_s=0.1, dropped_bytes=300_000), Limits(silent_s=0.1, dropping_s=0.5)],
    ids=["by bytes", "by time"],
)
async def test_who_sends_without_end_is_cut_off(recorder: Recorder) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
    writer.write(b"hello\r\n\r\n")
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 10:
            writer.write(b"x" * 1_000)
            await writer.drain()
            await asyncio.sleep(0.001)
    assert time.monotonic() - began < 5
    assert not recorder.connections
    writer.close()


async def test_a_connection_that_asks_for_nothing_is_closed() -> None:
    async with recording(limits=Limits(keepalive_s=1.2, watch_s=0.05)) as watched:
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
        for _ in range(8):  # longer in all than an idle one is kept
            writer.write(b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"/one"), 5)
            await asyncio.sleep(0.2)
        writer.write(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(1.5)
        watched.gate.set()
        await asyncio.wait_for(reader.readuntil(b"/waits"), 5)
        assert await asyncio.wait_for(reader.read(), 5) == b"", "closed"
        writer.close()


# A stop


KEPT = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_who_keeps_a_connection_is_told_of_a_stop_by_the_answer() -> None:
    """An idle connection was closed at once, and with it the request that was on its way."""
    async with recording(limits=Limits(stopping_s=5)) as stopping:
        connections = [await asyncio.open_connection("127.0.0.1", stopping.port) for _ in range(3)]
        for reader, writer in connections[:2]:
            writer.write(KEPT)
            assert b"close" not in await asyncio.wait_for(reader.readuntil(b"/one"), 5)
        connections[2][1].write(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until(lambda: "/waits" in stopping.begun, "begun")
        stopping.stop.set()
        await wait_until(lambda: stopping.server.server_state.is_stopping, "it stops")
        late = await asyncio.open_connection("127.0.0.1", stopping.port)
        stopping.gate.set()
        for reader, writer in [connections[0], connections[2], late]:
            if (reader, writer) != connections[2]:
                writer.write(KEPT)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"connection: close\r\n" in answer
            writer.close()
        connections[1][1].close()
        began = time.monotonic()
        await asyncio.wait_for(stopping.ended.wait(), 10)
        assert time.monotonic() - began < 4, "nobody keeps a connection any more"


async def test_a_stop_waits_for_idle_connections_no_longer_than_it_may() -> None:
    async with recording(limits=Limits(stopping_s=0.5)) as stopping:
        reader, writer = await asyncio.open_connection("127.0.0.1", stopping.port)
        writer.write(KEPT)
        await asyncio.wait_for(reader.readuntil(b"/one"), 5)
        began = time.monotonic()
        stopping.stop.set()
        await asyncio.wait_for(stopping.ended.wait(), 10)
        assert 0.4 < time.monotonic() - began < 3
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("has_last_answer", [True, False])
async def test_a_stop_does_not_wait_for_who_sends_without_end(has_last_answer: bool) -> None:
    """It took the whole grace, for anybody without a token."""
    async with recording(grace_s=20, limits=Limits(stopping_s=0.2, silent_s=0.3)) as stopping:
        _reader, writer = await asyncio.open_connection("127.0.0.1", stopping.port)
        if has_last_answer:
            writer.write(b"POST /refused HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n")
        else:
            writer.write(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        await wait_until(lambda: stopping.begun, "begun")
        began = time.monotonic()
        stopping.stop.set()
        with contextlib.suppress(ConnectionError):
            while not stopping.ended.is_set() and time.monotonic() - began < 15:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        await asyncio.wait_for(stopping.ended.wait(), 15)
        assert time.monotonic() - began < 5
        writer.close()


def connect(port: int, receive_buffer: int = 4_096) -> socket.socket:
    """Return a connection that takes little of what its client has not read, or what the system likes."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


UNREAD = {
    "a large answer": b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
    "a large last answer": b"GET /large HTTP/1.0\r\n\r\n",
    "an answer that is all written": b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n",
    "an answer that is all written, and the last": b"GET /half HTTP/1.0\r\n\r\n",
    "many answers": KEPT * 20_000,
    "an answer before a body that does not come": b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    "an answer before a refusal": b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n\0",
}


@pytest.mark.parametrize("name", UNREAD)
async def test_a_stop_does_not_wait_for_who_reads_nothing(name: str) -> None:
    """It took the whole grace, for anybody without a token."""
    async with recording(
        send_buffer=4_096, grace_s=20, limits=Limits(stopping_s=0.2, silent_s=0.3, stop_unread_s=0.5)
    ) as stopping:
        stopping.large = b"x" * 1_000_000
        client = connect(stopping.port)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.get_running_loop().sock_sendall(client, UNREAD[name])
        await wait_until(lambda: stopping.requests, "answered")
        began = time.monotonic()
        stopping.stop.set()
        await asyncio.wait_for(stopping.ended.wait(), 25)
        assert time.monotonic() - began < 5
        client.close()


@pytest.mark.parametrize("request_", [KEPT.replace(b"/one", b"/large"), b"GET /large HTTP/1.0\r\n\r\n"])
@pytest.mark.parametrize(("buffer", "size", "read_size"), [(4_096, 200_000, 8_000), (0, 8_000_000, 200_000)])
async def test_a_stop_waits_for_who_reads_slowly(request_: bytes, buffer: int, size: int, read_size: int) -> None:
    """Large buffers of the system take nothing for a second, and then very much."""
    async with recording(send_buffer=buffer, grace_s=20, limits=Limits(stopping_s=0.2, stop_unread_s=0.8)) as stopping:
        stopping.large = b"x" * size
        client = connect(stopping.port, buffer)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, request_)
        await wait_until(lambda: stopping.requests, "answered")
        stopping.connections[0].become_known()
        stopping.stop.set()
        answer = b""
        while read := await loop.sock_recv(client, read_size):  # all in 2.5 or 4 s
            answer += read
            await asyncio.sleep(0.1)
        assert answer.endswith(stopping.large)
        client.close()
        await asyncio.wait_for(stopping.ended.wait(), 5)


async def test_a_stranger_who_reads_a_little_now_and_then_holds_up_no_stop() -> None:
    async with recording(send_buffer=4_096, grace_s=20, limits=Limits(stopping_s=0.2, stop_unread_s=0.5)) as stopping:
        stopping.large = b"x" * 1_000_000
        client = connect(stopping.port)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, UNREAD["a large answer"])
        await wait_until(lambda: stopping.requests, "answered")
        began = time.monotonic()
        stopping.stop.set()
        with contextlib.suppress(ConnectionError):
            while not stopping.ended.is_set() and time.monotonic() - began < 15:
                await loop.sock_recv(client, 3_000)
                await asyncio.sleep(0.1)
        await asyncio.wait_for(stopping.ended.wait(), 15)
        assert time.monotonic() - began < 5
        client.close()
