"""A TCP proxy between the service and Redis: it delays, cuts, stalls, and drops replies of commands that were
executed."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

import hiredis


class Fate(Enum):
    """What becomes of a command."""

    ANSWERED = auto()
    NOT_EXECUTED = auto()
    NOT_ANSWERED = auto()
    """It is executed all the same."""


class _Link:
    """One connection through the proxy. It counts commands and replies, to know which reply is whose."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._commands = hiredis.Reader()
        self._replies = hiredis.Reader()
        self._sent = 0
        self._answered = 0
        self._doomed: int | None = None
        """The number of the command whose reply is dropped, and with it the connection."""
        self._is_struck = 0
        """The same, if `fate_of` said so."""

    def cut(self) -> None:
        """Reset both sides."""
        for writer in (self._client, self._server):
            if not writer.transport.is_closing():
                # To linger for 0 s is to close by a reset, as a firewall does, and not by an end of the stream.
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def _count_commands(self, data: bytes) -> None:
        """Raises ConnectionError where one of them must not be executed."""
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            self._sent += 1
            match self._proxy.fate_of(command):
                case Fate.NOT_EXECUTED:
                    self._proxy.on_struck()
                    raise ConnectionError
                case Fate.NOT_ANSWERED:
                    self._doomed = self._is_struck = self._sent
            # What a subscriber hears is no reply to a command.
            if command[0].upper() != b"SUBSCRIBE" and self._doomed is None and self._proxy.is_next_dropped():
                self._doomed = self._sent

    def _is_cut_after(self, data: bytes) -> bool:
        """Whether these replies have that of the doomed command among them: it was executed."""
        self._replies.feed(data)
        while self._replies.gets() is not False:
            self._answered += 1
        return self._doomed is not None and self._answered >= self._doomed

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        while data := await reader.read(65_536):
            if self._proxy.delay_s:
                await asyncio.sleep(self._proxy.delay_s)
            await self._proxy.flowing.wait()
            if is_reply:
                if self._is_cut_after(data):
                    self._proxy.dropped += 1
                    if self._is_struck:
                        self._proxy.on_struck()
                    self.cut()
                    return
            else:
                self._count_commands(data)
            writer.write(data)
            await writer.drain()
        self.cut()


class Proxy:
    """Forwards to `port`, listening on one of its own; `delay_s` holds every piece back, each way."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._commands = 0
        self._drop_every = 0
        self.port = 0
        self.delay_s = 0.0
        self.dropped = 0
        """Replies dropped so far."""
        self.fate_of: Callable[[list[bytes]], Fate] = lambda _: Fate.ANSWERED
        """Says of each command what becomes of it, and of its connection."""
        self.takes: Callable[[], bool] = lambda: True
        """Asked of each connection that comes: else it is reset."""
        self.on_struck: Callable[[], None] = lambda: None
        """Called when such a command is not passed on, or was executed and its reply is dropped."""
        self.flowing = asyncio.Event()
        self.flowing.set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def listen(self) -> None:
        """Accept connections, again on the same port after `cut`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset every connection, and refuse new ones until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut_links()

    def cut_links(self) -> None:
        """Reset every connection that there is."""
        for link in list(self._links):
            link.cut()

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        """Let nothing through, with every connection open, until the end of the block."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def drop_replies(self, every: int) -> None:
        """From now on drop the reply of every so many commands, once executed, and its connection; 0 drops none."""
        self._drop_every = every

    def is_next_dropped(self) -> bool:
        self._commands += 1
        return self._drop_every > 0 and self._commands % self._drop_every == 0

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self.takes():
            to_client.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_client.transport.abort()
            return
        link = _Link(self, to_client, to_server)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    link.forward(from_client, to_server, is_reply=False),
                    link.forward(from_server, to_client, is_reply=True),
                )
        finally:
            link.cut()
            self._links.discard(link)


@asynccontextmanager
async def proxying(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy to a port of the loopback until the end of the block."""
    proxy = Proxy(port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.cut()
