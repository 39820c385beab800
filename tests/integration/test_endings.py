"""However a connection ends, and in whatever order its parts come, the service has no fault to log."""

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_scheduler.api import protocol
from tests.support.recorder import Recorder
from tests.support.service import TOKEN, client_of, serving
from tests.support.waiting import wait_until

POST = b"POST /waits HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n" % TOKEN.encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
EXPECT = b"Expect: 100-continue\r\n"
OFFER = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"

PARTS = {
    "a GET": b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n",
    "a GET that waits": b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n",
    "a large answer": b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
    "a refused body": b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "a body": POST + b"Content-Length: 3\r\n\r\nabc",
    "an expected body": POST + EXPECT + b"Content-Length: 3\r\n\r\nabc",
    "an expectation": POST + EXPECT + b"Content-Length: 30\r\n\r\n",
    "an expectation beside an offer": POST + EXPECT + OFFER + b"Content-Length: 30\r\n\r\n",
    "an expectation and a bad chunk": CHUNKED + EXPECT + b"\r\nZZ\r\n",
    "an expectation of HTTP/1.0": POST.replace(b"1.1", b"1.0") + EXPECT + b"Content-Length: 30\r\n\r\n",
    "an expectation of HTTP/2.0": POST.replace(b"1.1", b"2.0") + EXPECT + b"Content-Length: 30\r\n\r\n",
    "chunks": CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
    "half a chunk": CHUNKED + EXPECT + b"\r\n30\r\nabc",
    "a chunk that is none": CHUNKED + b"\r\n3\r\nabc\r\nZZ\r\n",
    "a trailer": CHUNKED + EXPECT + b"\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    "a trailer that is none": CHUNKED + EXPECT + b"\r\n3\r\nabc\r\n0\r\nX y\r\n\r\n",
    "half a trailer": CHUNKED + EXPECT + b"\r\n3\r\nabc\r\n0\r\nX: ",
    "too many trailers": CHUNKED + EXPECT + b"\r\n0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    "the last request": b"GET /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "half a head": b"GET /one HT",
    "no HTTP": b"\0\r\n\r\n",
}
ENDS = ["reset", "half-close", "half-close, then reset", "close", "answers read"]


@pytest.fixture(autouse=True)
def no_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No fault is logged, by the server or by the event loop."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info] == []


def reset(client: socket.socket) -> None:
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def _exchange(recorder: Recorder, names: list[str], end: str, cuts: list[int], opens: bool) -> None:
    """Send the parts, cut into packets; open the gate before the end, or behind it; then end."""
    recorder.gate.clear()
    recorder.large = b"x" * 1_000_000
    loop = asyncio.get_running_loop()
    data = b"".join(PARTS[name] for name in names)
    client = socket.create_connection(("127.0.0.1", recorder.port))
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ConnectionError):
        for start, stop in itertools.pairwise([0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]):
            await loop.sock_sendall(client, data[start:stop])
            for _ in range(3):  # the server is in this loop: it has read the piece by then
                await asyncio.sleep(0)
    if opens:
        recorder.gate.set()
        await asyncio.sleep(0)
    with contextlib.suppress(OSError):
        if "half-close" in end:
            client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.001)
        if end == "answers read":
            async with asyncio.timeout(0.005):
                while await loop.sock_recv(client, 100_000):
                    pass
    if "reset" in end:
        reset(client)
    else:
        client.close()
    await asyncio.sleep(0)
    recorder.gate.set()
    await wait_until(lambda: not recorder.connections, "closed", every_s=0.001)
    await wait_until(lambda: not recorder.server.server_state.tasks, "answered", every_s=0.001)


@pytest.mark.parametrize("end", ENDS)
def test_no_order_of_two_parts_is_a_fault(runner: asyncio.Runner, recorder: Recorder, end: str) -> None:
    """An expectation beside a bad chunk, and a reset while one of several requests was answered, were tracebacks."""

    async def all_pairs() -> None:
        for number, names in enumerate(itertools.product(PARTS, PARTS)):
            await _exchange(recorder, list(names), end, [], opens=number % 2 == 0)

    runner.run(all_pairs())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=6),
    end=st.sampled_from(ENDS),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
    opens=st.booleans(),
)
def test_no_order_of_parts_and_packets_is_a_fault(
    runner: asyncio.Runner, recorder: Recorder, names: list[str], end: str, cuts: list[int], opens: bool
) -> None:
    runner.run(_exchange(recorder, names, end, cuts, opens))


