"""A TCP proxy between the service and Redis that answers itself what it is told to: the commands it lies about are not
sent on."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import hiredis

from redis_scheduler.store.script import Script

Command = Sequence[bytes]

LIES = {
    "status": b"+OK\r\n",
    "another status": b"+QUEUED\r\n",
    "number": b":1\r\n",
    "large number": b":9223372036854775807\r\n",
    "nothing": b"$-1\r\n",
    "text": b"$3\r\nabc\r\n",
    "no text": b"$0\r\n\r\n",
    "digits": b"$20\r\n99999999999999999999\r\n",
    "empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "list of lists": b"*1\r\n*0\r\n",
    "numbers": b"*3\r\n:1\r\n:2\r\n:3\r\n",
    "texts": b"*5\r\n+a\r\n+b\r\n+c\r\n+d\r\n+e\r\n",
    "list with an error": b"*3\r\n*0\r\n$-1\r\n-ERR no\r\n",
    "entries": b"*1\r\n*2\r\n+q\r\n*1\r\n*2\r\n$3\r\nabc\r\n*2\r\n$3\r\nkey\r\n$1\r\nx\r\n",
    "deep list": b"*1\r\n" * 6 + b":1\r\n",
}

TAKEN = {
    "XREADGROUP": {"nothing", "no list", "entries"},
    "XPENDING": {"empty list"},
    "XRANGE": {"empty list"},
    "page": {"empty list"},
    "pause_all": {"no text"},
    "renew": {"empty list", "texts"},
    "rewind": {"numbers"},
    "retire": {"number", "large number"},
    "clean": set(),
    "shift": {"status", "another status", "text", "no text", "digits"},
    "tally": {"number"},
    "note": {"number", "large number"},
    "live": {"empty list"},
    "watch": {"no text"},
    "alert": {"empty list"},
    "sign_in": {"number", "large number"},
    "admit": {"numbers"},
    "limit": {"number", "large number"},
    "SRANDMEMBER": {"empty list", "texts"},
    **{name: set(LIES) for name in ("HGETALL", "DBSIZE", "CLIENT", "INFO", "PUBLISH")},
}
"""The lies about each call that might be Redis' answer to it, or are about what the service does without."""


_script = functools.cache(Script)


def is_about(what: str, command: Command) -> bool:
    """Whether a command is the one of that name, or runs the script of that name."""
    if what.isupper():
        return command[0] == what.encode()
    script = _script(what)
    return command[0] in (b"EVAL", b"EVALSHA") and command[1] in (script.sha.encode(), script.text.encode())


class Liar:
    """`lie` is what it answers to each command that `is_about` says; None: it tells the truth."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.port = 0
        self.lie: bytes | None = None
        self.is_about: Callable[[Command], bool] = lambda _: True
        self.told = 0
        """Lies so far."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._target.path))
        return await asyncio.open_connection(self._target.hostname, self._target.port)

    async def accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await self._connect()
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
async def lying(target: str) -> AsyncIterator[Liar]:
    """Run one, truthful at first, before the server of a URL until the end of the block."""
    liar = Liar(target)
    server = await asyncio.start_server(liar.accept, "127.0.0.1", 0)
    liar.port = server.sockets[0].getsockname()[1]
    async with server:
        yield liar
        liar.lie = None
