"""A webhook's two parts: its origin, which many tasks share, and the target, which is most often a task's own."""

import re

_PARTS = re.compile(r"((?:[^:/?#]+:)?//[^/?#]*)([^#]*)")


def split(webhook: str) -> tuple[str, str]:
    """Return scheme and authority of a URL, and its path and query, both as they were given; two empty texts of what
    has no authority. A fragment is in neither: it is never sent (RFC 9110, section 7.1)."""
    parts = _PARTS.match(webhook)
    return (parts[1], parts[2]) if parts else ("", "")
