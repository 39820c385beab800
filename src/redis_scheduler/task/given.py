"""What a client gave, as errors show it: its beginning, on one line. What may be secret is for the caller to leave
out."""

import json
import re

import msgspec
from msgspec import Raw

SHOWN_LENGTH = 60
"""An error repeats so many characters of what a client sent."""

LOOKED_AT = 400
"""An error looks at no more characters, or bytes, of what it repeats: more than it shows, with all escapes."""

NO_CHARACTER = "\ufffd"
_HALVES = re.compile("[\ud800-\udfff]")


def bounded(text: str) -> str:
    """Return the beginning of what a client sent."""
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"


def quoted(text: str) -> str:
    """Return the beginning of a text that a client sent, in quotes, control characters escaped. Half a surrogate pair,
    which no answer can hold, is shown as NO_CHARACTER."""
    return json.dumps(_HALVES.sub(NO_CHARACTER, bounded(text)), ensure_ascii=False)


def shown(value: object) -> str:
    """Return the beginning of a value, as JSON. `Raw` is a valid JSON text: its blanks may be line ends."""
    if isinstance(value, str):
        return quoted(value)
    text = bytes(value) if isinstance(value, Raw) else msgspec.json.encode(value)
    return bounded(" ".join(text[:LOOKED_AT].decode(errors="ignore").split()))
