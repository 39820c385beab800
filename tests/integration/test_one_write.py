"""An answer leaves in one write: its head with the beginning of its body."""

import asyncio
import socket
import struct
import sys

import pytest

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
