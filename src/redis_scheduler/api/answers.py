"""Answers: always JSON with `status`; and one answer for every error."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redis_scheduler.api.bodies import Tried, encode_answer, refusal
from redis_scheduler.api.closing import send_whole
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.scheduling import PartlyWritten
from redis_scheduler.errors import Code, RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.refusal import told

logger = Events(__name__)

RETRY_AFTER = {"Retry-After": "1"}
"""The header of a 503, in seconds."""

Answering = Callable[[Request, Mapping[str, str]], Awaitable[Response]]
"""Answers a request with its query parameters."""

PIECE_BYTES = 65_536

TRY_AGAIN = "; try again"
"""Ends what is said of an outage. A page that tries again by itself leaves it out."""


class _JsonResponse(Response):
    """An answer that sets its type and length itself, and sends itself: what Starlette does besides took 2 µs."""

    def __init__(  # Starlette's own looks for what is never given here
        self, body: bytes | memoryview, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.status_code = status_code
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        if headers is not None:
            for name, value in headers.items():
                self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as Starlette calls it
        """Send it."""
        if send_whole(send, self.status_code, self.raw_headers, self.body):
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


# No cache may keep the answer and ask with If-None-Match later: the state may be another under the same ETag.
_NO_STORE = (b"cache-control", b"no-store")


def _tagged(response: _JsonResponse, etag: str | None) -> _JsonResponse:
    if etag is not None:
        response.raw_headers += ((b"etag", etag.encode()), _NO_STORE)
    return response


def answer(content: msgspec.Struct, etag: str | None = None) -> Response:
    """Return a 200 with one of the bodies of bodies.py."""
    return _tagged(_JsonResponse(encode_answer(content)), etag)


def telling_replicas(handler: Answering, replicas: int) -> Answering:
    """Return a handler that tells with each 200 how many replicas of Redis have what was written, at least."""

    async def handle(request: Request, given: Mapping[str, str]) -> Response:
        response = await handler(request, given)
        if response.status_code == 200:
            response.body = b'%s,"replicas":%d}\n' % (bytes(response.body)[: -len(b"}\n")], replicas)
            response.raw_headers[0] = (b"content-length", b"%d" % len(response.body))
        return response

    return handle


def text_answer(text: bytes, content_type: str) -> Response:
    """Return a 200 that is no JSON."""
    response = _JsonResponse(text)
    response.raw_headers[1] = (b"content-type", content_type.encode())
    response.raw_headers.append(_NO_STORE)
    return response


def kept_answer(body: bytes, etag: str, known: bytes) -> Response:
    """Return a body that caches may keep while they ask with its ETag; a 304 where the one that they know is this."""
    response = _JsonResponse(body)
    if known == b"*" or etag.encode() in known:
        response.status_code, response.body, response.raw_headers = 304, b"", []
    response.raw_headers += [(b"etag", etag.encode()), (b"cache-control", b"no-cache")]
    return response


def replay(content: msgspec.Struct) -> Response:
    """Return a 200 that was given before."""
    return _JsonResponse(encode_answer(content), 200, {"Idempotent-Replay": "true"})


class LargeAnswer(_JsonResponse):
    """A 200 that is sent piece by piece, as its client reads. `on_sent` is called when it is sent or given up."""

    def __init__(self, body: bytes | bytearray, etag: str | None, on_sent: Callable[[], None]) -> None:
        super().__init__(memoryview(body))
        _tagged(self, etag)
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as Starlette calls it
        """Send it. The connection takes no new piece while more than 64 KiB wait in it."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for start in range(0, len(self.body), PIECE_BYTES):
                end = start + PIECE_BYTES
                has_more = end < len(self.body)
                await send({"type": "http.response.body", "body": bytes(self.body[start:end]), "more_body": has_more})
        finally:
            self._on_sent()


def error_answer(
    code: Code,
    error: str,
    field: str | None = None,
    index: int | None = None,
    headers: Mapping[str, str] | None = None,
    tasks: list[Tried] | None = None,
    operation: str | None = None,
) -> Response:
    """Return the answer for an error: what is wrong and where. A 503 says when to try again."""
    if code.status == 503:
        headers = RETRY_AFTER
    return _JsonResponse(refusal(code, error, field, index, tasks, operation), code.status, headers)


def answer_to(error: Exception, scope: Scope, operation: str | None = None) -> Response:
    """Return the answer for an error. An error of the program is logged. `operation`: which goes on if it is asked
    for."""
    path, request_id = scope["path"], request_id_of(scope)
    match error:
        case RequestRefused():
            return error_answer(error.code, str(error), error.field, error.index, error.headers)
        case PartlyWritten():
            return error_answer(error.code, str(error), tasks=error.tasks)
        case StoreUnavailable():
            logger.debug("refused", path=path, error=str(error), request_id=request_id)
            return error_answer(Code.REDIS_UNAVAILABLE, f"{told(error)}{TRY_AGAIN}", operation=operation)
        case StoreFull():
            return error_answer(Code.REDIS_FULL, str(error), operation=operation)
        case ClientDisconnect():
            # Nobody reads this answer: the connection ended before the body did.
            return error_answer(Code.INCOMPLETE_BODY, "The body ended before its length")
    logger.fault("fault", error, path=path, request_id=request_id)
    return error_answer(Code.INTERNAL_ERROR, "Internal error; the service's log has the details")
