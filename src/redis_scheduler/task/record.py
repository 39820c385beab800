"""What is stored of a task: its record in Redis.

A record is one JSON object: {"due":ms,"webhook":…,"ttl":…,"type":…,"data":…}. The script that writes it knows the due
time (Redis' clock is the only clock), so it puts `{"due":<ms>` in front of what `record_tail` made. `data` stands last
and is cut off by its name, never parsed: it stays byte for byte what the client sent, however deep or large.

With options (options.py): {"due":ms,"head":bytes,"webhook":…,"ttl":…,"type":…,options…,"data":…}. `head` says how many
bytes follow it up to `,"data":`, which the value of an option may hold, too. A version that adds a member puts it into
this head: so older versions notice, and leave the task to a newer worker. So are `progress`, of a series, and
`occurrence`, of a task that a series made (repeat.py). In the place of `data` may stand `body` or `body_base64`, a text
of JSON: such a record has a head, too.
"""

import contextlib
import re
from typing import Any, cast

import msgspec
from msgspec import Raw

from redis_scheduler.task.content import CONTENTS, Content
from redis_scheduler.task.options import NONE, Options, options_of
from redis_scheduler.task.repeat import Occurrence, Progress
from redis_scheduler.task.timing import LAST_MS
from redis_scheduler.task.webhook import parts_of

Mark = Progress | Occurrence
"""Whose record it is: a series', or an occurrence's."""


class Record(msgspec.Struct, frozen=True):
    """What is known of a task: where to post, when, what. `due` is in Redis' ms; `data` is the raw JSON of its content.

    `unknown`: a member that only a newer version can have written. Such a task is left to a worker that knows it;
    webhook, ttl and type are empty if they could not be read.

    `origin` and `target`: the webhook's parts (webhook.py), so that a delivery need not look for them. Empty if the API
    cannot have taken the webhook, and in a record with an unknown member.
    """

    due: int
    webhook: str
    ttl: int | float
    type: str | None = None
    data: bytes | None = None
    unknown: str | None = None
    origin: str = ""
    target: str = ""
    options: Options = NONE
    content: Content = "data"
    mark: Mark | None = None
    again: int = 0
    """How often its receiver wanted it again, since it was scheduled or changed."""


UNREADABLE = Record(0, "", 0)
"""Stands for a record that cannot be read: foreign hands wrote it, and the task can only be buried or deleted."""

DEFAULT_TYPE = "default"

UNREADABLE_ERROR = "unreadable record"

