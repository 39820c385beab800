"""Who may ask: requests that carry a token and are no delivery of this deployment.

The token stands in `Authorization`, bare or behind `Bearer`; it is compared as bytes, in constant time. It is the
service's own (one of two while it is changed), or one with rights (callers.py), which the endpoint asks for.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, cast

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redis_scheduler.api.admission import CONNECTION
from redis_scheduler.api.answers import answer_to, error_answer
from redis_scheduler.api.callers import CALLER, FRESH_S, PREFIX, Callers, caller_in
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.routes import METHODS, OTHER_METHOD, ROUTES, Access
from redis_scheduler.errors import Code, RequestRefused, SchedulerError
from redis_scheduler.logs import Events
from redis_scheduler.metrics.family import REQUESTS
from redis_scheduler.metrics.meter import UNREAD, Meter, observe

logger = Events(__name__)

OPEN = {(route.path, method) for route in ROUTES if route.access is Access.OPEN for method in route.methods}
"""What is answered without the token."""

INSTANCE_HEADER = b"schedule-instance"
"""In lower case, as the server gives names of headers."""

PAGES = "/ui"
"""Under this path the dashboard says itself who may see it."""

ECHO = "/ui/echo"
"""The one path at which deliveries of this deployment may arrive, with a secret in the query (ui/echo.py)."""

_OWN = "Schedule-Instance: is this scheduler's own; a task cannot drive the scheduler that delivers it"
_UNAUTHORIZED = "The Authorization header must carry the service's token, or one with rights"
_REFUSAL_HEADERS = {"WWW-Authenticate": "Bearer"}


class Refusals:
    """Counts requests that no token allows, and logs them: the first at once, then one line an interval.

    The line has the address of the last one. Keeping every address would let strangers fill the memory.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._count = self._count_told = 0
        self._address = ""
        self._is_paused = False

    def note(self, scope: Scope) -> None:
        """Count one."""
        self._count += 1
        self._address = scope["client"][0] if scope.get("client") else ""
        if not self._is_paused:
            self._tell()

    def _tell(self) -> None:
        new = self._count - self._count_told
        self._is_paused = new > 0
        if new:
            self._count_told = self._count
            fields = {"requests": new, "client": self._address, "since_start": self._count}
            logger.warning("refused", **fields)
            asyncio.get_running_loop().call_later(self._interval_s, self._tell)


