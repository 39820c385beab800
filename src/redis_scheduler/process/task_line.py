"""A task as a line of an export: one JSON object, which any version that knows its members can read.

    {"key":…,"due":…,"next":…,"state":…,"attempts":…,"last_failure":…,"type":…,"webhook":…,"ttl":…,options…,"data":…}

`due` is the intended time; without `ttl` the task was given it as a point in time. `next` is when it fires next if that
is another time, `acknowledged` what a receiver has said and no worker has written yet, `died` when a dead letter died,
`left_ms` what was left of a delay when it was paused, `again` how often its receiver wanted it again. What would not
stay byte for byte on a line of JSON is `data_base64` instead of `data`; a task may have `body` or `body_base64`
instead. Members that have their default are left out. A series has its `progress`, and `run` if it was told to run and
has not yet; a task that it made has its `occurrence`. `token` is the id of the token with rights whose task it is.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from redis_scheduler.api.bodies import ScheduleRequest
from redis_scheduler.api.content import content_of
from redis_scheduler.api.repeats import check_times, refuse
from redis_scheduler.api.requests import RESERVED_KEYS, schedule_request, type_name
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.logs import rfc3339
from redis_scheduler.process.line_members import members_of
from redis_scheduler.process.shifted import shifted
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.acknowledgement import mark_that_says, said_by_mark
from redis_scheduler.task.attempts import read_failed
from redis_scheduler.task.due import NO_TTL, TIME_RULE, at_ms, is_time
from redis_scheduler.task.failure import FOREIGN_FAILURE, TOLD_TO_RUN
from redis_scheduler.task.given import quoted, shown
from redis_scheduler.task.json_text import is_json
from redis_scheduler.task.key import is_task_key
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import RETRIES_MOST, Options, options_of, with_options
from redis_scheduler.task.record import DEFAULT_TYPE, SEAL, UNREADABLE, newer_error, record_tail
from redis_scheduler.task.record_head import TOKEN_ID
from redis_scheduler.task.repeat import Occurrence, Progress, repetition_fault, rule_fault
from redis_scheduler.task.timing import LAST_MS

M = TypeVar("M", Progress, Occurrence)

ATTEMPTS_MOST = 10**15 - 1
"""As many as scripts read."""

FAILURE_MOST = 65_536
"""Bytes of the failed attempts of a task: more than a worker keeps."""

DEAD, PAUSED, AWAITING = "dead", "paused", "awaiting"

STATES = (DEAD, PAUSED, "scheduled", "deferred", "queued", "in delivery", "waiting", AWAITING, "held", "lost")
"""States that a line may name. Another one is of a newer version, which may mean that nothing is to be delivered."""


class _Line(Options, frozen=True):
    key: str
    due: str
    state: str
    webhook: str
    ttl: int | float | UnsetType = UNSET
    attempts: int = 0
    again: int = 0
    next: str | None = None
    died: str | None = None
    left_ms: int = 0
    acknowledged: str | None = None
    run: bool = False
    last_failure: Raw | None = None
    type: str | None = None
    token: str | None = None
    progress: Progress | UnsetType = UNSET
    occurrence: Occurrence | UnsetType = UNSET
    data_base64: bytes | None = None


_encode = msgspec.json.Encoder().encode
_ENDS_LINE = re.compile(rb"[\r\n]")
_QUEUED = re.compile("[0-9]{1,15}")


def unwritable(stored: Stored) -> str | None:
    """Say why a task cannot be a line; None if it can."""
    if stored.record is UNREADABLE:
        return "its record cannot be read: other hands wrote it"
    if stored.record.unknown == SEAL:
        return f"it is {newer_error(SEAL)}"
    if stored.record.unknown is not None:
        return f"a newer version wrote its member {quoted(stored.record.unknown)}: export it with that version"
    if stored.record.content != "data" and not _is_one_line(stored.record.data or b""):
        return f"its {stored.record.content} is no text: other hands wrote it"
    return None


def line_of(stored: Stored) -> bytes:
    """Return a task that can be written as a line, with its end."""
    record, failure = stored.record, stored.failure
    is_told_to_run = stored.is_told_to_run and record.options.repeat is not UNSET
    data = record.data
    is_plain = data is not None and _is_one_line(data)
    if failure is not None:
        is_kept = len(failure) <= FAILURE_MOST and _is_one_line(failure) and read_failed(failure)
        failure = failure if is_kept else bytes(FOREIGN_FAILURE)
    line = _Line(
        key=stored.key,
        due=rfc3339(record.due),
        state=stored.state,
        webhook=record.webhook,
        ttl=UNSET if record.ttl == NO_TTL else record.ttl,
        attempts=stored.attempts,
        again=record.again if record.options.again_most else 0,
        next=_next(stored, is_told_to_run),
        died=None if stored.died_ms is None else rfc3339(stored.died_ms),
        left_ms=stored.left_ms,
        acknowledged=said_by_mark(stored.mark),
        run=is_told_to_run,
        last_failure=None if failure is None else Raw(failure),
        type=record.type,
        token=record.token,
        progress=record.repetition if isinstance(record.repetition, Progress) else UNSET,
        occurrence=record.repetition if isinstance(record.repetition, Occurrence) else UNSET,
        data_base64=None if data is None or is_plain else data,
    )
    # Only the data of a callback can hold a line's end, between two values: a text of JSON cannot.
    head = _ENDS_LINE.sub(b" ", _encode(with_options(line, record.options)))
    if data is None or not is_plain:
        return head + b"\n"
    return b'%b,"%b":%b}\n' % (head[:-1], record.content.encode(), data)


def _next(stored: Stored, is_told_to_run: bool) -> str | None:
    """Return when a task is to come; None for what has no other time than its own."""
    due_ms, next_ms = stored.record.due, stored.expires_ms
    if is_told_to_run and (queued := _QUEUED.match(stored.entry or "")):
        # It is due since it was queued, which its entry's id begins with; its own time may be far off.
        next_ms = min(int(queued[0]), due_ms)
    return None if stored.state == AWAITING or next_ms is None or next_ms == due_ms else rfc3339(next_ms)


def _is_one_line(text: bytes) -> bool:
    """Whether the line's reader takes this JSON as it is: it refuses half a surrogate pair."""
    if _ENDS_LINE.search(text):
        return False
    try:
        msgspec.json.decode(text, type=Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def moved_of(line: bytes, shift_ms: int) -> Moved:
    """Return the task of a line, its times moved. Raises InvalidRequest, which names the member at fault, or
    ValueError for what is no JSON object."""
    members = members_of(line)
    own = {name: members.pop(name, None) for name in _OWN}
    data = _data_of(own["data_base64"], members)
    if data is not None:
        members["data"] = Raw(b"null")  # checked already, and it may be large
    if "at" in members:
        raise InvalidField("at", f"is no member of a line: give due, got {shown(members['at'])}")
    if "ttl" not in members and own["due"] is not None:
        members["at"] = own["due"]
    request = schedule_request(_encode(members))
    content, given = content_of(request)
    data = given if data is None else data
    if request.repeat is not UNSET and request.repeat.cron is not UNSET:
        shift_ms = max(0, shift_ms)  # after an earlier time a calendar would have the old one again
    key, state = _text(own, "key"), _text(own, "state")
    attempts, left_ms = _whole(own, "attempts", ATTEMPTS_MOST), _whole(own, "left_ms", LAST_MS)
    if not is_task_key(key) or key in RESERVED_KEYS:
        raise InvalidField("key", f"cannot be the key of a task, got {quoted(key)}")
    due_ms = _time_ms("due", _text(own, "due"), shift_ms)
    if state not in STATES:
        raise InvalidField("state", f"must be one of {', '.join(STATES)}, got {quoted(state)}")
    for member, only in _OF_ONE_STATE.items():
        if own[member] is not None and state != only:
            problem = f"is said only of what is {only}, not of what is {state}, got {shown(own[member])}"
            raise InvalidField(member, problem, Code.CONTRADICTION)
    is_told_to_run = _is_told_to_run(own, is_series=request.repeat is not UNSET)
    place = state if state in (DEAD, PAUSED) else "due"
    if place == DEAD:
        at_ms = _time_ms("died", _text(own, "died"), 0)
    elif place == PAUSED:
        at_ms = -left_ms if attempts or left_ms or is_told_to_run else due_ms
    else:
        # The time of an awaiting task is that of an acknowledgement which does not come over.
        at_ms = due_ms if own["next"] is None or state == AWAITING else _time_ms("next", _text(own, "next"), shift_ms)
    name = None if own["type"] is None else type_name({"type": _text(own, "type")})
    name = None if name == DEFAULT_TYPE else name
    token = _token(own)
    failure = _failure(own["last_failure"])
    ttl = NO_TTL if request.ttl is UNSET else request.ttl
    if request.repeat is not UNSET:
        refuse(rule_fault(request.repeat))
    repetition = _repetition(own, "progress", Progress) or _repetition(own, "occurrence", Occurrence)
    _check_repetition(request, repetition)
    options = shifted(options_of(request), shift_ms, lambda name, text: _time_ms(name, text, shift_ms))
    tail = record_tail(request.webhook, ttl, name, data, options, content, repetition, token)
    if again := _whole(own, "again", RETRIES_MOST):
        if not options.again_most:
            raise InvalidField("again", f"is said of a task without again_most, got {again}", Code.CONTRADICTION)
        tail = b',"again":%d%b' % (again, tail)
    mark = TOLD_TO_RUN if is_told_to_run else _mark(own, due_ms) if options.ack and place != DEAD else b""
    if own["acknowledged"] is not None and not mark:
        problem = f"is said of a task with ack, and of none that is dead, got {shown(own['acknowledged'])}"
        raise InvalidField("acknowledged", problem, Code.CONTRADICTION)
    kept = b"%d%b %b" % (attempts, mark, failure) if attempts or failure or mark else b""
    return Moved(key, due_ms, tail, place, at_ms, kept, listing_of(name, options, token), options, content, token)


def _check_repetition(request: ScheduleRequest, repetition: Progress | Occurrence | None) -> None:
    """Refuse the progress of what is no series, and an occurrence that is one."""
    if repetition is not None and isinstance(repetition, Progress) is (request.repeat is UNSET):
        got = "none" if request.repeat is UNSET else shown(request.repeat)
        problem = f"must be given beside progress, and not beside occurrence, got {got}"
        raise InvalidField("repeat", problem, Code.CONTRADICTION)
    if request.repeat is not UNSET and isinstance(repetition, Progress):
        check_times(request.repeat, repetition)


_OWN = (
    *("key", "due", "state", "attempts", "again", "next", "died", "left_ms", "acknowledged", "run"),
    *("last_failure", "type", "token", "data_base64", "progress", "occurrence"),
)

_OF_ONE_STATE = {"died": DEAD, "left_ms": PAUSED}
"""Members that have an effect in one state alone."""


def _failure(given: Raw | None) -> bytes:
    """Return the failed attempts as they are kept. Raises InvalidField."""
    failure = bytes(given or b"")
    if failure and not (len(failure) <= FAILURE_MOST and read_failed(failure)):
        problem = f"is not as an export writes it, in {FAILURE_MOST} bytes at most, got {shown(Raw(failure))}"
        raise InvalidField("last_failure", problem)
    return failure


def _data_of(encoded: Raw | None, members: Mapping[str, Raw]) -> bytes | None:
    if encoded is None:
        return None
    if "data" in members:
        raise InvalidField("data_base64", f"contradicts data: give one of them, got {shown(encoded)}")
    try:
        data = base64.b64decode(msgspec.json.decode(encoded, type=str), validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise InvalidField("data_base64", f"must be a text in base64, got {shown(encoded)}") from None
    if not is_json(data):
        raise InvalidField("data_base64", f"must be JSON in base64, got {shown(encoded)}")
    return data


def _text(members: Mapping[str, Raw | None], name: str) -> str:
    value = members[name]
    if value is None:
        raise InvalidField(name, "is missing")
    try:
        text: str = msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError:
        raise InvalidField(name, f"must be a text, got {shown(value)}") from None
    return text


def _repetition(members: Mapping[str, Raw | None], name: str, kind: type[M]) -> M | None:
    value = members[name]
    try:
        given = None if value is None else msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidField(name, f"is not as an export writes it: {error}, got {shown(value)}") from None
    if given is not None and (fault := repetition_fault(given)):
        raise InvalidField(f"{name}.{fault.member}", f"{fault.rule}, got {shown(fault.given)}")
    return given


def _token(members: Mapping[str, Raw | None]) -> str | None:
    if members["token"] is None:
        return None
    token = _text(members, "token")
    if re.fullmatch(TOKEN_ID, token) is None:
        raise InvalidField("token", f"must be the id of a token, 10 hexadecimal digits, got {quoted(token)}")
    return token


def _mark(members: Mapping[str, Raw | None], queued_ms: int) -> bytes:
    if members["acknowledged"] is None:
        return b""
    said = _text(members, "acknowledged")
    if (mark := mark_that_says(said, queued_ms)) is None:
        raise InvalidField("acknowledged", f"must be done or failed, got {quoted(said)}")
    return mark.encode()


def _is_told_to_run(members: Mapping[str, Raw | None], is_series: bool) -> bool:
    value = members["run"]
    if value is None:
        return False
    if bytes(value) != b"true":
        raise InvalidField("run", f"must be true where it is given, got {shown(value)}")
    if not is_series or members["acknowledged"] is not None:
        problem = "is said of a series alone, which nobody acknowledges, got true"
        raise InvalidField("run", problem, Code.CONTRADICTION)
    return True


def _whole(members: Mapping[str, Raw | None], name: str, most: int) -> int:
    value = members[name]
    try:
        number = 0 if value is None else msgspec.json.decode(value, type=int)
    except msgspec.MsgspecError:
        number = -1
    if not 0 <= number <= most:
        raise InvalidField(name, f"must be a whole number from 0 to {most}, got {shown(value)}")
    return number


def _time_ms(name: str, text: str, shift_ms: int) -> int:
    """Return the time of a member, moved. Raises InvalidField."""
    if not is_time(text):
        raise InvalidField(name, f"{TIME_RULE}, got {quoted(text)}")
    time_ms = at_ms(text) + shift_ms
    if not 0 <= time_ms <= LAST_MS:
        raise InvalidField(name, f"must be from 1970 to 9999 once it is moved, got {quoted(text)}")
    return time_ms
