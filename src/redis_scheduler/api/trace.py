"""The trace that a request is part of (W3C Trace Context): the deliveries of its tasks are part of it, too."""

import re
from collections.abc import Mapping

from redis_scheduler.task.options import TRACEPARENT

_is_valid = re.compile(TRACEPARENT).fullmatch


def traceparent(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the header of this name; None if there is none, or it is not valid."""
    found = headers.get(b"traceparent")
    if found is None:
        return None
    text: str = found.decode("latin-1")
    return text if _is_valid(text) else None
