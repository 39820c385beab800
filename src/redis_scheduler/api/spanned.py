"""Tells traces of requests that schedule: what their tasks deliver is part of the same trace."""

from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redis_scheduler.api.headers import forget_headers, headers_of
from redis_scheduler.api.trace import traceparent
from redis_scheduler.spans import Tracer

HEADER = b"traceparent"
OPERATIONS = {("POST", "schedule"), ("POST", "schedules"), ("PUT", "schedule")}
"""Methods, and the words that their paths begin with."""


class Spanned:
    """Around the routes: a request that schedules is a span, and its tasks carry that on instead of its own header."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        word, _, rest = scope["path"][1:].partition("/")
        if (scope["method"], word) not in OPERATIONS or (scope["method"] == "POST" and rest):
            await self._app(scope, receive, send)
            return
        span = self._tracer.begin("schedule", traceparent(headers_of(scope)))
        if (own := span.traceparent) is not None:
            others = [(name, value) for name, value in scope["headers"] if name != HEADER]
            scope["headers"] = [*others, (HEADER, own.encode())]
            forget_headers(scope)
        told: MutableMapping[str, Any] = {"http.request.method": scope["method"]}

        async def send_on(message: Message) -> None:
            if "status" in message:
                told["http.response.status_code"] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            status = told.get("http.response.status_code", 500)
            span.end(told, f"answered {status}" if status >= 500 else None)