class Gate:
    """Passes on requests with a token, and those that OPEN names; refuses the others without reading their bodies.

    `tokens`: the service's own. 401: a token is missing, wrong or expired. 403: `is_own` says that the request is a
    delivery of this deployment, since a task cannot drive the scheduler that delivers it. 503: the token is not known,
    and Redis is away. `also_open`: paths that the settings open. `meter` counts what is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[str],
        is_own: Callable[[list[bytes]], Awaitable[bool]],
        refusals: Refusals,
        callers: Callers | None = None,
        also_open: Collection[str] = (),
        pages: ASGIApp | None = None,
        meter: Meter = UNREAD,
    ) -> None:
        self._app = app
        self._pages = pages
        self._meter = meter
        self._token, *self._others = [token.encode() for token in tokens]
        self._is_own = is_own
        self._callers = callers
        self._refusals = refusals
        self._open = OPEN | {(path, method) for path in also_open for method in ("GET", "HEAD")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        headers = scope["headers"]
        by_name = headers_of(scope)
        given = by_name.get(b"authorization")
        has_token, refusal = False, None
        if given is not None:
            if given[:7].lower() == b"bearer ":
                given = given[7:].strip()
            has_token = hmac.compare_digest(given, self._token) or (bool(self._others) and self._is_other(given))
        if has_token and len(by_name) < len(headers):
            # Two of them are refused: a proxy before this service may have looked at the other one.
            has_token = is_once(headers)
        connection = scope.get("state", {}).get(CONNECTION)
        if not has_token and (scope["path"], scope["method"]) not in self._open:
            if self._pages is not None and is_page(scope["path"]):
                if connection is not None and not connection.is_stranger:
                    connection.become_stranger()  # until the page has found who is signed in
                await self._pages(scope, receive, send)
                return
            if given is not None and given.startswith(PREFIX) and is_once(headers):
                has_token, refusal = await self._admitted(given, scope)
            if not has_token and refusal is None:
                refusal = error_answer(Code.UNAUTHORIZED, _UNAUTHORIZED, "Authorization", headers=_REFUSAL_HEADERS)
            if not has_token and refusal is not None and refusal.status_code == Code.UNAUTHORIZED.status:
                self._refusals.note(scope)
        if connection is not None and connection.is_stranger is has_token:
            _note_whose(connection, scope, has_token, refusal)
        if INSTANCE_HEADER in by_name and refusal is None and not (self._pages and scope["path"] == ECHO):
            instances = [value for name, value in headers if name == INSTANCE_HEADER]
            refusal = await self._refusal_of_own(instances, scope)
        if refusal is None:
            if CALLER in scope:
                receive = self._admitting_anew(cast(bytes, given), scope, receive)
            await self._app(scope, receive, send)
        else:
            await self._refuse(refusal, scope, receive, send)

    async def _refuse(self, refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
        began_ns = time.monotonic_ns()
        await refusal(scope, receive, send)
        method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
        observe(self._meter.numbers(REQUESTS, "", method, str(refusal.status_code)), time.monotonic_ns() - began_ns)

    async def _admitted(self, given: bytes, scope: Scope) -> tuple[bool, Response | None]:
        """Look for a token with rights; return whether there is one, or why that cannot be said."""
        if self._callers is None:
            return False, None
        try:
            caller = self._callers.known(given) or await self._callers.ask(given)
        except RequestRefused as error:
            return False, error_answer(error.code, str(error), error.field, headers=_REFUSAL_HEADERS)
        except SchedulerError as error:
            return False, answer_to(error, scope)
        if caller is None:
            return False, None
        scope[CALLER] = caller
        return True, None

    def _admitting_anew(self, given: bytes, scope: Scope, receive: Receive) -> Receive:
        """Return what receives a body, and raises a 401 at its end where that came so late that the token may have been
        revoked, or have expired, since its head."""
        fresh_until = time.monotonic() + FRESH_S

        async def received() -> Message:
            message = await receive()
            if time.monotonic() > fresh_until and not message.get("more_body", False):
                callers = cast(Callers, self._callers)
                if (callers.known(given) or await callers.ask(given)) is None:
                    self._refusals.note(scope)
                    raise RequestRefused(Code.UNAUTHORIZED, _UNAUTHORIZED, "Authorization", _REFUSAL_HEADERS)
            return message

        return received

    async def _refusal_of_own(self, instances: list[bytes], scope: Scope) -> Response | None:
        try:
            is_own = await self._is_own(instances)
        except SchedulerError as error:
            return answer_to(error, scope)
        return error_answer(Code.OWN_DELIVERY, _OWN, "Schedule-Instance") if is_own else None

    def _is_other(self, given: bytes) -> bool:
        return any(hmac.compare_digest(given, token) for token in self._others)


def _note_whose(connection: Any, scope: Scope, has_token: bool, refusal: Response | None) -> None:
    """Note whose a connection is from now on; not while Redis cannot say it."""
    if has_token:
        caller = caller_in(scope)
        connection.become_known("" if caller is None else caller.id)
    elif refusal is None or refusal.status_code == Code.UNAUTHORIZED.status:
        connection.become_stranger()


def is_page(path: str) -> bool:
    """Whether a path is one of the dashboard's."""
    return path.startswith(PAGES) and path[len(PAGES) : len(PAGES) + 1] in ("", "/")


def is_once(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether Authorization is given once."""
    return [name for name, _ in headers].count(b"authorization") == 1
