"""The id of a request: what its client gave in X-Request-Id, or a new one.

Its answer carries it, and so do the lines of the log that are about it.
"""

import re
import secrets
from itertools import count

from starlette.types import Scope

REQUEST_ID_HEADER = b"x-request-id"
"""In lower case, as the server gives names of headers."""

REQUEST_ID = "redis_scheduler.request_id"
"""Its name in the scope of a request."""

_is_id = re.compile(rb"[A-Za-z0-9._~:+/=-]{1,128}").fullmatch
_START = secrets.token_hex(6).encode()
_numbers = count(1)


def new_request_id(given: bytes) -> bytes:
    """Return the id of a request that was given this one, or none."""
    return given if given and _is_id(given) else b"%b-%x" % (_START, next(_numbers))


def request_id_of(scope: Scope) -> str:
    """Return the id of a request, as the log has it."""
    found: bytes = scope.get(REQUEST_ID, b"")
    return found.decode()
