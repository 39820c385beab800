"""A webhook's two parts: its origin, which many tasks share, and the target, which is most often a task's own."""

import re
from functools import lru_cache
from urllib.parse import urlsplit

WEBHOOK_LENGTH = 4_096
"""Characters of the longest webhook that the API takes. A longer one, from foreign hands, is not remembered."""

ORIGINS_KEPT = 1_024
"""So many texts are remembered with whether they are an origin."""

_PARTS = re.compile(r"((?:[^:/?#]+:)?//[^/?#]*)([^#]*)")


def split(webhook: str) -> tuple[str, str]:
    """Return scheme and authority of a URL, and its path and query, both as they were given; two empty texts of what
    has no authority. A fragment is in neither: it is never sent (RFC 9110, section 7.1)."""
    parts = _PARTS.match(webhook)
    return (parts[1], parts[2]) if parts else ("", "")


def parts_of(webhook: str) -> tuple[str, str]:
    """Return origin and target of a webhook that the API may have taken, two empty texts of another. Raises ValueError
    for what is no URL at all."""
    global _last
    last, parts = _last
    if webhook != last:
        parts = _new_parts(webhook)
        # A longer webhook than the API takes is not remembered: foreign hands could fill the memory.
        if len(webhook) <= WEBHOOK_LENGTH:
            _last = webhook, parts
    return parts


def _new_parts(webhook: str) -> tuple[str, str]:
    """Find what `parts_of` returns."""
    # Most often the first slash behind `https://` ends the origin, which many webhooks share.
    end = webhook.find("/", 8)
    origin, target = webhook[:end], webhook[end:]
    if end < 0 or "#" in webhook or len(webhook) > WEBHOOK_LENGTH or not _is_origin(origin):
        if len(webhook) > WEBHOOK_LENGTH and len("".join(webhook.split("/", 3)[:3])) > WEBHOOK_LENGTH:
            return _NO_PARTS
        origin, target = split(webhook)
        if not origin or not _is_origin(origin):
            return _NO_PARTS
    # A control character could end a line of the request's head.
    return (origin, target) if webhook.isprintable() and " " not in webhook else _NO_PARTS


_NO_PARTS = ("", "")
_last = ("", _NO_PARTS)
"""The last webhook, and its parts: the tasks of a batch often have the same."""


@lru_cache(ORIGINS_KEPT)
def _is_origin(text: str) -> bool:
    return split(text) == (text, "") and bool(urlsplit(text).netloc)
