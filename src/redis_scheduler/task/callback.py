"""What the end of a task starts: the task of its `on_success` or `on_failure`, and what that is told. Pure."""

import base64
import codecs
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from redis_scheduler.logs import rfc3339
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.due import NO_TTL, at_ms, delay_until, is_time
from redis_scheduler.task.listing import Listing, listing_of
from redis_scheduler.task.options import Callback, Options, options_of, with_trace
from redis_scheduler.task.record import DEFAULT_TYPE, record_tail
from redis_scheduler.task.record_head import OPTIONS_KEPT, OPTIONS_LENGTH

TOLD_BYTES = 16_384
"""So many bytes of the last answer are told."""

DELIVERED, DIED, EXPIRED = "task.delivered", "task.died", "task.expired"
"""The events: how a task can end."""


@dataclass(slots=True)
class End:
    """How a task ended: the event, after how many attempts, why (None: well), and when, by Redis' clock.

    `status`: of the last answer, `answer`: the beginning of its body; None if there was none.
    """

    event: str
    attempts: int
    error: str | None
    at_ms: float
    status: int | None = None
    answer: bytes | None = None


@dataclass(slots=True)
class FollowUp:
    """A task to schedule: its delay (below zero: due.py), record less the due time, and the names that it is listed
    under."""

    delay_ms: int
    tail: bytes
    listed: Listing


class _Told(msgspec.Struct):
    """What a callback is told. answer_base64: instead of an answer that is no text. data: what the callback gave; task:
    the content of the task that ended."""

    event: str
    key: str
    type: str
    webhook: str
    attempts: int
    status: int | None
    error: str | None
    due: str
    ended: str
    answer: str | None
    data: Raw
    answer_base64: str | UnsetType = UNSET
    task: Raw | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_NULL = Raw(b"null")


def told_bytes(options: Options) -> int:
    """Return how much of the last answer may be told: nothing without callbacks."""
    return 0 if options.on_success is UNSET and options.on_failure is UNSET else TOLD_BYTES


def follow_up(claim: Claim, end: End) -> FollowUp | None:
    """Return what the end of a claim's task starts; None for nothing."""
    options = claim.record.options
    callback = options.on_success if end.event == DELIVERED else options.on_failure
    if callback is UNSET:
        return None
    if options.traceparent is not UNSET and callback.traceparent is UNSET:
        start = _start_of(callback, claim.record.token, options.traceparent)
    else:
        start = _kept_start(callback, claim.record.token)
    tail = start.tail
    if start.tells_end:
        tail = b"%b%b}" % (tail, _encode(_told(claim, callback, end)))
    return FollowUp(start.delay_ms, tail, start.listed)


@dataclass(slots=True)
class _Start:
    """What follows from a callback alone. tail: with `tells_end`, up to what the task is told of the end."""

    delay_ms: int
    tail: bytes
    listed: Listing
    tells_end: bool


_kept: dict[tuple[int, str | None], tuple[Callback, _Start]] = {}
"""By the callback's id, and the token of its task: as long as it is kept no other has that. Reading a record keeps
options (record_head.py), so tasks with the same callback have it in common."""


def _kept_start(callback: Callback, token: str | None) -> _Start:
    kept = _kept.get((id(callback), token))
    if kept is not None:
        return kept[1]
    start = _start_of(callback, token)
    size = len(start.tail) + (0 if callback.data is UNSET else len(bytes(callback.data)))
    if size <= OPTIONS_LENGTH:
        if len(_kept) >= OPTIONS_KEPT:
            _kept.clear()
        _kept[id(callback), token] = callback, start
    return start


def _start_of(callback: Callback, token: str | None, traceparent: str | None = None) -> _Start:
    """Return what starts; it is of the same token as the task that ends."""
    own = options_of(callback)
    if traceparent is not None:
        own = with_trace(own, traceparent)
    ttl, delay_ms = _when(callback)
    type_name = None if callback.type in (UNSET, DEFAULT_TYPE) else str(callback.type)
    tells_end = callback.event and callback.method != "GET"
    data = None if callback.data is UNSET else bytes(callback.data)
    tail = record_tail(callback.webhook, ttl, type_name, b"" if tells_end else data, own, token=token)
    if tells_end:
        tail = tail.removesuffix(b"}")
    return _Start(delay_ms, tail, listing_of(type_name, own, token), tells_end)


def _when(callback: Callback) -> tuple[float, int]:
    """Return the `ttl` that is kept in the record, and the delay as scripts are given it."""
    if callback.at is not UNSET:
        # Foreign hands may have written what is no time.
        return NO_TTL, delay_until(at_ms(callback.at) if is_time(callback.at) else 0)
    return callback.ttl or 0, round((callback.ttl or 0) * 1000)


def _told(claim: Claim, callback: Callback, end: End) -> _Told:
    record = claim.record
    told = _Told(
        end.event,
        claim.key,
        record.type or DEFAULT_TYPE,
        record.webhook,
        end.attempts,
        end.status,
        end.error,
        rfc3339(record.due),
        rfc3339(round(end.at_ms)),
        None,
        _NULL if callback.data is UNSET else callback.data,
    )
    if end.answer is not None:
        answer = end.answer[:TOLD_BYTES]
        try:
            # An answer that was cut may end within a character: this decoder leaves that part out.
            told.answer = codecs.utf_8_decode(answer)[0]
        except UnicodeDecodeError:
            told.answer_base64 = base64.b64encode(answer).decode()
    if callback.include_data:
        told.task = _NULL if record.data is None else Raw(record.data)
    return told
