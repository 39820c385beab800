"""Who may ask: requests that carry the token and are no delivery of this deployment.

The token stands in `Authorization`, bare or behind `Bearer`; it is compared as bytes, in constant time.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from redis_scheduler.api.admission import CONNECTION
from redis_scheduler.api.answers import answer_to, error_answer
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.limits import DEFAULT, Limits
from redis_scheduler.api.routes import ROUTES, Access
from redis_scheduler.errors import Code, SchedulerError
from redis_scheduler.logs import Events

logger = Events(__name__)

OPEN = {(route.path, method) for route in ROUTES if route.access is Access.OPEN for method in route.methods}
"""What is answered without the token."""

INSTANCE_HEADER = b"schedule-instance"
"""In lower case, as the server gives names of headers."""

_OWN = "Schedule-Instance: is this scheduler's own; a task cannot drive the scheduler that delivers it"
_UNAUTHORIZED = "The Authorization header must carry the service's token"
_REFUSAL_HEADERS = {"WWW-Authenticate": "Bearer"}


class _Refusals:
    """Counts requests without the token, and logs them: the first at once, then one line an interval.

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
    """Passes on requests with the token, and those that OPEN names; refuses the others without reading their bodies.

    401: the token is missing or wrong. 403: `is_own` says that the request is a delivery of this deployment, since a
    task cannot drive the scheduler that delivers it.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        is_own: Callable[[list[bytes]], Awaitable[bool]],
        limits: Limits = DEFAULT,
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._is_own = is_own
        self._refusals = _Refusals(limits.refusals_interval_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        headers = scope["headers"]
        by_name = headers_of(scope)
        has_token = self._is_authorised(by_name.get(b"authorization"))
        if has_token and len(by_name) < len(headers):
            # Two of them are refused: a proxy before this service may have looked at the other one.
            has_token = [name for name, _ in headers].count(b"authorization") == 1
        refusal: ASGIApp | None = None
        if has_token:
            connection = scope.get("state", {}).get(CONNECTION)
            if connection is not None and connection.is_stranger:
                connection.become_known()
        elif (scope["path"], scope["method"]) not in OPEN:
            self._refusals.note(scope)
            refusal = error_answer(Code.UNAUTHORIZED, _UNAUTHORIZED, "Authorization", headers=_REFUSAL_HEADERS)
        if INSTANCE_HEADER in by_name and refusal is None:
            instances = [value for name, value in headers if name == INSTANCE_HEADER]
            refusal = await self._refusal_of_own(instances, scope["path"])
        await (refusal or self._app)(scope, receive, send)

    async def _refusal_of_own(self, instances: list[bytes], path: str) -> Response | None:
        try:
            is_own = await self._is_own(instances)
        except SchedulerError as error:
            return answer_to(error, path)
        return error_answer(Code.OWN_DELIVERY, _OWN, "Schedule-Instance") if is_own else None

    def _is_authorised(self, given: bytes | None) -> bool:
        if given is None:
            return False
        return hmac.compare_digest(given[7:].strip() if given[:7].lower() == b"bearer " else given, self._token)
