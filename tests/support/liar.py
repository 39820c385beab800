"""A TCP proxy between the service and Redis that answers itself what it is told to: the commands it lies about are not sent on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import hiredis

Command = Sequence[bytes]


class Liar:
    """`lie` is what it answers to each command that `is_about` says; None: it tells the truth."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.lie: bytes | None = None
        self.is_about: Callable[[Command], bool] = lambda _: True
        self.told = 0
        """Lies so far."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        relaying = asyncio.create_task(_relay(from_server, to_client))
        commands = hiredis.Reader()
        try:
            with contextlib.suppress(OSError):
                while data := await from_client.read(65_536):
                    commands.feed(data)
                    while (command := commands.gets()) is not False:
                        if self.lie is not None and self.is_about(command):
                            self.told += 1
                            to_client.write(self.lie)
                        else:
                            to_server.write(hiredis.pack_command(tuple(command)))
        finally:
            relaying.cancel()
            for writer in (to_client, to_server):
                writer.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def lying(port: int) -> AsyncIterator[Liar]:
    """Run one, truthful at first, before a port of the loopback until the end of the block."""
    liar = Liar(port)
    server = await asyncio.start_server(liar.accept, "127.0.0.1", 0)
    liar.port = server.sockets[0].getsockname()[1]
    async with server:
        yield liar
        liar.lie = None
