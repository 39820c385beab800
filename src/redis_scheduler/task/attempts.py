"""The failed attempts that are kept of a task: the last few, each with what came of it.

They stand in one object: the last attempt, as versions with one failure read it, and in `earlier` those before it.
"""

import base64
import codecs
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from redis_scheduler.task.failure import LastFailure

ATTEMPTS_KEPT = 6
"""So many are kept."""

ANSWER_BYTES = 1_024
"""So many bytes are kept of an answer, if no setting says otherwise."""

KEPT_BYTES = 8_192
"""So many bytes are kept in all, or twice those of an answer if that is more: fewer answers, if they are long."""

REST_BYTES = 1_024
"""What is kept of an attempt besides its answer takes less."""


class Attempt(LastFailure, frozen=True, omit_defaults=True):
    """A failed attempt. `due`, `began`: in Redis' ms; 0 in a failure of an older version. `worker`: who made it.

    `answer`: the beginning of the answer's body as text, or `answer_base64`, where it is none, or is mostly control
    characters. `lookup_ms`, `connect_ms`, `first_byte_ms`: see Phases (outcome.py). `detail`: see Outcome. `again`:
    when the next attempt was to be made; 0 if none. `started`: the key of the task that the end with it started.
    """

    due: int = 0
    began: int = 0
    again: int = 0
    worker: str = ""
    answer: str = ""
    answer_base64: str = ""
    lookup_ms: int = 0
    connect_ms: int = 0
    first_byte_ms: int = 0
    detail: str = ""
    started: str = ""


class _Kept(Attempt, frozen=True, omit_defaults=True):
    earlier: tuple[Attempt, ...] = ()


Kind = TypeVar("Kind", bound=LastFailure)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode


def read_failed(failure: bytes | None) -> list[Attempt]:
    """Return the failed attempts that are kept, the last one last; none of what other hands wrote."""
    if not failure:
        return []
    try:
        kept = _decode(failure)
    except (ValueError, RecursionError):
        return []
    return [*kept.earlier, _as(Attempt, kept)]


def failure_of(
    attempt: Attempt, before: Sequence[Attempt], answer: bytes = b"", answer_bytes: int = ANSWER_BYTES
) -> bytes:
    """Return what is kept after another failed attempt, with `answer_bytes` of its answer; `before` are those kept
    before it."""
    if answer := answer[:answer_bytes]:
        attempt = _with_answer(attempt, answer, is_cut=len(answer) == answer_bytes)
    earlier, most = list(before[1 - ATTEMPTS_KEPT :]), max(KEPT_BYTES, 2 * answer_bytes + REST_BYTES)
    kept = _kept(attempt, earlier)
    for at, each in enumerate(earlier):
        if len(kept) <= most:
            return kept
        earlier[at] = msgspec.structs.replace(each, answer="", answer_base64="")
        kept = _kept(attempt, earlier)
    # Without answers they fit, unless other hands wrote them.
    return kept if len(kept) <= most else _kept(attempt, ())


def _with_answer(attempt: Attempt, answer: bytes, is_cut: bool) -> Attempt:
    try:
        text, _ = codecs.utf_8_decode(answer, "strict", not is_cut)  # a cut may part a character
    except UnicodeDecodeError:
        text = ""
    # JSON writes a control character in six.
    if text and len(_encode(text)) <= 2 * len(answer) + 2:
        return msgspec.structs.replace(attempt, answer=text)
    return msgspec.structs.replace(attempt, answer_base64=base64.b64encode(answer).decode())


def _kept(attempt: Attempt, earlier: Sequence[Attempt]) -> bytes:
    return _encode(_as(_Kept, attempt, earlier=tuple(earlier)))


def _as(kind: type[Kind], attempt: Attempt, **more: Any) -> Kind:
    values: dict[str, Any] = {name: getattr(attempt, name) for name in Attempt.__struct_fields__}
    return kind(**values, **more)
