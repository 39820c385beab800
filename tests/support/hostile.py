"""Receivers that mean harm: real servers on the loopback, in a process of their own, since some send as fast as they
can.

`python -m tests.support.hostile` prints the ports by name as JSON, and serves until its standard input ends; then it
prints how many requests each had, and how many connections those of KEPT. The certificates were made for these tests
alone: test-authority.pem signed all but test-self-signed.pem, test-expired.pem was good in January 2020, the others are
until 2120; all share one key.
"""

import asyncio
import gzip
import itertools
import json
import re
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CERTIFICATES = Path(__file__).parent / "certificates"

GIGABYTE = 1_000_000_000
PIECE = b"x" * 65_536
BOMB = gzip.compress(bytes(16 * 1_048_576), 9) * 64
"""One megabyte that unpacks to a gigabyte."""

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def head(status: str, *headers: str) -> bytes:
    """Return the head of an answer."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()


def says(*parts: bytes) -> Behaviour:
    """Send this, and end the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return behave


def later(*parts: bytes) -> Behaviour:
    """Send these one after another, each in a packet of its own, and keep the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        await holds(writer)

    return behave


def floods(first: bytes, piece: bytes) -> Behaviour:
    """Send the piece again and again, as fast as it is taken."""
    many = piece * (65_536 // len(piece) + 1)

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(many)
            await writer.drain()

    return behave


def trickles(first: bytes, rest: bytes) -> Behaviour:
    """Send a byte a second."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        for byte in itertools.cycle(rest):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)

    return behave


async def holds(writer: asyncio.StreamWriter) -> None:
    """Send nothing, and keep the connection."""
    await asyncio.Event().wait()


async def half_closes(writer: asyncio.StreamWriter) -> None:
    """Send nothing, say that nothing will come, and keep the connection."""
    writer.write_eof()
    await asyncio.Event().wait()


