"""A webhook's two parts: its origin, which many tasks share, and the target, which is most often a task's own."""

import re
from urllib.parse import urlsplit

WEBHOOK_LENGTH = 4_096
"""Characters of the longest webhook that the API takes. A longer one, from foreign hands, is not remembered."""

ORIGINS_KEPT = 1_024
"""So many origins are remembered."""

_PARTS = re.compile(r"((?:[^:/?#]+:)?//[^/?#]*)([^#]*)")


def split(webhook: str) -> tuple[str, str]:
    """Return scheme and authority of a URL, and its path and query, both as they were given; two empty texts of what
    has no authority. A fragment is in neither: it is never sent (RFC 9110, section 7.1)."""
    parts = _PARTS.match(webhook)
    return (parts[1], parts[2]) if parts else ("", "")


def parts_of(webhook: str) -> tuple[str, str]:
    """Return origin and target of a webhook that the API may have taken, two empty texts of another. Raises ValueError
    for what is no URL at all."""
    global _last, _last_parts
    if webhook == _last:
        return _last_parts
    if len(webhook) > WEBHOOK_LENGTH:
        return _long_parts(webhook)
    # Most often the first slash behind `https://` ends the origin, which many webhooks share.
    end = webhook.find("/", 8)
    target = webhook[end:]
    if end > 0 and (known := _origins.get(webhook[:end])) is not None and "#" not in target:
        parts = (known, target) if target.isprintable() and " " not in target else _NO_PARTS
    else:
        parts = _new_parts(webhook)
    _last, _last_parts = webhook, parts
    return parts


def _long_parts(webhook: str) -> tuple[str, str]:
    """Find what `parts_of` returns, and remember nothing that is long: foreign hands could fill the memory."""
    return _NO_PARTS if len("".join(webhook.split("/", 3)[:3])) > WEBHOOK_LENGTH else _new_parts(webhook)


def _new_parts(webhook: str) -> tuple[str, str]:
    """Find what `parts_of` returns."""
    origin, target = split(webhook)
    # A control character could end a line of the request's head.
    if not origin or not webhook.isprintable() or " " in webhook:
        return _NO_PARTS
    known = _origins.get(origin)
    if known is None:
        if not urlsplit(origin).netloc:
            return _NO_PARTS
        if len(_origins) >= ORIGINS_KEPT:
            _origins.clear()
        known = _origins[origin] = origin
    return known, target


_NO_PARTS = ("", "")
_last, _last_parts = "", _NO_PARTS
"""The last webhook, and its parts: the tasks of a batch often have the same."""

_origins: dict[str, str] = {}
