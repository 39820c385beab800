"""What answers show of a task. shown.py makes it."""

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from redis_scheduler.logs import rfc3339
from redis_scheduler.task.limit import Breaker
from redis_scheduler.task.options import Options
from redis_scheduler.task.repeat import Occurrence


class LastOccurrence(msgspec.Struct):
    """The last occurrence of a series: its state or, once it has ended, how that was (`finished` if that is not known);
    and its last failure."""

    key: str
    state: str
    last_failure: Raw | UnsetType = UNSET


class SeriesView(msgspec.Struct):
    """What a series has done. next: its next times (RFC 3339), and last, only where one task is shown."""

    made: int
    skipped: int
    next: list[str] | UnsetType = UNSET
    last: LastOccurrence | UnsetType = UNSET


class AttemptView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failed attempt. due, began: RFC 3339; lookup_ms, connect_ms, first_byte_ms: the parts of elapsed_ms, each from
    1 ms on; answer, answer_base64: the beginning of the answer's body, as text or, where it is none, as base64;
    detail: the addresses that an error is about, for who has the right admin."""

    error: str
    elapsed_ms: int
    status: int | UnsetType = UNSET
    due: str | UnsetType = UNSET
    began: str | UnsetType = UNSET
    worker: str = ""
    lookup_ms: int = 0
    connect_ms: int = 0
    first_byte_ms: int = 0
    answer: str = ""
    answer_base64: str = ""
    detail: str = ""


class BreakerView(msgspec.Struct, frozen=True):
    """The breaker of a host: `open`, and how often it was probed, or `closing`, in which step; since when it is not
    closed, and when the next probe or step may be (RFC 3339)."""

    state: str
    since: str
    next: str
    step: int | UnsetType = UNSET
    probes: int | UnsetType = UNSET


def breaker_view(breaker: Breaker) -> BreakerView:
    """Return what is shown of a breaker."""
    is_open = breaker.state == "open"
    return BreakerView(
        breaker.state,
        rfc3339(breaker.since_ms),
        rfc3339(breaker.next_ms),
        UNSET if is_open else breaker.step,
        breaker.probes if is_open else UNSET,
    )


class Info(Options, frozen=True):
    """What GET shows of a task, and its options but those that have their default.

    ttl: null for a task that was given `at`, which is shown then (of a time that was past: when the task came).
    series: of a task that repeats; occurrence: of one that a series made.
    retry: attempts made so far; expires: when it next fires (RFC 3339).
    has_data: false if `data` was not given; `data` is shown as null then, too.
    again: how often its receiver wanted it again.
    waits_for: why it is not delivered yet; breaker: of one that is held, how that of its host stands, unless it is
    closed. Both only in GET /schedule/{key}.
    token: the id of the token with rights whose task it is; only for API_AUTH, and tokens with the right admin.
    error: only if the record cannot be read (webhook, ttl, due and type are unknown then), if a newer version wrote it,
    or if its data is not JSON (it is shown as null then).
    ended, last_status, late_ms: only of a task that has ended: when, the status of the last answer, and how long after
    `due` the last attempt began. Then webhook, ttl and data are kept no more, and retry counts all attempts.
    started: the key of the task that its end started; of a dead one only in GET /schedule/{key}.
    """

    key: str
    ttl: int | float | None
    retry: int
    webhook: str | UnsetType
    expires: str | None
    state: str
    due: str | None
    type: str
    token: str | UnsetType = UNSET
    at: str | UnsetType = UNSET
    series: SeriesView | UnsetType = UNSET
    occurrence: Occurrence | UnsetType = UNSET
    has_data: bool | UnsetType = UNSET
    again: int | UnsetType = UNSET
    last_failure: Raw | UnsetType = UNSET
    attempts: list[AttemptView] | UnsetType = UNSET
    waits_for: str | UnsetType = UNSET
    breaker: BreakerView | UnsetType = UNSET
    error: str | UnsetType = UNSET
    ended: str | UnsetType = UNSET
    last_status: int | UnsetType = UNSET
    late_ms: int | UnsetType = UNSET
    started: str | UnsetType = UNSET


class PlainInfo(msgspec.Struct, frozen=True):
    """The Info of a task without options, in that order: most are such, and this takes half the time."""

    key: str
    ttl: int | float | None
    retry: int
    webhook: str
    expires: str | None
    state: str
    due: str
    type: str
    has_data: bool
    waits_for: str | UnsetType = UNSET


if TYPE_CHECKING:
    _AnyInfo = Info | PlainInfo
else:
    _AnyInfo = Info  # what reads an answer need not know that there are two: it takes no union of them


class TaskView(msgspec.Struct, frozen=True):
    """One task as GET /schedule/{key} and GET /schedules show it. `data` is null if `body` or `body_base64` was
    given."""

    info: _AnyInfo
    data: Raw
    body: Raw | UnsetType = UNSET
    body_base64: Raw | UnsetType = UNSET


NULL = Raw(b"null")


def raw_or_null(data: bytes | None) -> Raw:
    """Return bytes of JSON as they are, for an answer; null if there are none."""
    return NULL if data is None else Raw(data)
