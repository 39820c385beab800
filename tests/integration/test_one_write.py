"""An answer leaves in one write: its head with the beginning of its body."""

import asyncio
import re
import socket
import struct
import sys

import pytest
from starlette.types import Message, Receive, Scope, Send

from redis_scheduler.api.answers import error_answer
from redis_scheduler.api.server import create_server, listen
from redis_scheduler.errors import Code
from tests.support.recorder import recording

DATA_SEGMENTS_IN = 152
"""Where TCP_INFO has the count of segments with data that came, since Linux 4.6."""


def segments_in(client: socket.socket) -> int:
    """Return how many packets with data a connection has got."""
    return int(
        struct.unpack_from("=I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), DATA_SEGMENTS_IN)[0]
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the packets of a connection")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("ends", ["", "Connection: close\r\n"], ids=["kept", "closed"])
async def test_an_answer_is_one_packet(method: str, ends: str) -> None:
    async with recording() as recorder:
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        client = writer.get_extra_info("socket")
        request = f"{method} /one HTTP/1.1\r\nHost: x\r\n{{}}Content-Length: 0\r\n\r\n"
        body = b"" if method == "HEAD" else b"/one"
        for end in ("", "", ends):
            writer.write(request.format(end).encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await asyncio.wait_for(reader.readexactly(len(body)), 10) == body
        assert segments_in(client) == 3
        if ends:
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_request_for_the_body_is_not_kept_back() -> None:
    async with recording() as recorder:
        reader, writer = await asyncio.open_connection("127.0.0.1", recorder.port)
        writer.write(b"POST /one HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await asyncio.wait_for(reader.readuntil(b"/one"), 10)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def answered(header: str, *, is_watched: bool) -> bytes:
    """Return the bytes of an answer with this header, sent at once or, if somebody watches, message by message; until
    the connection ends."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def watching(message: Message) -> None:
            await send(message)

        response = error_answer(Code.TASK_NOT_FOUND, "there is none", headers={"X-One": header})
        await response(scope, receive, watching if is_watched else send)

    listener = listen("127.0.0.1", 0)
    server = create_server(application, grace_s=1)
    server.server_state.default_headers = [(b"x-default", b"1")]
    stop, hurry = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        tasks.create_task(server.run_until(stop, hurry, listener))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: same\r\n\r\n" * 2)
        writer.write_eof()
        found = await reader.read()
        writer.close()
        stop.set()
        hurry.set()
    return re.sub(rb"date: [^\r]*\r\n", b"", found)


async def test_an_answer_that_is_sent_at_once_has_the_bytes_of_one_in_two_messages() -> None:
    found = await answered("caf\xe9\t1", is_watched=False)
    assert found == await answered("caf\xe9\t1", is_watched=True)
    assert found.count(b"HTTP/1.1 404 Not Found\r\n") == found.count(b"\r\nx-one: caf\xe9\t1\r\n") == 2


@pytest.mark.parametrize("header", ["1\r\nx-two: 2", "1\n2", "1\r2", "1\0", "\x7f"])
async def test_no_header_of_an_answer_ends_its_line(header: str) -> None:
    found = await answered(header, is_watched=False)
    assert found.startswith(b"HTTP/1.1 500 ")
    assert b"x-" not in found.replace(b"x-default", b"").replace(b"x-request-id", b"")
