"""Statuses of answers as people name several: `410`, `400-499`, `400-499,!429,500`."""

import re
from functools import lru_cache

PATTERN = r"\A(none|!?[345][0-9]{2}(-[345][0-9]{2})?(,!?[345][0-9]{2}(-[345][0-9]{2})?)*)\Z"
LENGTH_MOST = 200
RULE = "must be statuses from 300 to 599 and ranges of them, exceptions with a `!` (such as 400-499,!429), or none"

_PART = re.compile(r"(!?)([0-9]+)-?([0-9]*)")


@lru_cache(1_024)
def statuses(text: str) -> frozenset[int]:
    """Return what a text names. Raises ValueError, with the rule, for another, and for one with a part that has no
    effect."""
    if len(text) > LENGTH_MOST or re.search(PATTERN, text) is None:
        raise ValueError(RULE)
    named: dict[str, set[int]] = {"": set(), "!": set()}
    for sign, first, last in _PART.findall(text):
        part = set(range(int(first), int(last or first) + 1))
        if not part:
            raise ValueError(f"has a range that is empty, {first}-{last}")
        named[sign] |= part
    if not named["!"] <= named[""]:
        raise ValueError("has an exception from nothing: it may only except what stands beside it")
    if named["!"] == named[""] and text != "none":
        raise ValueError("excepts all that it names: say none")
    return frozenset(named[""] - named["!"])
