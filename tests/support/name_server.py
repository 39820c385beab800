"""A name server of the tests: answers as it is told, over UDP and TCP, or not at all. Real packets, no library."""

import asyncio
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NO_SUCH_NAME, SERVER_FAILURE, TRUNCATED = "no such name", "server failure", "truncated"
_CODES = {NO_SUCH_NAME: 3, SERVER_FAILURE: 2}
_KINDS = {1: "A", 28: "AAAA"}

Answer = Callable[[str, str], list[str] | str | None]
"""By name and kind (A or AAAA): addresses, one of the texts above, or None for silence. TRUNCATED holds for UDP
alone."""

PACKET_ADDRESSES = 60
"""Of an answer by UDP: none is sent of more, as many name servers do."""


@dataclass
class NameServer:
    """`answer` may be changed while it runs."""

    answer: Answer
    port: int = 0
    ttl_s: int = 1
    asked: list[tuple[float, str, str]] = field(default_factory=list)

    def times_asked(self, name: str, kind: str = "A") -> int:
        return sum(1 for _, asked, its_kind in self.asked if (asked, its_kind) == (name, kind))

    def reply(self, query: bytes, has_room: bool) -> bytes | None:
        """Return the reply to a query, None for silence; without room, answers that ask for it are cut."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind = _KINDS.get(int.from_bytes(query[at + 1 : at + 3], "big"), "?")
        name = ".".join(labels).lower()
        self.asked.append((time.monotonic(), name, kind))
        found = self.answer(name, kind)
        if found is None:
            return None
        is_cut = not has_room and (found == TRUNCATED or (isinstance(found, list) and len(found) > PACKET_ADDRESSES))
        addresses = found if isinstance(found, list) else ["127.0.0.1"] if found == TRUNCATED and kind == "A" else []
        if is_cut:
            addresses = []
        code = _CODES.get(found, 0) if isinstance(found, str) else 0
        flags = bytes([0x81 | (2 if is_cut else 0), 0x80 | code])
        reply = query[:2] + flags + b"\0\1" + len(addresses).to_bytes(2, "big") + b"\0\0\0\0" + query[12 : at + 5]
        head = b"\xc0\x0c" + query[at + 1 : at + 3] + b"\0\1" + self.ttl_s.to_bytes(4, "big")
        family, size = (socket.AF_INET, b"\0\4") if kind == "A" else (socket.AF_INET6, b"\0\x10")
        return reply + b"".join(head + size + socket.inet_pton(family, address) for address in addresses)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if (reply := self._server.reply(data, has_room=False)) is not None:
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def naming(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[NameServer]:
    """Run a name server until the end of the block."""
    server = NameServer(answer)
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                if (reply := server.reply(query, has_room=True)) is not None:
                    writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()

    streams = await asyncio.start_server(serve, host, port)
    server.port = streams.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(server), (host, server.port)
    )
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    try:
        yield server
    finally:
        transport.close()
        streams.close()
        for writer in connections:
            writer.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def naming_apart(answer: Answer) -> AsyncIterator[NameServer]:
    """Run a name server in a thread of its own, that goes on while this one's event loop is held."""
    begun: asyncio.Future[NameServer] = asyncio.get_running_loop().create_future()
    loop, ended = asyncio.get_running_loop(), threading.Event()

    async def serve() -> None:
        async with naming(answer) as server:
            loop.call_soon_threadsafe(begun.set_result, server)
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield await begun
    finally:
        ended.set()
        await asyncio.to_thread(thread.join)


def has_namespaces() -> bool:
    """Whether processes can be given a name server of their own here."""
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
    )


def command_asking(address: str, folder: Path) -> list[str]:
    """Return what to put before a command, so that its processes ask the name server at port 53 of this address alone:
    they see a resolv.conf of their own."""
    conf = folder / "resolv.conf"
    conf.write_text(f"nameserver {address}\n")
    mounting = f'mount --make-rprivate / && mount --bind {conf} /etc/resolv.conf && exec "$@"'
    return ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", mounting, "sh"]


@asynccontextmanager
async def naming_for_processes(answer: Answer, folder: Path) -> AsyncIterator[tuple[NameServer, list[str]]]:
    """Run a name server until the end of the block; yield it, and what to put before a command that is to ask it."""
    address = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
    async with naming(answer, address, 53) as server:
        server.ttl_s = 0
        yield server, command_asking(address, folder)
