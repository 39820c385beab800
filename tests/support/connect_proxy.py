"""An HTTP proxy of the tests that opens tunnels (CONNECT), all to one receiver; or answers as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OPENED = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"


@dataclass
class ConnectProxy:
    """`leads_to`: the port of the receiver. `answer`: what it says to each request; only OPENED opens a tunnel, and ""
    is silence."""

    leads_to: int
    answer: bytes = OPENED
    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The first lines of the requests."""
        return [head.split(b"\r\n", 1)[0].decode() for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if self.answer == OPENED:
                other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
                try:
                    await asyncio.gather(_pass(reader, other_writer), _pass(other_reader, writer))
                finally:
                    other_writer.close()
            elif not self.answer:
                await reader.read()
        writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def proxying(leads_to: int, answer: bytes = OPENED) -> AsyncIterator[ConnectProxy]:
    """Run a proxy until the end of the block."""
    proxy = ConnectProxy(leads_to, answer)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await proxy.serve(reader, writer)
        finally:
            serving.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        # Their sockets are closed in the loop's next round.
        await asyncio.sleep(0)
