"""The service's HTTP server with an application behind it that keeps what it was given, and echoes its path."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from redis_scheduler.api.server import create_server, listen


@dataclass
class Recorder:
    """The application. A request to /refused is answered before its body is read."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body of each request whose body came whole."""
    begun: list[str] = field(default_factory=list)
    """The path of each request."""
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    port: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.append(scope["path"])
        self.headers.append(list(scope["headers"]))
        body, has_more = b"", scope["path"] != "/refused"
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            has_more = message["more_body"]
        self.requests.append((scope["method"], scope["path"], body))
        echo = scope["path"].encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(echo))],
            }
        )
        await send({"type": "http.response.body", "body": echo})


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    """Serve a recorder until the end of the block."""
    recorder = Recorder()
    stop, hurry = asyncio.Event(), asyncio.Event()
    listener = listen("127.0.0.1", 0)
    recorder.port = listener.getsockname()[1]
    running = create_server(recorder, grace_s=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run_until(stop, hurry, listener))
        try:
            yield recorder
        finally:
            stop.set()
            hurry.set()
