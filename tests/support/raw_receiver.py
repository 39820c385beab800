"""A receiver that says byte by byte what comes back: real sockets, no HTTP library."""

import asyncio
import itertools
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.webhook import split

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Behaviour = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
"""Answers a request on its connection; the number counts the requests of that connection, from 0."""


_numbers = itertools.count()


def claim_of(webhook: str, data: bytes = b"1") -> Claim:
    """Return a claim as a worker gets it."""
    return Claim(f"{next(_numbers)}-0", "key", Record(0, webhook, 0, None, data, None, *split(webhook)), 0)


@dataclass
class RawReceiver:
    """Keeps the bytes of each request's head, and which connection it came on."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    connection_of: list[int] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def lines(self) -> list[str]:
        """The first lines of the requests."""
        return [head.split(b"\r\n", 1)[0].decode("latin-1") for head in self.heads]


def says(*parts: bytes) -> Behaviour:
    """Send these, each in a packet of its own."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if len(parts) > 1:
                await asyncio.sleep(0.005)

    return behave


@asynccontextmanager
async def answering(
    behave: Behaviour, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[RawReceiver]:
    """Answer each request so, and keep the connection unless `behave` closes it. `context`: by TLS."""
    receiver = RawReceiver()
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        own = receiver.connections = receiver.connections + 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                number = 0
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"Content-Length: (\d+)", head)
                    await reader.readexactly(int(length[1]) if length else 0)
                    receiver.heads.append(head)
                    receiver.connection_of.append(own)
                    await behave(writer, number)
                    number += 1
        finally:
            del serving[task]
            writer.close()

    server = await asyncio.start_server(serve, host, 0, backlog=1_000, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for writer in serving.values():
            writer.close()
        await asyncio.gather(*serving)
