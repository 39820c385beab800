"""The bodies of the API: what clients send, and what they are answered. requests.py checks them."""

import msgspec
from msgspec import UNSET, Raw, UnsetType


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


class Info(msgspec.Struct, frozen=True):
    """What GET shows of a task. retry: attempts made so far; expires: when it next fires (RFC 3339).

    has_data: false where the delivery's body is empty, since `data` was not given; `data` is shown as null then, too.
    error: only where the record cannot be read, so that webhook, ttl, due and type are not known, or not whole, since a
    newer version wrote it, or its data, which is shown as null then, is not JSON.
    """

    key: str
    ttl: int | float
    retry: int
    webhook: str
    expires: str | None
    state: str
    due: str | None
    type: str
    has_data: bool | UnsetType = UNSET
    last_failure: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


class TaskView(msgspec.Struct, frozen=True):
    """One task as GET /schedule/{key} and GET /schedules show it."""

    info: Info
    data: Raw


NULL = Raw(b"null")


def raw_or_null(data: bytes | None) -> Raw:
    """Return the bytes as they are for a JSON answer; null where there are none."""
    return NULL if data is None else Raw(data)


_encode = msgspec.json.Encoder().encode


def encode_answer(content: object) -> bytes:
    """Return any answer of the API as JSON that ends its line."""
    return _encode(content) + b"\n"
