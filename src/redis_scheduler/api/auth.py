"""Who may ask: the token in `Authorization`, bare or behind `Bearer`, compared as bytes in constant time."""

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from redis_scheduler.api.answers import failure

_REFUSAL_HEADERS = {"WWW-Authenticate": "Bearer"}


class TokenGate:
    """Lets requests through that carry the token, and GET / without one; answers 401 to all others, unread."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not self._is_open(scope) and not self._is_authorised(scope):
            refusal = failure(401, "The Authorization header must carry the service's token", _REFUSAL_HEADERS)
            await refusal(scope, receive, send)
            return
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
