"""Lets pages of other origins ask from a browser (CORS), where CORS_ORIGINS names them."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from redis_scheduler.api.answers import answer, error_answer
from redis_scheduler.api.bodies import Said
from redis_scheduler.errors import Code

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ASKED = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Schedule-Ack",
    "traceparent",
    "X-Request-Id",
)
"""The headers that pages may send."""
ANSWERED = ("ETag", "Idempotent-Replay", "Retry-After", "X-Request-Id")
"""The headers of answers that pages may read."""

KNOWN_S = 600
"""A browser may remember for so many seconds that a page may ask."""


class Cors(CORSMiddleware):
    """Stands in front of the gate: whether a page may ask, its browser asks without the token."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(app, origins, METHODS, ASKED, expose_headers=ANSWERED, max_age=KNOWN_S)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer whether a page may ask, in JSON as all else."""
        found = super().preflight_response(request_headers)
        told = [(name, value) for name, value in found.raw_headers if name.startswith((b"access-control-", b"vary"))]
        if found.status_code == 200:
            response = answer(Said("Pages of this origin may ask"))
        else:
            error = "Origin: CORS_ORIGINS does not name this origin, or no page may send this method or one of these headers"
            response = error_answer(Code.INVALID_VALUE, error, "Origin")
        response.raw_headers += told
        return response
