"""The failed attempts that are kept of a task: the last few, each with what came of it.

They stand in one object: the last attempt, as versions with one failure read it, and in `earlier` those before it.
"""

import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from redis_scheduler.task.failure import LastFailure

ATTEMPTS_KEPT = 6
"""So many are kept."""

KEPT_BYTES = 8_192
"""So many bytes are kept in all: fewer attempts, if their answers are long."""


class Attempt(LastFailure, frozen=True, omit_defaults=True):
    """A failed attempt. `due`, `began`: in Redis' ms; 0 in a failure of an older version. `worker`: who made it.

    `answer`: the beginning of the answer's body as text, or `answer_base64`, where it is none. `again`: when the next
    attempt was to be made; 0 if none.
    """

    due: int = 0
    began: int = 0
    again: int = 0
    worker: str = ""
    answer: str = ""
    answer_base64: str = ""


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


def failure_of(attempt: Attempt, before: Sequence[Attempt], answer: bytes = b"") -> bytes:
    """Return what is kept after another failed attempt, whose answer begins so; `before` are those kept before it."""
    if answer:
        try:
            text = answer.decode()
        except UnicodeDecodeError:
            attempt = msgspec.structs.replace(attempt, answer_base64=base64.b64encode(answer).decode())
        else:
            attempt = msgspec.structs.replace(attempt, answer=text)
    earlier = before[1 - ATTEMPTS_KEPT :]
    kept = _kept(attempt, earlier)
    while earlier and len(kept) > KEPT_BYTES:
        earlier = earlier[1:]
        kept = _kept(attempt, earlier)
    return kept


def _kept(attempt: Attempt, earlier: Sequence[Attempt]) -> bytes:
    return _encode(_as(_Kept, attempt, earlier=tuple(earlier)))


def _as(kind: type[Kind], attempt: Attempt, **more: Any) -> Kind:
    values: dict[str, Any] = {name: getattr(attempt, name) for name in Attempt.__struct_fields__}
    return kind(**values, **more)
