"""The head of a record (record.py): the bytes of its members up to the task's content, and how they are read."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, cast

import msgspec
from msgspec import Meta, Raw

from redis_scheduler.task.content import CONTENTS, Content
from redis_scheduler.task.options import NONE, TRACEPARENT, Callback, Options
from redis_scheduler.task.repeat import Occurrence, Progress

Repetition = Progress | Occurrence
"""Whose record it is: a series', or an occurrence's."""

REPETITION_LENGTH = 256
"""A repetition has fewer bytes: a key of 128 letters at most, and its names and numbers."""

TOKEN_ID = "[0-9a-f]{10}"  # noqa: S105 - a form, and no secret
"""The id of a token with rights (store/token.py)."""

TokenId = Annotated[str, Meta(pattern=rf"\A{TOKEN_ID}\Z")]

OPTIONS_KEPT = 512
OPTIONS_LENGTH = 2_048
"""So many texts of options, of at most so many bytes, are remembered with what they mean: thousands of tasks have the
same."""


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What each task has."""

    webhook: str
    ttl: int | float
    type: str | None = None


class _ShortHead(Head, frozen=True, forbid_unknown_fields=True):
    due: int = 0
    again: int = 0


class _LongHead(Options, frozen=True, forbid_unknown_fields=True):
    due: int
    head: int
    webhook: str
    ttl: int | float
    type: str | None = None
    token: TokenId | None = None
    progress: Progress | None = None
    occurrence: Occurrence | None = None
    again: int = 0


encode_head = msgspec.json.Encoder().encode
decode_short = msgspec.json.Decoder(_ShortHead).decode
decode_long = msgspec.json.Decoder(_LongHead).decode
_decode_options = msgspec.json.Decoder(Options).decode
decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
KNOWN = {*_LongHead.__struct_fields__, *CONTENTS}
KNOWN_IN_CALLBACK = {*Callback.__struct_fields__}
DATA_MEMBER = b',"data":'
CONTENT_MEMBER = re.compile(rb',"(%b)":' % "|".join(CONTENTS).encode())
_REPETITIONS: tuple[tuple[bytes, Callable[[bytes], Repetition]], ...] = (
    (b',"occurrence":{', msgspec.json.Decoder(Occurrence).decode),
    (b',"progress":{', msgspec.json.Decoder(Progress).decode),
)
# What differs between tasks that have the same options stands before them, or last.
_NUMBER = rb"(?:0|[1-9][0-9]{0,14})"
_TEXT = rb'"([^"\\\0-\x1f]*)"'
# A ttl that was computed may have 16 decimals, and 20 if it is small.
FRONT = re.compile(
    rb'\{"due":(%(n)b),(?:"again":(%(n)b),)?"head":(%(n)b),"webhook":%(t)b,"ttl":(%(n)b(?:\.[0-9]{1,20})?)'
    rb'(?:,"type":%(t)b)?(?:,"token":"(%(id)b)")?(?:,"traceparent":"(%(trace)b)")?(?=[,}])'
    % {
        b"n": _NUMBER,
        b"t": _TEXT,
        b"id": TOKEN_ID.encode(),
        b"trace": TRACEPARENT.removeprefix(r"\A").removesuffix(r"\Z").encode(),
    }
)
_HEAD_LENGTH = re.compile(rb'\{"due":[0-9]{1,15},(?:"again":[0-9]{1,9},)?"head":([0-9]{1,9}),')


def without_repetition(text: bytes) -> tuple[bytes, Repetition | None]:
    """Return the options without a repetition that stands last, and that. Raises ValueError if it is within another
    value: then something stands behind it."""
    for name, decode in _REPETITIONS:
        if (at := text.rfind(name, -REPETITION_LENGTH)) >= 0:
            return text[:at], decode(text[at + len(name) - 1 :])
    return text, None


def _new_options(text: bytes) -> Options:
    if not text.startswith(b',"'):
        raise ValueError("no members")
    options = _decode_options(b"{%b}" % text[1:])
    return NONE if options == NONE else options


_kept_options = lru_cache(OPTIONS_KEPT)(_new_options)


def options_from(text: bytes) -> Options:
    """Return the options of a text of JSON members, with a comma before each. Raises ValueError for other text."""
    if not text:
        return NONE
    return _kept_options(text) if len(text) <= OPTIONS_LENGTH else _new_options(text)


def parted(stored: bytes) -> tuple[bytes, Content, bytes | None]:
    """Return the head, as an object of its own, and name and JSON of the content of a record that carries the length of
    its head. Raises ValueError for another."""
    length = _HEAD_LENGTH.match(stored)
    if length is None:
        raise ValueError("no length of a head")
    end = length.end(1) + int(length[1])
    head, rest = stored[:end] + b"}", stored[end:]
    if rest == b"}":
        return head, "data", None
    member = CONTENT_MEMBER.match(rest)
    if member is None:
        raise ValueError("no content behind the head")
    return head, cast(Content, member[1].decode()), rest[member.end() : -1]
