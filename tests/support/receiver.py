"""A real HTTP receiver of webhooks: keeps every arrival, answers as it is told."""

import asyncio
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Arrival:
    """One request, as it came. `at` is time.time()."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["Schedule-Key"]

    @property
    def attempt(self) -> int:
        return int(self.headers["Schedule-Attempt"])

    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """Answers 200 unless `statuses` (used up first), `status` or `behaviour` say otherwise.

    It answers `delay_s` after a request, and while `may_answer` is set.
    """

    port: int = 0
    status: int = 200
    statuses: list[int] = field(default_factory=list)
    delay_s: float = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    behaviour: Behaviour | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def times_by_key(self) -> Counter[str]:
        return Counter(arrival.key for arrival in self.arrivals)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.arrivals.append(Arrival(time.time(), request.method, request.path_qs, dict(request.headers), body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.behaviour is not None:
                return await self.behaviour(request)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.may_answer.wait()
            return web.Response(status=self.statuses.pop(0) if self.statuses else self.status)
        finally:
            self.in_flight -= 1


def _every_loopback_address() -> socket.socket:
    """Return a socket that hears every address of 127.0.0.0/8, and nothing from outside."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", 0))  # the loopback's device only
    return listener


@asynccontextmanager
async def receiving(everywhere: bool = False, context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of the loopback: of 127.0.0.1, or `everywhere` from 127.0.0.0 to
    127.255.255.255; with a `context`, over TLS."""
    receiver = Receiver()
    receiver.may_answer.set()
    runner = web.ServerRunner(web.Server(receiver.handle), handler_cancellation=True, shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    site = (
        web.SockSite(runner, _every_loopback_address(), backlog=1024)
        if everywhere
        else web.TCPSite(runner, "127.0.0.1", 0, backlog=1024, ssl_context=context)
    )
    await site.start()
    receiver.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield receiver
    finally:
        await runner.cleanup()
