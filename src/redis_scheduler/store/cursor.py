"""Where a page of the list ends, and the cursor that names this place. It is opaque to clients, and checked when it
comes back."""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable

from redis_scheduler.errors import InvalidField
from redis_scheduler.task.given import quoted

ID_LAST = 2**64 - 1
"""The last number in an entry's id."""

KEY_BYTES = 1_000
"""Longer keys are not listed. The service's own have 22; a cursor holds one, and must fit into a request's head."""

Position = tuple[str, ...]
"""Where a task stands in the list: place, stream id or score, key; in a list of several shards also the number of its
shard. Empty: the start."""


PLACES = ("queue", "due", "paused", "awaiting", "held")
"""Where what is to be delivered stands, in the order in which it is listed."""


def positions(place: str, pairs: Iterable[tuple[bytes, bytes]]) -> list[Position]:
    """Return where keys stand, without foreign ones that no answer or cursor can name: no UTF-8, or too long."""
    found: list[Position] = []
    for at, key in pairs:
        if len(key) <= KEY_BYTES:
            with contextlib.suppress(UnicodeDecodeError):
                found.append((place, at.decode(), key.decode()))
    return found


def behind(entry_id: str) -> str:
    """Return where the queue goes on behind an entry; empty behind the last possible id, where Redis refuses to
    look."""
    return "" if entry_id == f"{ID_LAST}-{ID_LAST}" else f"({entry_id}"


def encode_cursor(position: Position) -> str:
    """Return the text that a client gives back for the next page."""
    return base64.urlsafe_b64encode(" ".join(position).encode()).decode().rstrip("=")


# Foreign hands may have set any score and any key: a cursor of such a place is taken back, too.
_SCORE = re.compile(r"-?(inf|[0-9]{1,25}(\.[0-9]{1,25})?(e[+-]?[0-9]{1,3})?)")
_POSITION = {
    "queue": re.compile(r"[0-9]{1,20}-[0-9]{1,20}(@[0-9]{1,2})?"),
    **dict.fromkeys((*PLACES[1:], "type", "label", "series", "dead"), _SCORE),
}


def from_time(place: str, at_ms: int | None) -> Position:
    """Return where a walk begins that meets what stands behind a time; None: all of the place.

    No task has the empty key, which sorts before every other: so a walk up meets what is due at that very time, and a
    walk down does not.
    """
    return (place,) if at_ms is None else (place, str(at_ms), "")


def place_of(cursor: str) -> str:
    """Return the place that a cursor names, whatever else is in it."""
    return _text_of(cursor).partition(" ")[0]


def decode_cursor(cursor: str | None, places: set[str]) -> Position:
    """Return the position in a cursor, empty for None. Raises InvalidField unless it is one of ours, in these
    places."""
    if cursor is None:
        return ()
    match _text_of(cursor).split(" ", 2):
        case [place, at, key] if place in places and _POSITION[place].fullmatch(at) and len(key) <= KEY_BYTES:
            if place != "queue" or all(int(number) <= ID_LAST for number in at.partition("@")[0].split("-")):
                return (place, at, key)
    raise InvalidField(
        "cursor", f"must be the `next` of an earlier answer of the same list, as it was, got {quoted(cursor)}"
    )


def _text_of(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
