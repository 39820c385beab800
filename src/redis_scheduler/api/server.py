"""The HTTP server: uvicorn within the service's own event loop, start and stop. Its connections: protocol.py."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from redis_scheduler.api.admission import Admission
from redis_scheduler.api.bounds import ConnectionState
from redis_scheduler.api.closing import LOOKS_AT_STOP
from redis_scheduler.api.limits import DEFAULT, Limits
from redis_scheduler.api.protocol import JsonHttpProtocol
from redis_scheduler.errors import StartError
from redis_scheduler.stopping import stop_or_interval

LOOKS = 50
"""Looks within `stopping_s` whether any client keeps a connection."""

ENDING_S = 3
"""After the grace connections are closed, and their requests may go on for so long: as long as they wait for Redis."""

BACKLOG = 2_048

CONNECTIONS = 10_000
"""Connections at once unless API_CONNECTIONS is set: some 100 MB while they are idle."""


class ApiServer(uvicorn.Server):
    """A server that leaves signals to the process."""

    server_state: ConnectionState

    def __init__(self, config: uvicorn.Config, admission: Admission, grace_s: float, limits: Limits) -> None:
        super().__init__(config)
        self._grace_s = max(1, grace_s)
        self.server_state = ConnectionState(admission, limits)
        self._limits = limits
        self.servers: list[asyncio.base_events.Server] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def run_until(self, stop: asyncio.Event, hurry: asyncio.Event, listener: socket.socket) -> None:
        """Serve until `stop` is set: then close the port (see `shutdown`), and answer what has come, until `hurry`."""

        async def exit_on_stop() -> None:
            await stop.wait()
            self.should_exit = True
            await hurry.wait()
            self.force_exit = True

        async with asyncio.TaskGroup() as tasks:
            exiter = tasks.create_task(exit_on_stop(), name="api-stop")
            watcher = tasks.create_task(self._watch_connections(stop), name="api-watch")
            try:
                await self.serve([listener])
            finally:
                # Cancelled because another task died, uvicorn leaves its listening sockets open.
                for server in self.servers:
                    server.close()
                self._abort_all()
            exiter.cancel()
            watcher.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell clients before the port is closed: each answer is the last of its connection, and probes answer 503.

        Closing idle connections at once would hit requests that are on their way. If no client keeps a connection,
        this waits for nobody.
        """
        self.server_state.is_stopping = True
        self.server_state.stop_began_at = asyncio.get_running_loop().time()
        connections = self.server_state.connections
        for connection in self._connections():
            connection.announce_stop()
        # Before uvicorn cancels their requests, which logs a traceback for each.
        asyncio.get_running_loop().call_later(self._grace_s, self._abort_all)
        for _ in range(LOOKS):
            if not connections or self.force_exit:
                break
            await asyncio.sleep(self._limits.stopping_s / LOOKS)
        await super().shutdown(sockets)

    async def _watch_connections(self, stop: asyncio.Event) -> None:
        now, limits = asyncio.get_running_loop().time, self._limits
        while not stop.is_set():
            await stop_or_interval(stop, min(limits.watch_s, limits.unread_timeout_s / 6))
            for connection in self._connections():
                connection.abort_if_unread(now())
                connection.close_if_idle(now())
        while True:
            await asyncio.sleep(limits.stop_unread_s / LOOKS_AT_STOP)
            for connection in self._connections():
                connection.abort_if_unread_at_stop(now())

    def _abort_all(self) -> None:
        for connection in self._connections():
            connection.abort()

    def _connections(self) -> list[JsonHttpProtocol]:
        return [at for at in self.server_state.connections if isinstance(at, JsonHttpProtocol)]


NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


def listen(host: str, port: int, variable: str = "PORT") -> socket.socket:
    """Return a listening socket. `::` takes IPv4 as well, and only IPv4 if the machine has no IPv6.

    A name is listened on at its first IPv4 address, if it has one: `localhost` means different ones on machines.
    `variable` is that of the port. Raises StartError where it is taken or the address is not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        try:
            listener = _listen_at(family, address)
        except OSError as error:
            if address[0] != "::" or error.errno not in NO_IPV6:
                raise
            listener = _listen_at(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104  # what was asked for
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{variable}={port}: in use on {host} by another program; choose another port") from error
        raise StartError(f"HOST={host} {variable}={port}: cannot listen there: {error.strerror or error}") from error
    return listener


def _listen_at(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        # Until a port listens, a second service may bind it too.
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def create_server(app: ASGIApp, grace_s: float, connections: int = CONNECTIONS, limits: Limits = DEFAULT) -> ApiServer:
    """Return the server of an application, with so many connections at once; `grace_s` bounds its stop."""
    options: dict[str, Any] = {
        "http": JsonHttpProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": limits.keepalive_s,
        "timeout_graceful_shutdown": round(grace_s) + ENDING_S,
    }
    return ApiServer(uvicorn.Config(app, **options), Admission(connections), grace_s, limits)
