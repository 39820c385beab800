"""What stands in Redis of the attempts that failed: how many, a mark, and the last failure."""

import re

import msgspec
from msgspec import Raw

TOLD_TO_RUN = b"!"
"""The mark of a series that was told to run, and has not made that occurrence."""


def read_attempts(failure: bytes | None) -> tuple[int, bytes | None]:
    """Return how many attempts have failed, and the last failure; the number as the scripts read it."""
    attempts, _, last = (failure or b"").partition(b" ")
    digits = _DIGITS.match(attempts)
    return int(digits[0]) if digits else 0, last or None


def read_mark(failure: bytes | None) -> str:
    """Return what is known of an acknowledgement (acknowledgement.py); most often nothing."""
    if failure is None or (found := _MARK.match(failure)) is None:
        return ""
    return found[1].decode()


def is_told_to_run(failure: bytes | None) -> bool:
    """Return whether a series has the mark TOLD_TO_RUN (series.py)."""
    return failure is not None and _TOLD.match(failure) is not None


_DIGITS = re.compile(rb"[0-9]{1,15}")
_MARK = re.compile(rb"[0-9]{1,15}(@[0-9-]{1,50}[+-]?)(?: |$)")
_TOLD = re.compile(rb"[0-9]{1,15}%b(?: |$)" % TOLD_TO_RUN)


class LastFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last failed attempt, as it is kept with the task; status only if there was an answer."""

    error: str
    elapsed_ms: int
    status: int | None = None


class _Answered(msgspec.Struct):
    status: int | None = None


_decode_answered = msgspec.json.Decoder(_Answered).decode


def status_of(last_failure: bytes | None) -> int | None:
    """Return the status of the answer to the last failed attempt; None if there was none, or foreign hands wrote it."""
    try:
        return _decode_answered(last_failure).status if last_failure else None
    except (ValueError, RecursionError):
        return None


class _Failed(msgspec.Struct):
    error: str


_decode_failed = msgspec.json.Decoder(_Failed).decode


def error_of(last_failure: bytes | None) -> str:
    """Return the error of the last failed attempt; empty if none is kept, or foreign hands wrote it."""
    try:
        return _decode_failed(last_failure or b"").error
    except (ValueError, RecursionError):
        return ""


encode_failure = msgspec.json.Encoder().encode
FOREIGN_FAILURE = Raw(encode_failure(LastFailure("the failure that is kept is not JSON: other hands wrote it", 0)))
