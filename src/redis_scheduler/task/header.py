"""What a task may say of the headers of its request. RequestBuilder (delivery/request.py) writes them."""

import json
import re
from collections.abc import Mapping

from redis_scheduler.task.given import bounded, quoted

HEADERS_MOST = 32
HEADERS_BYTES = 8_192
"""Names and values of all headers of a task."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIGN = re.compile("[^a-z0-9]")
_BAD_CHARACTER = re.compile(r"[^ -~\xa0-\xff]")
OF_THE_CONNECTION = frozenset(
    [
        "host",
        "content-length",
        "connection",
        "transfer-encoding",
        "te",
        "upgrade",
        "expect",
        "trailer",
        "keep-alive",
        "proxy-connection",
    ]
)
OWN_PREFIXES = ("schedule-", "webhook-")
"""Headers that begin so, in lower case, are the service's own; the second ones are those of signatures."""

SECRET_NAME = re.compile(r"[a-z0-9_]{1,64}")
SECRET = re.compile(rf"\$\{{secret:({SECRET_NAME.pattern})\}}")
"""What stands in a value for a secret that only workers know."""

_BEGINNING = "${secret:"


def headers_problem(headers: Mapping[str, str]) -> str:
    """Return what is wrong with the headers of a task, or nothing. No name could then end a line, or belong to the
    connection; no value could end a line."""
    if not 1 <= len(headers) <= HEADERS_MOST:
        return f"must be 1 to {HEADERS_MOST} headers, got {len(headers)}"
    size = sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > HEADERS_BYTES:
        return f"must have at most {HEADERS_BYTES} characters, names and values of all, got {size}"
    seen: dict[str, str] = {}
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None:
            return f"must have names of letters, digits and !#$%&'*+-.^_`|~ alone, got {quoted(name)}"
        lower = name.lower()
        # By receivers behind CGI and WSGI: all take `_` for `-`, some whatever is neither letter nor digit.
        taken_for = _SIGN.sub("-", lower)
        if taken_for in OF_THE_CONNECTION or taken_for.startswith(OWN_PREFIXES):
            return f"must not have {bounded(name)}: the service sets it, or it is of the connection"
        if lower == "traceparent":
            return f"must not have {name}: give the option traceparent instead"
        if lower in seen:
            return f"must have each name once, got {bounded(seen[lower])} and {bounded(name)}"
        seen[lower] = name
        if bad := _BAD_CHARACTER.search(value):
            got = f"{json.dumps(bad[0])} as character {bad.end()}"
            return f"{bounded(name)} must be visible characters of Latin-1 and spaces, got {got}"
        if value != value.strip(" \xa0"):
            return f"{bounded(name)} must not begin or end with a space"
        if _BEGINNING in value and value.count(_BEGINNING) != len(SECRET.findall(value)):
            return (
                f"{bounded(name)} must name a secret as ${{secret:NAME}}, NAME of 1 to 64 small letters, digits and _"
            )
    return ""


def value_problem(value: str) -> str:
    """Return why no header can have this value, or nothing; it does not show it."""
    is_value = _BAD_CHARACTER.search(value) is None and value == value.strip(" \xa0")
    return "" if is_value else "must be visible characters of Latin-1, with spaces only inside"