async def test_no_ending_is_a_traceback_or_shows_the_token(tmp_path: Path, redis_url: str) -> None:
    """The service as it is run, with pages that are on their way."""
    async with serving(tmp_path, REDIS_URL=redis_url, API_AUTH=TOKEN, LOG_FORMAT="json") as process:
        async with client_of(process) as client:
            port = int(client.url.rpartition(":")[2])
            for _ in range(9):
                await client.schedule("http://127.0.0.1:9/", 3_000, data="x" * 900_000)
            head = b" HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n" % TOKEN.encode()
            expects = b"POST /schedule" + head + EXPECT + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"
            pages = (b"GET /schedules" + head + b"\r\n") * 5
            for packet, pause_s in itertools.product(
                [expects, pages, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" * 2], [0, 0.01, 0.1]
            ):
                at = socket.create_connection(("127.0.0.1", port))
                at.sendall(packet)
                await asyncio.sleep(pause_s)
                reset(at)
            await client.stats()
        await process.stop()
        assert "raceback" not in process.log
        assert "rror" not in process.log
        assert TOKEN not in process.log


@pytest.mark.parametrize("signals", [1, 2])
async def test_what_a_stop_cuts_off_is_no_traceback(tmp_path: Path, redis_url: str, signals: int) -> None:
    grace = "0" if signals == 1 else "30"
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN, SHUTDOWN_GRACE=grace) as process:
        async with client_of(process) as client:
            port = int(client.url.rpartition(":")[2])
            for _ in range(9):
                await client.schedule("http://127.0.0.1:9/", 3_000, data="x" * 900_000)
        with socket.socket() as at:
            at.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            at.connect(("127.0.0.1", port))
            at.sendall(b"GET /schedules HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % TOKEN.encode())
            await asyncio.to_thread(at.recv, 10)
            process.signal(signal.SIGTERM)
            await wait_until(lambda: process.events("stopping"), "it stops")
            if signals == 2:
                process.signal(signal.SIGTERM)
            assert await process.ended() == 0
        assert "raceback" not in process.log


# What is refused, and how


def exchange(port: int, *packets: bytes) -> bytes:
    """Send the packets, then close this side; return all that comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for packet in packets:
            client.sendall(packet)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65_536), b""))


ONE = b"POST /one HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "version", [b"0.9", b"2.0", b"2.0\r\nConnection: keep-alive", b"2.0\r\n" + OFFER.rstrip(), b"1.2", b"3.0", b"9.9"]
)
@pytest.mark.parametrize("host", [b"Host: x\r\n", b""])
def test_another_version_of_http_is_refused(
    runner: asyncio.Runner, recorder: Recorder, version: bytes, host: bytes
) -> None:
    recorder.begun.clear()
    recorder.gate.clear()
    refused = b"POST /two HTTP/%s\r\n%sContent-Length: 0\r\n\r\n" % (version, host)
    answer = runner.run(asyncio.to_thread(exchange, recorder.port, refused, ONE + b"Content-Length: 0\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n")
    assert answer.count(b"HTTP/1.1 ") == 2, "and once in the error"
    assert b"connection: close" in answer
    assert recorder.begun == []
    # Behind a request that is being answered, in its turn.
    recorder.gate.set()
    answer = runner.run(asyncio.to_thread(exchange, recorder.port, PARTS["a GET that waits"] + refused))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 505 " in answer
    assert recorder.begun == ["/waits"]


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_has_no_interim_answer(runner: asyncio.Runner, recorder: Recorder, more: bytes) -> None:
    head = b"POST /one HTTP/1.0\r\n" + more + EXPECT + b"Content-Length: 3\r\n\r\n"
    for packets in ((head, b"abc"), (head + b"abc",)):
        answer = runner.run(asyncio.to_thread(exchange, recorder.port, *packets))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"/one")


HEAD = b"HEAD / HTTP/1.1\r\n"

REFUSED_HEADS = {
    "no host": HEAD + b"\r\n",
    "two hosts": HEAD + b"Host: x\r\nHost: x\r\n\r\n",
    "another version": b"HEAD / HTTP/2.0\r\nHost: x\r\n\r\n",
    "too many headers": HEAD + b"Host: x\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    "too many headers to come": HEAD + b"Host: x\r\n" + b"X: y\r\n" * 40_000,
    "too long a header": HEAD + b"Host: x\r\nX: " + b"y" * 400_000,
    "too long a target": b"HEAD /" + b"y" * 400_000,
    "no header": HEAD + b"Host x\r\n\r\n",
    "a bad chunk": b"HEAD /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "a bad chunk behind others": PARTS["a GET"]
    + b"HEAD /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
}


@pytest.mark.parametrize("name", REFUSED_HEADS)
def test_the_refusal_of_head_has_no_body(runner: asyncio.Runner, recorder: Recorder, name: str) -> None:
    answer = runner.run(asyncio.to_thread(exchange, recorder.port, REFUSED_HEADS[name]))
    head, _, body = answer.removeprefix(
        b"" if answer.count(b"HTTP/1.1 ") < 2 else answer[: answer.index(b"/one") + 4]
    ).partition(b"\r\n\r\n")
    assert head.split()[1][:1] in (b"4", b"5")
    assert b"content-length: " in head
    assert body == b""


@pytest.mark.parametrize("before", [b"", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_other_refusals_have_one(runner: asyncio.Runner, recorder: Recorder, before: bytes) -> None:
    """The parser goes on naming the method of the request before."""
    for bad in (b"\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", CHUNKED + b"\r\nZZ\r\n"):
        answer = runner.run(asyncio.to_thread(exchange, recorder.port, before + bad))
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["status"] == 400


@pytest.mark.parametrize("name", ["/one", "/refused"])
def test_trailers_are_as_many_as_headers_at_most(runner: asyncio.Runner, recorder: Recorder, name: str) -> None:
    """In one packet, any number had passed."""
    head = ONE.replace(b"/one", name.encode()) + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    for count, passes in ((protocol.HEAD_FIELDS, True), (protocol.HEAD_FIELDS + 1, False)):
        for pieces in (1, count):
            recorder.requests.clear()
            trailers = [b"X: y\r\n" * (count // pieces)] * pieces
            trailers[-1] += b"\r\n"
            trailers[0] = head + trailers[0]
            answer = runner.run(asyncio.to_thread(exchange, recorder.port, *trailers, PARTS["a GET"]))
            assert answer.endswith(b"/one") == passes
            if name == "/one":
                assert answer.startswith(b"HTTP/1.1 200 " if passes else b"HTTP/1.1 400 ")
                assert ("POST", "/one", b"abc") in recorder.requests or not passes