def resets(*parts: bytes) -> Behaviour:
    """Send this, then reset the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await says(*parts)(writer)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


SECRET = "RECEIVER-SECRET"
"""Stands in much of what they send: it must not be kept, nor logged."""

CHUNKED = ("Transfer-Encoding: chunked", "Content-Type: text/plain")
FAILED = "500 RECEIVER-SECRET"

FAILURES: dict[str, Behaviour] = {
    "a byte a second": trickles(b"", head("200 OK", "Content-Length: 0")),
    "a body of a byte a second": trickles(head("200 OK", "Content-Length: 1000"), b"x"),
    "headers of a byte a second": trickles(head("200 OK")[:-2] + b"X-Slow: ", b"x"),
    "endless headers": floods(head(FAILED)[:-2], b"X-Endless: RECEIVER-SECRET\r\n"),
    "an endless header": floods(head(FAILED)[:-2] + b"X-Endless: ", b"RECEIVER-SECRET"),
    "an endless header name": floods(head(FAILED)[:-2], b"RECEIVER-SECRET"),
    "an endless status line": floods(b"HTTP/1.1 500 ", b"RECEIVER-SECRET"),
    "endless 100": floods(b"", head("100 Continue")),
    "endless 102": floods(b"", head("102 Processing", "X-Secret: RECEIVER-SECRET")),
    "endless 103 one a second": trickles(b"", head("103 Early Hints")),
    "an upgrade with a flood": floods(head("101 Switching Protocols", "Connection: upgrade", "Upgrade: flood"), PIECE),
    "a gigabyte": floods(head(FAILED, f"Content-Length: {GIGABYTE}"), PIECE),
    "a gigabyte without its length": floods(head(FAILED, "Connection: close"), PIECE),
    "a gigabyte in chunks": floods(head(FAILED, *CHUNKED), b"10000\r\n" + PIECE + b"\r\n"),
    "endless chunks of a byte": floods(head(FAILED, *CHUNKED), b"1\r\nx\r\n"),
    "an endless chunk extension": floods(head(FAILED, *CHUNKED) + b"5", b";RECEIVER=SECRET"),
    "endless trailers": floods(head(FAILED, *CHUNKED) + b"0\r\n", b"X-Trailer: RECEIVER-SECRET\r\n"),
    "an endless chunk size": floods(head(FAILED, *CHUNKED), b"0"),
    "a gzip bomb": says(head(FAILED, "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}"), BOMB),
    "a gzip bomb in chunks": says(
        head(FAILED, "Content-Encoding: gzip", *CHUNKED), f"{len(BOMB):x}\r\n".encode(), BOMB, b"\r\n0\r\n\r\n"
    ),
    "a reset": resets(),
    "a reset within the headers": resets(head("200 OK", "X-Secret: RECEIVER-SECRET")[:-2]),
    "a reset within the body": resets(head("200 OK", "Content-Length: 1000"), b"RECEIVER-SECRET"),
    "a close": says(),
    "a close within the status line": says(b"HTTP/1.1 200 RECEIVER-SECRET"),
    "a close within the headers": says(head("200 RECEIVER-SECRET", "X-Secret: RECEIVER-SECRET")[:-2]),
    "a close after 100": says(head("100 Continue", "X-Secret: RECEIVER-SECRET")),
    "a half close": half_closes,
    "a length that is too long": says(head("200 OK", "Content-Length: 1000"), b"RECEIVER-SECRET"),
    "a length that is too short": says(head(FAILED, "Content-Length: 5"), PIECE),
    "no HTTP": says(b"RECEIVER-SECRET\r\n\r\n"),
    "no HTTP without an end": floods(b"", b"RECEIVER-SECRET"),
    "no HTTP version": says(b"HTTP/9.9 200 RECEIVER-SECRET\r\n\r\n"),
    "no status": says(b"HTTP/1.1 RECEIVER-SECRET\r\n\r\n"),
    "a redirect to itself": says(
        head("307 RECEIVER-SECRET", "Location: /again", "Content-Length: 0", "Connection: close")
    ),
    "nothing": holds,
}

SUCCESSES: dict[str, Behaviour] = {
    "200 with a gigabyte": floods(head("200 OK", f"Content-Length: {GIGABYTE}"), PIECE),
    "200 with endless chunks": floods(head("200 OK", *CHUNKED), b"10000\r\n" + PIECE + b"\r\n"),
    "200 with endless chunks of a byte": floods(head("200 OK", *CHUNKED), b"1\r\nx\r\n"),
    "a length that is none": says(head("200 OK", "Content-Length: -RECEIVER-SECRET")),
    "two lengths": says(head("200 OK", "Content-Length: 5", "Content-Length: 6"), b"RECEIVER-SECRET"),
    "a length and chunks": says(head("200 OK", "Content-Length: 5", *CHUNKED), b"3\r\nabc\r\n0\r\n\r\n"),
    "chunks that are none": says(head("200 OK", *CHUNKED), b"RECEIVER-SECRET\r\n"),
    "chunks that are none, later": later(head("200 OK", *CHUNKED), b"RECEIVER-SECRET\r\n"),
    "chunks that become none": later(head("200 OK", *CHUNKED), b"3\r\nabc\r\n", b"RECEIVER-SECRET\r\n"),
    "200 with endless headers": floods(head("200 OK")[:-2], b"X-Endless: RECEIVER-SECRET\r\n"),
    "200 with an endless header": floods(head("200 OK")[:-2] + b"X-Endless: ", b"RECEIVER-SECRET"),
    "200 with an endless status line": floods(b"HTTP/1.1 200 ", b"RECEIVER-SECRET"),
    "200 with a gzip bomb": says(head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}"), BOMB),
}

OK, BAD = head("200 OK", "Content-Length: 0"), head("500 Bad", "Content-Length: 0")


def pauses(first: bytes, then: bytes, pause_s: float = 0.05) -> Behaviour:
    """Send this, and that when the connection is idle."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await says(first)(writer)
        await asyncio.sleep(pause_s)
        await says(then)(writer)

    return behave


def closes_after(behaviour: Behaviour) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        await behaviour(writer)
        writer.close()

    return behave


