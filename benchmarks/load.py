"""The load generator: the least that a client can be, so that it is not what limits a server.

Each connection sends the next ready-made request as soon as its last answer is whole. It understands just enough of
HTTP/1.1: a status, `Content-Length` (which every answer must have), answers that come in pieces.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import NamedTuple, cast
from urllib.parse import urlsplit, urlunsplit

from benchmarks.receiver import LENGTH


class Answer(NamedTuple):
    """What came back for one request; `seconds` from sending it to the last byte of the answer."""

    status: int
    body: bytes
    seconds: float


def request(method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a request."""
    parts = urlsplit(url)
    fields = {"Host": parts.netloc, **(headers or {}), "Content-Length": str(len(body))}
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def exchange(url: str, requests: Sequence[bytes], concurrency: int) -> list[Answer]:
    """Send all requests over `concurrency` kept connections; return the answers in the order in which they came.

    Raises ConnectionError when the server closes one with a request under way.
    """
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    remaining = iter(requests)
    answers: list[Answer] = []
    loop = asyncio.get_running_loop()

    async def send() -> None:
        ended = loop.create_future()
        transport, _ = await loop.create_connection(lambda: _Connection(remaining, answers, ended), host, port)
        try:
            await ended
        finally:
            transport.close()

    await together(send, concurrency)
    return answers


async def together(send: Callable[[], Coroutine[None, None, None]], concurrency: int) -> None:
    """Run `concurrency` of the same at once."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(send())


class _Connection(asyncio.Protocol):
    """One connection, with one request under way."""

    def __init__(self, requests: Iterator[bytes], answers: list[Answer], ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._answers = answers
        self._ended = ended
        self._unread = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._send()

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        head_end = data.find(b"\r\n\r\n")
        length = LENGTH.search(data, 0, head_end) if head_end >= 0 else None
        if length is None or len(data) < head_end + 4 + int(length[1]):
            self._unread = data
            return
        self._unread = b""
        self._answers.append(Answer(int(data[9:12]), data[head_end + 4 :], time.perf_counter() - self._sent_at))
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(ConnectionError(f"closed by the server after {self._unread[:200]!r}"))

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._ended.set_result(None)
        else:
            self._sent_at = time.perf_counter()
            self._transport.write(request)
