"""What is stored of a task: its record in Redis.

A record is one JSON object: {"due":ms,"webhook":…,"ttl":…,"type":…,"data":…}. The script that writes it knows the due
time (Redis' clock is the only clock), so it puts `{"due":<ms>` in front of what `record_tail` made. `data` stands last
and is cut off by its name, never parsed: it stays byte for byte what the client sent, however deep or large.

With options (options.py): {"due":ms,"head":bytes,"webhook":…,"ttl":…,"type":…,options…,"data":…}. `head` says how many
bytes follow it up to `,"data":`, which the value of an option may hold, too. A version that adds a member puts it into
this head: so older versions notice, and leave the task to a newer worker. So are `progress`, of a series, and
`occurrence`, of a task that a series made (repeat.py); and behind `type` the id of the `token` whose task it is, which
API_AUTH's tasks have not. In the place of `data` may stand `body` or `body_base64`, a text of JSON: such a record has a
head, too.
"""

import contextlib
from collections.abc import Collection
from typing import Any, cast

import msgspec
from msgspec import Raw

from redis_scheduler.task.content import Content
from redis_scheduler.task.options import CALLBACKS, CALLBACKS_DEEP, NONE, Options, options_of, with_trace
from redis_scheduler.task.record_head import (
    CONTENT_MEMBER,
    DATA_MEMBER,
    FRONT,
    KNOWN,
    KNOWN_IN_CALLBACK,
    Head,
    Repetition,
    TokenId,
    decode_long,
    decode_members,
    decode_short,
    encode_head,
    options_from,
    parted,
    without_repetition,
)
from redis_scheduler.task.repeat import Progress, Repeat
from redis_scheduler.task.timing import LAST_MS
from redis_scheduler.task.webhook import parts_of


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
    repetition: Repetition | None = None
    again: int = 0
    """How often its receiver wanted it again, since it was scheduled or changed."""
    token: str | None = None
    """The id of the token with rights whose task it is; None: API_AUTH's."""


UNREADABLE = Record(0, "", 0)
"""Stands for a record that cannot be read: foreign hands wrote it, and the task can only be buried or deleted."""

DEFAULT_TYPE = "default"

UNREADABLE_ERROR = "unreadable record"

SEAL = "seal"
"""The member by which a sealed record is known (store/vault.py). For a process without the key it is an unknown one."""

MEMBER_LENGTH = 60
"""So many characters of an unknown member's name are shown."""


def record_tail(
    webhook: str,
    ttl: float,
    type_name: str | None,
    data: bytes | None,
    options: Options = NONE,
    content: Content = "data",
    repetition: Repetition | None = None,
    token: str | None = None,
) -> bytes:
    """Return a record without its due time: `,"webhook":…}`, to be put behind `{"due":<ms>`. `data`: the JSON of the
    content; `token`: the id of the token whose task it is."""
    head = encode_head(Head(webhook, ttl, type_name))[1:-1]
    member = DATA_MEMBER
    if options is not NONE or content != "data" or repetition is not None or token is not None:
        if token is not None:
            head = b'%b,"token":"%b"' % (head, token.encode())
        if options != NONE:
            head = b"%b,%b" % (head, encode_head(options)[1:-1])
        if repetition is not None:
            name = b"progress" if isinstance(repetition, Progress) else b"occurrence"
            head = b'%b,"%b":%b' % (head, name, encode_head(repetition))
        head = b'"head":%d,%b' % (len(head) + 1, head)
        member = b',"%b":' % content.encode()
    if data is None:
        return b",%b}" % head
    return b"".join((b",", head, member, data, b"}"))


def tail_of(record: Record, options: Options, repetition: Repetition | None) -> bytes:
    """Return the tail of a like record, with these options and this repetition."""
    return record_tail(
        record.webhook, record.ttl, record.type, record.data, options, record.content, repetition, record.token
    )


def decode_record(stored: bytes) -> Record:
    """Return the record from its bytes. Raises ValueError, or RecursionError, if they are none.

    Inside a JSON string a quote is always escaped, so the first `,"data":` of a record without options is the member
    and not text.
    """
    # For many years the due time has 13 digits.
    if stored[21:28] == b'"head":':
        return _decode_long(stored)
    head, member, tail = stored.partition(DATA_MEMBER)
    try:
        decoded = decode_short(head + b"}" if member else head)
    except ValueError:
        return _decode_long(stored)
    webhook = decoded.webhook
    origin, target = parts_of(webhook)
    return Record(decoded.due, webhook, decoded.ttl, decoded.type, tail[:-1] if member else None, None, origin, target)


