"""Who may ask: the token in `Authorization`, bare or behind `Bearer`, compared as bytes in constant time."""

import asyncio
import hmac
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from redis_scheduler.api.admission import BECOME_KNOWN
from redis_scheduler.api.answers import failure

logger = logging.getLogger(__name__)

_REFUSAL_HEADERS = {"WWW-Authenticate": "Bearer"}


REFUSALS_INTERVAL_S = 10.0
"""Between two lines of the log about requests that were refused."""


class _Refusals:
    """Counts the requests without the token, and logs them: the first at once, then one line for an interval.

    The address is that of the last one: to keep one for each would let strangers fill the memory.
    """

    def __init__(self) -> None:
        self._count = self._count_told = 0
        self._address = ""
        self._is_waiting = False

    def note(self, scope: Scope) -> None:
        """Count one."""
        self._count += 1
        self._address = scope["client"][0] if scope.get("client") else ""
        if not self._is_waiting:
            self._tell()

    def _tell(self) -> None:
        new = self._count - self._count_told
        self._is_waiting = new > 0
        if new:
            self._count_told = self._count
            fields = {"requests": new, "client": self._address, "since_start": self._count}
            logger.warning("refused", extra={"fields": fields})
            asyncio.get_running_loop().call_later(REFUSALS_INTERVAL_S, self._tell)


class TokenGate:
    """Lets requests through that carry the token, and GET / without one; answers 401 to all others, unread."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()
        self._refusals = _Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not self._is_open(scope):
            if not self._is_authorised(scope):
                self._refusals.note(scope)
                refusal = failure(401, "The Authorization header must carry the service's token", _REFUSAL_HEADERS)
                await refusal(scope, receive, send)
                return
            if become_known := scope.get("state", {}).get(BECOME_KNOWN):
                become_known()
        await self._app(scope, receive, send)

    @staticmethod
    def _is_open(scope: Scope) -> bool:
        return scope["path"] == "/" and scope["method"] in ("GET", "HEAD")

    def _is_authorised(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # Two of them are refused: what stands before this service may have looked at the other.
        if len(given) != 1:
            return False
        value = given[0]
        return hmac.compare_digest(value[7:].strip() if value[:7].lower() == b"bearer " else value, self._token)
