"""The HTTP server: uvicorn on the httptools parser, inside the service's own event loop and life cycle."""

import asyncio
import contextlib
import errno
import re
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redis_scheduler.errors import StartError
from redis_scheduler.models import encode_answer

HEAD_BYTES = 65_536
"""Most of a request's line and headers; the parser itself sets no limit."""

HEAD_TIMEOUT_S = 30
"""How long a connection may take to bring the head of a request it has begun, or of its first."""

BODY_TIMEOUT_S = 30
"""How long a client may take to bring the body of a request."""

DISCARDED_BYTES = 16 * 1_048_576
"""Most that is read of a body after its request was refused."""

KEEPALIVE_S = 75
"""How long an idle connection of a client is kept."""

BACKLOG = 2_048


class JsonHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on what has no other, and JSON for what no application answers.

    The body of a request that was refused early is read on and thrown away: to close at once would reset the connection,
    and its client might never see the answer.
    """

    _head_bytes = 0
    _discarded_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_head()
        self._end_body()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_body(self) -> None:
        if self._body_timer is None and self.cycle is not None and self.cycle.more_body:
            self._body_timer = self.loop.call_later(BODY_TIMEOUT_S, self._give_up_body)

    def _end_body(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _give_up_body(self) -> None:
        if self.cycle is None or self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse_body(408, f"The body did not come within {BODY_TIMEOUT_S} s")

    def _refuse_body(self, status: int, error: str) -> None:
        """Answer a request whose body has not come, and let the application know that there will be none."""
        self._refuse(status, error)
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Count what no application reads: a head without end is refused, a refused body without end is cut off."""
        if self.cycle is None or not self.cycle.more_body:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES + len(data):
                self._refuse(400, f"The request's head is larger than {HEAD_BYTES} bytes")
                return
            # The parser would drop the body of a request that offers another protocol, as Java's clients do with h2c.
            if b"pgrade:" in data:
                data = _UPGRADE.sub(b"\r\n", data, count=1)
        elif self.cycle.response_complete:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARDED_BYTES:
                self.transport.close()
                return
        super().data_received(data)
        if self._head_bytes and not self.transport.is_closing():
            self._await_head()
        self._await_body()

    def on_headers_complete(self) -> None:
        """Start counting anew."""
        self._head_bytes = self._discarded_bytes = 0
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no longer: the body is there."""
        self._end_body()
        super().on_message_complete()
        # After an early refusal uvicorn leaves it at that: the next request would be taken for more of this one.
        self.cycle.more_body = False
        if self.cycle.response_complete:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close."""
        self._refuse(400, msg)

    def shutdown(self) -> None:
        """Let a request under way be answered; one whose body has not come yet is not waited for."""
        cycle = self.cycle
        if cycle is None or cycle.response_started or not cycle.more_body:
            super().shutdown()
            return
        self._refuse_body(503, "The service is stopping; try again")

    def _refuse(self, status: int, error: str) -> None:
        if self.transport.is_closing():
            return
        body = encode_answer({"status": status, "error": error})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*\r\n", re.IGNORECASE)


class ApiServer(uvicorn.Server):
    """A server that leaves the signals to the life cycle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers: list[asyncio.base_events.Server] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def run_until(self, stop: asyncio.Event, hurry: asyncio.Event, listener: socket.socket) -> None:
        """Serve until `stop` is set: then accept nothing more, answer what is under way (until `hurry`), and return."""

        async def exit_on_stop() -> None:
            await stop.wait()
            self.should_exit = True
            await hurry.wait()
            self.force_exit = True

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
