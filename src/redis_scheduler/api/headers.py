"""The headers of a request, by name."""

from starlette.types import Scope

_BY_NAME = "redis_scheduler.headers"


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by name, in lower case; the last of those that are given twice. They are put
    together once."""
    found: dict[bytes, bytes] | None = scope.get(_BY_NAME)
    if found is None:
        found = scope[_BY_NAME] = dict(scope["headers"])
    return found


def forget_headers(scope: Scope) -> None:
    """Have them put together anew, since the headers were changed."""
    scope.pop(_BY_NAME, None)