NOTHING_MORE = "nothing more"
KEPT: dict[str, Callable[[bytes, bytes], Behaviour]] = {
    NOTHING_MORE: lambda own, other: says(own),
    "a second answer at once": lambda own, other: says(own + other),
    "a third and a half": lambda own, other: says(own + other + other + other[:20]),
    "half a second answer at once": lambda own, other: says(own + other[:20]),
    "a body and a second answer": lambda own, other: says(own.replace(b": 0", b": 9000") + 9000 * b"x" + other),
    "a second answer later": pauses,
    "a second answer in two parts": lambda own, other: pauses(own + other[:5], other[5:]),
    "102 later": lambda own, other: pauses(own, head("102 Processing")),
    "no HTTP later": lambda own, other: pauses(own, b"RECEIVER-SECRET\r\n"),
    "408 and a close later": lambda own, other: closes_after(
        pauses(own, head("408 Request Timeout", "Connection: close", "Content-Length: 0"))
    ),
}
"""What comes on a connection that could be used again: how a request is answered, by its own answer and the other one.

Its own is 500 to a request to `/fails`, and else 200; the other one is never the answer to a request.
"""

NO_TLS: dict[str, Behaviour] = {
    "TLS that never begins": holds,
    "TLS that is none": says(b"RECEIVER-SECRET\r\n" * 9),
}

CERTIFICATE_OF = {
    "TLS as it should be": "test-localhost.pem",
    "TLS of another name": "test-other-name.pem",
    "TLS that has expired": "test-expired.pem",
    "TLS of nobody known": "test-self-signed.pem",
}


class Server:
    """Serves one behaviour on a port of its own, and counts its requests."""

    def __init__(self, counts: Counter[str], name: str, behave: Behaviour, reads_first: bool = True) -> None:
        self.counts = counts
        self.name = name
        self._behave = behave
        self._reads_first = reads_first

    async def listen(self, certificate: str | None = None) -> int:
        """Return the port."""
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(CERTIFICATES / certificate, CERTIFICATES / "test-key.pem")
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, backlog=1_000)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if self._reads_first:
                await reader.readuntil(b"\r\n\r\n")
            self.counts[self.name] += 1
            await self._behave(writer)
        writer.close()


class KeptServer:
    """Serves any number of requests on a connection; counts both."""

    def __init__(self, counts: Counter[str], name: str) -> None:
        self._counts = counts
        self._name = name

    async def listen(self) -> int:
        """Return the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._counts[connections_of(self._name)] += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", request)
                await reader.readexactly(int(length[1]) if length else 0)
                self._counts[self._name] += 1
                own, other = (BAD, OK) if request.startswith(b"POST /fails ") else (OK, BAD)
                await KEPT[self._name](own, other)(writer)
        writer.close()


def connections_of(name: str) -> str:
    """Under what a server's connections are counted."""
    return f"connections: {name}"


async def serve() -> None:
    """Serve all of them until the standard input ends."""
    counts: Counter[str] = Counter()
    ports = {name: await Server(counts, name, behave).listen() for name, behave in (FAILURES | SUCCESSES).items()}
    for name, behave in NO_TLS.items():
        ports[name] = await Server(counts, name, behave, reads_first=False).listen()
    for name in KEPT:
        ports[name] = await KeptServer(counts, name).listen()
    for name, certificate in CERTIFICATE_OF.items():
        ports[name] = await Server(counts, name, says(head("204 No Content", "Connection: close"))).listen(certificate)
    # What a client does to these servers is no fault of theirs.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(counts), flush=True)


class Hostile:
    """The process of these servers."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self._process = process
        self._ports = ports

    def port(self, name: str) -> int:
        return self._ports[name]

    def url(self, name: str) -> str:
        scheme, host = ("https", "localhost") if name.startswith("TLS") else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self._ports[name]}/"

    async def stop(self) -> dict[str, int]:
        """End it; return how many requests each had."""
        answer, _ = await self._process.communicate(b"")
        counts: dict[str, int] = json.loads(answer)
        return counts


@asynccontextmanager
async def hostile() -> AsyncIterator[Hostile]:
    """Run the servers until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield Hostile(process, json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(serve())
