"""The service's HTTP server with an application behind it that keeps what it was given, and echoes its path."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from redis_scheduler.api.closing import send_whole
from redis_scheduler.api.limits import DEFAULT, Limits
from redis_scheduler.api.protocol import JsonHttpProtocol
from redis_scheduler.api.server import ApiServer, create_server, listen


@dataclass
class Recorder:
    """The application. A request to /refused is answered before its body is read; the answer to /large is so large.

    That to /half is half of what a connection takes at once.
    """

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body of each request whose body came whole."""
    begun: list[str] = field(default_factory=list)
    """The path of each request."""
    queries: list[bytes] = field(default_factory=list)
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests to /waits, or to what begins so, are answered once it is set."""
    large: bytes = b""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it, and the server stops; `ended` is set once it has."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    server: ApiServer = field(init=False)

    @property
    def connections(self) -> list[JsonHttpProtocol]:
        """The server's side of each connection."""
        return [at for at in self.server.server_state.connections if isinstance(at, JsonHttpProtocol)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.begun.append(path)
        self.queries.append(scope["query_string"])
        self.headers.append(list(scope["headers"]))
        body, has_more = b"", path != "/refused"
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            has_more = message["more_body"]
        if path.startswith("/waits"):
            await self.gate.wait()
        self.requests.append((scope["method"], path, body))
        echo = {"/large": self.large, "/half": b"x" * 50_000}.get(path, path.encode())
        headers = [(b"content-length", b"%d" % len(echo))]
        if not send_whole(send, 200, headers, echo):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": echo})


@asynccontextmanager
async def recording(send_buffer: int = 0, grace_s: float = 1, limits: Limits = DEFAULT) -> AsyncIterator[Recorder]:
    """Serve a recorder until the end of the block; `send_buffer` bounds what the system takes for a client, in
    bytes."""
    recorder = Recorder()
    hurry = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    recorder.port = listener.getsockname()[1]
    recorder.server = create_server(recorder, grace_s, limits=limits)

    async def serve() -> None:
        await recorder.server.run_until(recorder.stop, hurry, listener)
        recorder.ended.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        try:
            yield recorder
        finally:
            recorder.gate.set()
            recorder.stop.set()
            hurry.set()
