"""The HTTP server: uvicorn on the httptools parser, inside the service's own event loop and life cycle."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redis_scheduler.errors import StartError
from redis_scheduler.models import encode_answer

HEAD_BYTES = 65_536
"""Most of a request's line and headers; the parser itself sets no limit."""

DISCARDED_BYTES = 16 * 1_048_576
"""Most that is read of a body after its request was refused."""

KEEPALIVE_S = 75
"""How long an idle connection of a client is kept."""

BACKLOG = 2_048


class JsonHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on what has no other, and JSON for what is not HTTP at all.

    The body of a request that was refused early is read on and thrown away: to close at once would reset the connection,
    and its client might never see the answer.
    """

    _head_bytes = 0
    _discarded_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count what no application reads: a head without end is refused, a refused body without end is cut off."""
        if self.cycle is None or not self.cycle.more_body:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES + len(data):
                self.send_400_response(f"The request's head is larger than {HEAD_BYTES} bytes")
                return
        elif self.cycle.response_complete:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARDED_BYTES:
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Start counting anew."""
        self._head_bytes = self._discarded_bytes = 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close."""
        if self.transport.is_closing():
            return
        body = encode_answer({"status": 400, "error": msg})
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()


class ApiServer(uvicorn.Server):
    """A server that leaves the signals to the life cycle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers: list[asyncio.base_events.Server] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def run_until(self, stop: asyncio.Event, listener: socket.socket) -> None:
        """Serve until `stop` is set: then accept nothing more, answer what is under way, and return."""

        async def exit_on_stop() -> None:
            await stop.wait()
            self.should_exit = True

        async with asyncio.TaskGroup() as tasks:
            exiter = tasks.create_task(exit_on_stop(), name="api-stop")
            try:
                await self.serve([listener])
            finally:
                # Cancelled because another task died, uvicorn leaves its listening sockets open.
                for server in self.servers:
                    server.close()
            exiter.cancel()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises StartError where the port is taken or the address is not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Until a port listens, a second service may bind it too.
        listener.listen(BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"PORT={port}: in use on {host} by another program; choose another port") from error
        raise StartError(f"HOST={host} PORT={port}: cannot listen there: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def create_server(app: ASGIApp, grace_s: float) -> ApiServer:
    """Return the server for an application; `grace_s` bounds its stop."""
    options: dict[str, Any] = {
        "http": JsonHttpProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEPALIVE_S,
        "timeout_graceful_shutdown": max(1, round(grace_s)),
    }
    return ApiServer(uvicorn.Config(app, **options))
