"""The clients that the service is compared with. Each posts all bodies, `concurrency` of them under way at any moment."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import cast
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from redis_scheduler.delivery import KEY_HEADER


async def post_with_aiohttp(url: str, bodies: Sequence[bytes], concurrency: int) -> None:
    """A bare aiohttp client: no queue, no time-outs of its own, nothing to write down, one session for all.

    It sends less than a delivery has to (no key, no attempt number) and leaves out what costs a client time without
    need (cookies), as the service does: the reference is as fast as aiohttp gets, not as it comes.
    """
    remaining = iter(bodies)
    webhook = URL(url)

    async def post() -> None:
        for body in remaining:
            async with session.post(webhook, data=body) as response:
                await response.read()
                response.raise_for_status()

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Content-Type": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        await _together(post, concurrency)


async def post_raw(url: str, bodies: Sequence[bytes], concurrency: int) -> None:
    """The least a client can be: ready-made bytes, no parser. What the receiver takes from it is the receiver's limit."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    requests = iter([_request(host, body) for body in bodies])
    loop = asyncio.get_running_loop()

    async def post() -> None:
        ended = loop.create_future()
        await loop.create_connection(lambda: _RawClient(requests, ended), host, port)
        await ended

    await _together(post, concurrency)


async def _together(post: Callable[[], Coroutine[None, None, None]], concurrency: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(post())


def _request(host: str, body: bytes) -> bytes:
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\n{KEY_HEADER}: 0123456789012345678901\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class _RawClient(asyncio.Protocol):
    """One connection that sends the next request at every answer: the answer is constant and comes in one piece."""

    def __init__(self, requests: Iterator[bytes], ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._ended = ended
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._send()

    def data_received(self, _data: bytes) -> None:
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)
