"""The shapes that cross a boundary: a task's record in Redis, and the bodies of the API.

A record is one JSON object: {"due":ms,"webhook":…,"ttl":…,"type":…,"data":…}. The script that writes it knows the due
time (Redis' clock is the only clock), so it puts `{"due":<ms>` in front of what `record_tail` made. `data` stands last
and is cut off by its name, never parsed: it stays byte for byte what the client sent, however deep or large.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Record(msgspec.Struct, frozen=True):
    """What is known of a task: where to post, when, what. `due` is in Redis' ms; `data` is the raw body."""

    due: int
    webhook: str
    ttl: int | float
    type: str | None = None
    data: bytes | None = None


class _Head(msgspec.Struct, omit_defaults=True):
    webhook: str
    ttl: int | float
    type: str | None = None


class _StoredHead(_Head):
    due: int = 0


_encode_head = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(_StoredHead).decode
_DATA_MEMBER = b',"data":'


def record_tail(webhook: str, ttl: float, type_name: str | None, data: bytes | None) -> bytes:
    """Return a record less its due time: `,"webhook":…}`, to be put behind `{"due":<ms>`."""
    head = _encode_head(_Head(webhook, ttl, type_name))
    if data is None:
        return b"," + head[1:]
    return b"".join((b",", head[1:-1], _DATA_MEMBER, data, b"}"))


def decode_record(stored: bytes) -> Record:
    """Return the record from its bytes.

    Inside a JSON string a quote is always escaped, so the first `,"data":` is the member and not text.
    """
    head, member, tail = stored.partition(_DATA_MEMBER)
    decoded = _decode_head(head + b"}" if member else head)
    return Record(decoded.due, decoded.webhook, decoded.ttl, decoded.type, tail[:-1] if member else None)


class ScheduleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /schedule."""

    webhook: str
    ttl: int | float
    data: Raw | UnsetType = UNSET


class UpdateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PATCH /schedule/{key}: what is absent stays."""

    webhook: str | UnsetType = UNSET
    ttl: int | float | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last failed attempt, as it is kept with the task; status only if there was an answer."""

    error: str
    elapsed_ms: int
    status: int | None = None


encode_failure = msgspec.json.Encoder().encode


class Info(msgspec.Struct, frozen=True):
    """What GET shows of a task. retry: attempts made so far; expires: when it next fires (RFC 3339)."""

    key: str
    ttl: int | float
    retry: int
    webhook: str
    expires: str | None
    state: str
    due: str
    type: str
    last_failure: Raw | UnsetType = UNSET


class TaskView(msgspec.Struct, frozen=True):
    """One task as GET /schedule/{key} and GET /schedules show it."""

    info: Info
    data: Raw


NULL = Raw(b"null")


def raw_or_null(data: bytes | None) -> Raw:
    """Return the bytes as they are for a JSON answer; null where there are none."""
    return NULL if data is None else Raw(data)


encode_answer = msgspec.json.Encoder().encode
"""Any answer of the API to JSON bytes."""
