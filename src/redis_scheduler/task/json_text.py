"""Whether a text is JSON: a task's data, and its last failure, may be from foreign hands."""

import msgspec
from msgspec import Raw

FOREIGN_DATA_ERROR = "its data is not JSON: other hands wrote it"
_decode_raw = msgspec.json.Decoder(Raw).decode


def without_halves(text: bytes) -> bytes:
    """Return other JSON of the same length and form, with no half of a surrogate pair in it.

    The decoder refuses halves, and the API takes them. All escapes from U+D000 to U+DFFF become others: telling halves
    from whole pairs took 50 ms a megabyte and more.
    """
    return text.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue")


def is_whole(text: bytes) -> bool:
    """Whether JSON holds no half of a surrogate pair."""
    try:
        _decode_raw(text)
    except msgspec.DecodeError:
        return False
    return True


def is_json(text: bytes) -> bool:
    """Whether the text is JSON, and so may stand in an answer as it is. Text from foreign hands may not be."""
    try:
        text.decode()
        try:
            _decode_raw(text)
        except msgspec.DecodeError:
            _decode_raw(without_halves(text))
    except (ValueError, RecursionError):
        return False
    return True
