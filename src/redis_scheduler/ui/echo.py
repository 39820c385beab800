"""The echo receiver: takes deliveries, and shows the last ones, so that a newcomer sees one arrive.

It has a port of its own at loopback, which is opened when the page is first looked at: deliveries to the scheduler's
own port are refused, as all others of them are. Where workers run elsewhere they deliver to `/ui/echo` of the API. Both
want a secret in the query, where no log has it: nobody else pushes out what has arrived.
"""

import asyncio
import contextlib
import hmac
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from redis_scheduler.logs import rfc3339

KEPT, BODY_BYTES, TAKEN_BYTES, HEAD_BYTES = 20, 2_048, 1_048_576, 65_536
CONNECTIONS, READ_S = 50, 30.0
HIDDEN = ("authorization", "cookie")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that came. `number`: how many came before it."""

    number: int
    at: str
    method: str
    key: str
    headers: tuple[tuple[str, str], ...]
    body: str


class Echo:
    """The last arrivals of this process. `tokens`: the service's own; the secret is made of the first, and tells
    nothing of it."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._queries = [_query(token) for token in tokens]
        self.arrivals: deque[Arrival] = deque(maxlen=KEPT)
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._connections = self._taken = 0
        self.port = 0

    @property
    def query(self) -> str:
        """The query of the addresses at which deliveries are taken."""
        return self._queries[0]

    def is_for(self, query: bytes) -> bool:
        """Whether a request has such a query."""
        return any(hmac.compare_digest(query, own.encode()) for own in self._queries)

    def take(self, method: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Keep what came, newest first, without what is secret in it. One byte of `body` more than is shown says that
        there is more."""
        shown = tuple((name, "…" if name.lower() in HIDDEN else value[:200]) for name, value in headers[:40])
        key = next((value for name, value in headers if name.lower() == "schedule-key"), "")
        text = body[:BODY_BYTES].decode(errors="replace") + ("…" if len(body) > BODY_BYTES else "")
        at = rfc3339(int(time.time() * 1000))
        self.arrivals.appendleft(Arrival(self._taken, at, method[:20], key[:300], shown, text))
        self._taken += 1

    async def listen(self) -> int:
        """Open the port, once; return it."""
        async with self._opening:
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES)
                self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            with contextlib.suppress(OSError, ValueError, EOFError, asyncio.LimitOverrunError, TimeoutError):
                while self._connections <= CONNECTIONS:
                    async with asyncio.timeout(READ_S):
                        await self._answer(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        if not self.is_for(target.partition("?")[2].encode("latin-1")):
            raise ValueError("not of this deployment")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        if not 0 <= length <= TAKEN_BYTES:
            raise ValueError("too large")
        body, left = b"", length
        while left:
            piece = await reader.read(min(left, HEAD_BYTES))
            if not piece:
                raise EOFError
            left -= len(piece)
            body += piece[: BODY_BYTES + 1 - len(body)]
        self.take(method, headers, body)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()


def _query(token: str) -> str:
    return f"secret={hmac.digest(token.encode(), b'redis-scheduler echo', 'sha256').hex()[:32]}"