def _decode_long(stored: bytes) -> Record:
    """Return a record that carries the length of its head. Raises as `decode_record`."""
    try:
        return _decode_usual(stored) or _decode_any(stored)
    except ValueError:
        return _decode_any(stored)


def _decode_any(stored: bytes) -> Record:
    """Return a record that carries the length of its head, whoever wrote it. Raises as `decode_record`."""
    head, content, data = parted(stored)
    decoded = decode_long(head)
    origin, target = parts_of(decoded.webhook)
    options = options_of(decoded)
    repetition = decoded.progress or decoded.occurrence
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
        repetition,
        decoded.again,
        decoded.token,
    )


def _decode_usual(stored: bytes) -> Record | None:
    """Return a record as `record_tail` makes them, by its parts; None if it may be another one. Raises ValueError for
    one that is not of such parts.

    What differs between tasks (due time, webhook, trace, repetition) is read by itself. So the options are left, as a
    text that many tasks have in common.
    """
    front = FRONT.match(stored)
    if front is None:
        return None
    due, again, length, webhook, ttl, type_name, token, trace = front.groups()
    end = front.end(3) + int(length)
    text, repetition = stored[front.end() : end], None
    member = CONTENT_MEMBER.match(stored, end)
    if member is None and (len(stored) != end + 1 or not stored.endswith(b"}")):
        return None
    if text.endswith(b"}"):
        text, repetition = without_repetition(text)
    options = options_from(text)
    if trace is not None:
        options = with_trace(options, trace.decode())
    url = webhook.decode()
    return Record(
        int(due),
        url,
        float(ttl) if b"." in ttl else int(ttl),
        type_name.decode() if type_name is not None else None,
        stored[member.end() : -1] if member else None,
        None,
        *parts_of(url),
        options,
        cast(Content, member[1].decode()) if member else "data",
        repetition,
        int(again or 0),
        token.decode() if token is not None else None,
    )


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
    texts, data = (stored, stored.partition(DATA_MEMBER)[0] + b"}"), None
    with contextlib.suppress(ValueError):
        head, content, data = parted(stored)
        texts = (head, stored)
    for text in texts:
        try:
            members = decode_members(text)
            due = msgspec.json.decode(members["due"], type=int)
        except (ValueError, KeyError, RecursionError):
            continue
        unknown = _unknown(members, KNOWN)
        if unknown is None or not 0 <= due <= LAST_MS:
            return None
        webhook, ttl, type_name, labels, repeat, token = (_value(members, name, kind) for name, kind in _KINDS)
        data = bytes(members["data"]) if "data" in members else data
        options = Options(labels=labels) if labels else NONE
        if repeat is not None:  # how it repeats is not said here, or may be in words of a newer version
            options = msgspec.structs.replace(options, repeat=Repeat())
        return Record(
            due, webhook or "", ttl or 0, type_name, data, unknown, options=options, content=content, token=token
        )
    return None


def _unknown(members: dict[str, Raw], known: Collection[str], depth: int = 0) -> str | None:
    """Return the first member that is not known, also of a callback; None if all are."""
    for name, value in members.items():
        if name not in known:
            return name
        if name in CALLBACKS and depth < CALLBACKS_DEEP:
            with contextlib.suppress(ValueError, RecursionError):
                if unknown := _unknown(decode_members(value), KNOWN_IN_CALLBACK, depth + 1):
                    return f"{name}.{unknown}"
    return None


_KINDS: tuple[tuple[str, Any], ...] = (
    ("webhook", str),
    ("ttl", int | float),
    ("type", str),
    ("labels", dict[str, str]),
    ("repeat", dict[str, Raw]),
    ("token", TokenId),
)


def _value(members: dict[str, Raw], name: str, kind: Any) -> Any:
    """Return a member; None if it is missing or of another kind."""
    try:
        return msgspec.json.decode(members[name], type=kind)
    except (ValueError, KeyError):
        return None


def newer_error(unknown: str) -> str:
    """Return the error for a record with a member that only a newer version can have written, or a process with another
    DATA_KEY. The name is foreign text."""
    if unknown == SEAL:
        return "sealed with a DATA_KEY that is not given here"
    name = unknown[:MEMBER_LENGTH] if unknown.isprintable() else ascii(unknown[:MEMBER_LENGTH])
    return f"written by a newer version: its member {name} is not known here"
