"""What strangers send to a proxy in order to leave something behind on a connection that others use after them."""

import asyncio
import contextlib

FILLER = b"\r\n" * 150
"""Passed over before a request: what was swallowed of the one before may end anywhere in it."""


def smuggling_pair(gap: int) -> tuple[bytes, bytes]:
    """Return two requests that together made a purge of the next client's request, where a server shortened bodies."""
    requests = smuggling_requests(gap)
    return requests[0], requests[len(requests) // 5]


def smuggling_requests(gap: int) -> list[bytes]:
    """Requests without a token. `gap`: so many bytes the fields are long that a server might take out of a body."""
    purge = b"POST /purge HTTP/1.1\r\nX-Swallows: "
    answered = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    deficit = b"x\r\nUpgrade: " + b"y" * gap + b"\r\n"
    bodies = [deficit, FILLER + answered + purge, b"z" * gap + purge, purge * 3, b"0\r\n\r\n" + purge]
    offers = [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: upgrade\r\nUPGRADE: a\r\nUpgrade: b\r\n"]
    framed = []
    for body in bodies:
        for offer in offers:
            length = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            framed += [b"POST / HTTP/1.1\r\nHost: x\r\n" + offer + rest for rest in (length, chunks)]
    return framed


async def send_as_stranger(port: int, request: bytes) -> None:
    """Send it, and wait for an answer: the proxy has then given the connection back."""
    with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            async with asyncio.timeout(2):
                await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()