MEMBER_LENGTH = 60
"""So many characters of an unknown member's name are shown."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    webhook: str
    ttl: int | float
    type: str | None = None


class _StoredHead(_Head, frozen=True, forbid_unknown_fields=True):
    due: int = 0
    again: int = 0


class _LongHead(Options, frozen=True, forbid_unknown_fields=True):
    due: int
    head: int
    webhook: str
    ttl: int | float
    type: str | None = None
    progress: Progress | None = None
    occurrence: Occurrence | None = None
    again: int = 0


_encode_head = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(_StoredHead).decode
_decode_long_head = msgspec.json.Decoder(_LongHead).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_KNOWN = {*_LongHead.__struct_fields__, *CONTENTS}
_DATA_MEMBER = b',"data":'
_CONTENT_MEMBER = re.compile(rb',"(%b)":' % "|".join(CONTENTS).encode())
_HEAD_LENGTH = re.compile(rb'\{"due":[0-9]{1,15},(?:"again":[0-9]{1,9},)?"head":([0-9]{1,9}),')


def record_tail(
    webhook: str,
    ttl: float,
    type_name: str | None,
    data: bytes | None,
    options: Options = NONE,
    content: Content = "data",
    mark: Mark | None = None,
) -> bytes:
    """Return a record without its due time: `,"webhook":…}`, to be put behind `{"due":<ms>`. `data`: the JSON of the
    content."""
    head = _encode_head(_Head(webhook, ttl, type_name))[1:-1]
    member = _DATA_MEMBER
    if options is not NONE or content != "data" or mark is not None:
        if options != NONE:
            head = b"%b,%b" % (head, _encode_head(options)[1:-1])
        if mark is not None:
            name = b"progress" if isinstance(mark, Progress) else b"occurrence"
            head = b'%b,"%b":%b' % (head, name, _encode_head(mark))
        head = b'"head":%d,%b' % (len(head) + 1, head)
        member = b',"%b":' % content.encode()
    if data is None:
        return b",%b}" % head
    return b"".join((b",", head, member, data, b"}"))


def tail_of(record: Record, options: Options, mark: Mark | None) -> bytes:
    """Return the tail of a like record, with these options and this mark."""
    return record_tail(record.webhook, record.ttl, record.type, record.data, options, record.content, mark)


def decode_record(stored: bytes) -> Record:
    """Return the record from its bytes. Raises ValueError, or RecursionError, if they are none.

    Inside a JSON string a quote is always escaped, so the first `,"data":` of a record without options is the member
    and not text.
    """
    head, member, tail = stored.partition(_DATA_MEMBER)
    try:
        decoded = _decode_head(head + b"}" if member else head)
    except ValueError:
        return _decode_long(stored)
    webhook = decoded.webhook
    origin, target = parts_of(webhook)
    return Record(decoded.due, webhook, decoded.ttl, decoded.type, tail[:-1] if member else None, None, origin, target)


def _decode_long(stored: bytes) -> Record:
    """Return a record that carries the length of its head. Raises as `decode_record`."""
    head, content, data = _parted(stored)
    decoded = _decode_long_head(head)
    origin, target = parts_of(decoded.webhook)
    options = options_of(decoded)
    mark = decoded.progress or decoded.occurrence
    return Record(
        decoded.due,
        decoded.webhook,
        decoded.ttl,
        decoded.type,
        data,
        None,
        origin,
        target,
        options,
        content,
        mark,
        decoded.again,
    )


def _parted(stored: bytes) -> tuple[bytes, Content, bytes | None]:
    """Return the head, as an object of its own, and name and JSON of the content of a record that carries the length of
    its head. Raises ValueError for another."""
    length = _HEAD_LENGTH.match(stored)
    if length is None:
        raise ValueError("no length of a head")
    end = length.end(1) + int(length[1])
    head, rest = stored[:end] + b"}", stored[end:]
    if rest == b"}":
        return head, "data", None
    member = _CONTENT_MEMBER.match(rest)
    if member is None:
        raise ValueError("no content behind the head")
    return head, cast(Content, member[1].decode()), rest[member.end() : -1]


def read_record(stored: bytes) -> Record:
    """Return the record from its bytes; UNREADABLE if they make no sense, or say what no client can have asked for."""
    try:
        record = decode_record(stored)
    except (ValueError, RecursionError):
        return _newer_record(stored) or UNREADABLE
    return record if record.origin and 0 <= record.due <= LAST_MS else UNREADABLE


def _newer_record(stored: bytes) -> Record | None:
    """Return what can be read of a record with a member that this version does not know; None if it has none."""
    # Also without its data, which may be nothing that can be parsed.
    content: Content = "data"
    texts, data = (stored, stored.partition(_DATA_MEMBER)[0] + b"}"), None
    with contextlib.suppress(ValueError):
        head, content, data = _parted(stored)
        texts = (head, stored)
    for text in texts:
        try:
            members = _decode_members(text)
            due = msgspec.json.decode(members["due"], type=int)
        except (ValueError, KeyError, RecursionError):
            continue
        unknown = next((name for name in members if name not in _KNOWN), None)
        if unknown is None or not 0 <= due <= LAST_MS:
            return None
        webhook, ttl, type_name = (_value(members, name, kind) for name, kind in _KINDS)
        data = bytes(members["data"]) if "data" in members else data
        return Record(due, webhook or "", ttl or 0, type_name, data, unknown, content=content)
    return None


_KINDS: tuple[tuple[str, Any], ...] = (("webhook", str), ("ttl", int | float), ("type", str))


def _value(members: dict[str, Raw], name: str, kind: Any) -> Any:
    """Return a member; None if it is missing or of another kind."""
    try:
        return msgspec.json.decode(members[name], type=kind)
    except (ValueError, KeyError):
        return None


def newer_error(unknown: str) -> str:
    """Return the error for a record with a member that only a newer version can have written. The name is foreign
    text."""
    name = unknown[:MEMBER_LENGTH] if unknown.isprintable() else ascii(unknown[:MEMBER_LENGTH])
    return f"written by a newer version: its member {name} is not known here"
