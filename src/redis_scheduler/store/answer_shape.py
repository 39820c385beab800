"""Reads the answer to a call as what the caller asked for: numbers, texts, rows. All of this room uses it.

A proxy that answers something else, or a program of another protocol version, must end no process. So the sender of a
call gives the function that reads its answer; whatever that function raises becomes one error, which tells the kind of
the answer and nothing of its content.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar

import msgspec
from redis.exceptions import RedisError

from redis_scheduler.task.timing import LAST_MS

T = TypeVar("T")

_STATUS = re.compile(rb"[A-Z]{1,12}")
"""Only Redis answers such words (OK, QUEUED). Other texts may be a user's, so only their size is told."""


class WrongAnswer(RedisError):
    """A well-formed answer, but none that Redis gives to this call."""

    def __init__(self, call: str, answer: Any, error: Exception) -> None:
        # The text of another error may repeat the answer; that of msgspec names only types.
        is_ours = type(error) in (ValueError, msgspec.ValidationError) and str(error).startswith("Expected ")
        expected = str(error).partition(", got ")[0] if is_ours else "Expected another form"
        super().__init__(f"{call} was answered by {_kind_of(answer)}. {expected}")


def interpreted(call: str, read: Callable[[Any], T], answer: Any) -> T:
    """Return what an answer says. Raises WrongAnswer, whatever `read` raises."""
    try:
        return read(answer)
    except Exception as error:
        raise WrongAnswer(call, answer, error) from error


def _kind_of(answer: Any) -> str:
    match answer:
        case None:
            return "nothing"
        case bytes() if _STATUS.fullmatch(answer):
            return answer.decode()
        case bytes():
            return f"a text of {len(answer)} bytes"
        case int():
            return "a number"
        case list():
            return f"a list of {len(answer)}"
    return f"a {type(answer).__name__}"


def as_it_is(answer: Any) -> Any:
    """Read an answer that the caller takes in any form."""
    return answer


def all_paused_since_ms(answer: Any) -> int | None:
    """Read since when nothing is promoted; None: it is. A text that is no time, from foreign hands, is 1970."""
    since = of(bytes | None)(answer)
    return None if since is None else int(since) if since.isdigit() and len(since) < 16 else 0


def of(shape: Any) -> Callable[[Any], Any]:
    """Return a reader of answers of this type, such as `list[bytes | None]`."""
    return partial(msgspec.convert, type=shape)


TEXTS = of(list[bytes])
NUMBER = of(int)
SCANNED = of(tuple[bytes, list[bytes]])
"""A page of HSCAN, SSCAN or ZSCAN: the cursor of the next page (0: this is the last), and what it lists."""


def text_pairs(answer: Any) -> list[tuple[bytes, bytes]]:
    """Read texts that stand in pairs, as the fields and values of a hash do."""
    texts = TEXTS(answer)
    return list(zip(texts[::2], texts[1::2], strict=True))


def sized(shape: Any, count: int) -> Callable[[Any], Any]:
    """Return a reader of lists of this type with `count` members."""

    def read(answer: Any) -> Any:
        found = msgspec.convert(answer, shape)
        if len(found) != count:
            raise ValueError(f"Expected a list of {count}")
        return found

    return read


def numbers(count: int) -> Callable[[Any], list[int]]:
    """Return a reader of `count` numbers. By hand: msgspec looks at the type each time, which costs 2 us."""

    def read(answer: Any) -> list[int]:
        if type(answer) is not list or len(answer) != count or not {int}.issuperset(map(type, answer)):
            raise ValueError(f"Expected {count} numbers")
        return answer

    return read


A_TEXT, A_NUMBER, NOTHING = frozenset({bytes}), frozenset({int}), frozenset({type(None)})
"""What a column may hold."""


def columns(answer: list[Any], kinds: Sequence[frozenset[type]]) -> list[list[Any]]:
    """Return the columns of a flat list of rows, each with values of its kind. By hand, as `numbers`."""
    found = [answer[first :: len(kinds)] for first in range(len(kinds))]
    is_whole = len(answer) % len(kinds) == 0
    for kind, one in zip(kinds, found, strict=True):
        is_whole = is_whole and kind.issuperset(map(type, one))
    if not is_whole:
        raise ValueError(f"Expected rows of {len(kinds)}")
    return found


def time_ms(text: bytes) -> int:
    """Read a time of Redis' clock, as a script writes it."""
    if not text.isdigit() or int(text) > LAST_MS:
        raise ValueError("Expected a time")
    return int(text)


def redis_ms(time_answer: Sequence[bytes]) -> int:
    """Return Redis' clock in ms from the answer of TIME."""
    seconds, microseconds = map(time_ms, time_answer)
    return seconds * 1000 + microseconds // 1000


M = TypeVar("M", bound=Enum)


@cache
def _meanings(kind: type[M]) -> tuple[type[Any], dict[int, M]]:
    """Return the form of such an answer, and what its members mean: those of a text are numbers, too."""
    members = list(kind)
    if isinstance(members[0].value, int):
        return list, {member.value: member for member in members}
    return bytes, {ord(member.value): member for member in members}


def each_of(kind: type[M], answer: Any, count: int) -> list[M]:
    """Read one code or one number for each task, as the member that it is the value of."""
    form, meanings = _meanings(kind)
    return _each(form, meanings, answer, count)


_TOOK_EFFECT = {0: False, 1: True}


def booleans(count: int) -> Callable[[Any], list[bool]]:
    """Return what reads for each of so many tasks whether its outcome took effect; it was fenced otherwise."""
    return lambda answer: _each(list, _TOOK_EFFECT, answer, count)


def _each(form: type[Any], meanings: Mapping[int, T], answer: Any, count: int) -> list[T]:
    if type(answer) is form and len(answer) == count:
        # Only looked up, not checked before: that takes half the time.
        try:
            return [meanings[member] for member in answer]
        except (KeyError, TypeError):
            pass
    raise ValueError(f"Expected an answer for each of {count}")
