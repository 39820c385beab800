"""What a task can say beside its webhook, ttl, type and data.

A new option is a field of Options, and then what uses it: bodies, records and views have the field from here. The field
says its kind and bounds, its rule as errors say it, its default, and in a docstring what it means and in which unit:

    retries: Annotated[int, Meta(ge=0, extra={"rule": "must be a whole number from 0"})] = 5

An option that has its default is neither stored nor shown, so it costs nothing where it is not used. A worker that does
not know an option gives its task back. So each has the record format that it came with, where that is not the first
with options: `extra={"rule": …, "format": 3}`. A release that adds options raises RECORD_FORMAT.
"""

from collections.abc import Callable
from copy import copy
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from redis_scheduler.task import statuses
from redis_scheduler.task.header import headers_problem
from redis_scheduler.task.label import LABELS_RULE, labels_problem
from redis_scheduler.task.repeat import REPEAT_RULE, Repeat
from redis_scheduler.task.timing import TEN_YEARS_S, TIMEOUT_LONGEST_S

RETRIES_MOST = 1_000_000

ACK_LONGEST_S = 7 * 86_400
"""A task may wait for its acknowledgement, or the next extension, for so long."""

LIMIT_KEY = r"\A[A-Za-z0-9][A-Za-z0-9._~:-]{0,127}\Z"

RETRY_TIMES_MOST = 100
"""Retries whose times a task may name one by one."""

_Seconds = Annotated[int, Meta(ge=0, le=TEN_YEARS_S)] | Annotated[float, Meta(ge=0, le=TEN_YEARS_S)]
_SecondsAbove0 = Annotated[int, Meta(gt=0, le=TEN_YEARS_S)] | Annotated[float, Meta(gt=0, le=TEN_YEARS_S)]
_Share = Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0, le=1)]
_Times = Annotated[tuple[_Seconds, ...], Meta(min_length=1, max_length=RETRY_TIMES_MOST)]
_Statuses = Annotated[str, Meta(pattern=statuses.PATTERN, max_length=statuses.LENGTH_MOST)]
_Timeout = Annotated[int, Meta(gt=0, le=TIMEOUT_LONGEST_S)] | Annotated[float, Meta(gt=0, le=TIMEOUT_LONGEST_S)]
TRACEPARENT = r"\A(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z"
_AckWithin = Annotated[int, Meta(gt=0, le=ACK_LONGEST_S)] | Annotated[float, Meta(gt=0, le=ACK_LONGEST_S)]
Method = Literal["POST", "GET", "PUT", "PATCH", "DELETE"]
Backoff = Literal["fixed", "linear", "exponential"]


SHORTEST_S = 0.001
"""Times are kept in ms: what is shorter, and not 0, would be none."""


def _rule(text: str, problem_of: Callable[[Any], str] | None = None) -> Meta:
    """Say what an option must be; `problem_of` finds what its kind and bounds cannot say."""
    return Meta(extra={"rule": text, "problem_of": problem_of})


def _seconds(text: str) -> Meta:
    """Say the same of seconds, one number or several: they are 0 where that is allowed, or 1 ms at least."""

    def problem_of(value: float | tuple[float, ...]) -> str:
        for one in value if isinstance(value, tuple) else (value,):
            if 0 < one < SHORTEST_S:
                return f"{text}, got {one}"
        return ""

    return _rule(text, problem_of)


_SECONDS = f"must be 0, or a number of seconds from {SHORTEST_S} to {TEN_YEARS_S} (ten years)"
_ABOVE_0 = f"must be a number of seconds from {SHORTEST_S} to {TEN_YEARS_S} (ten years)"
_TIMES = f"must be an array of 1 to {RETRY_TIMES_MOST} numbers of seconds, each 0 or from {SHORTEST_S} to {TEN_YEARS_S} (ten years)"
_AGAIN = f"must be a whole number from 0 to {RETRIES_MOST}"
_RETRIES = f"must be a whole number from 0 to {RETRIES_MOST}, or -1 to retry for ever"
_TIMEOUT = f"must be a number of seconds from {SHORTEST_S} to MAX_TIMEOUT, which is at most {TIMEOUT_LONGEST_S} (a day)"
_TRACEPARENT = "must be a traceparent of W3C Trace Context"
_ACK_WITHIN = f"must be a number of seconds from {SHORTEST_S} to {ACK_LONGEST_S} (seven days)"
_LIMIT_KEY = "must be 1 to 128 letters, digits and . _ ~ : -, of which the first is a letter or a digit"
_HEADERS = "must be an object of texts by header names"
_CALLBACK = 'must be an object: the body of a task, such as {"webhook": URL}'


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The options of a task. Bodies, heads of records and views are Options with further fields.

    UNSET: nothing is said, and a setting of the service counts where there is one. policy.py says which retry options
    cannot stand beside each other. Garbage collection passes options over: what comes from JSON holds no circles.
    """

    traceparent: Annotated[str, Meta(pattern=TRACEPARENT), _rule(_TRACEPARENT)] | UnsetType = UNSET
    """The trace that each attempt is part of. Default: that of the request that schedules the task. It
    stands first, so that a record's other options can be read apart from it."""

    method: Annotated[Method, _rule("must be POST, GET, PUT, PATCH or DELETE")] = "POST"
    """Of the request that delivers. GET sends no body."""

    headers: Annotated[dict[str, str], _rule(_HEADERS, headers_problem)] | UnsetType = UNSET
    """Sent beside the service's own; Content-Type, Authorization and User-Agent instead of these."""

    labels: Annotated[dict[str, str], _rule(LABELS_RULE, labels_problem)] | UnsetType = UNSET
    """What the task is about, such as an order or a user: lists and commands find it by `?label=name=value`."""

    timeout: Annotated[_Timeout, _seconds(_TIMEOUT)] | UnsetType = UNSET
    """Seconds for one attempt, connection to last byte; at most MAX_TIMEOUT. Default: TIMEOUT."""

    retries: Annotated[int, Meta(ge=-1, le=RETRIES_MOST), _rule(_RETRIES)] | UnsetType = UNSET
    """Attempts after the first; -1: for ever. Default: RETRIES."""

    retry_time: Annotated[_Seconds, _seconds(_SECONDS)] | UnsetType = UNSET
    """Seconds from the end of a failed attempt to the next; with a back-off, after the first. Default: RETRY_TIME."""

    retry_backoff: Annotated[Backoff, _rule("must be fixed, linear or exponential")] | UnsetType = UNSET
    """How the delay grows: not, by `retry_time` each time, or twofold each time. Default: RETRY_BACKOFF."""

    retry_max: Annotated[_SecondsAbove0, _seconds(_ABOVE_0)] | UnsetType = UNSET
    """Seconds of the longest delay of a back-off that grows. Default: RETRY_MAX."""

    retry_jitter: Annotated[_Share, _rule("must be a number from 0 to 1")] | UnsetType = UNSET
    """Chance leaves out up to this share of each delay: so tasks that failed at once do not come at once again.
    Default: RETRY_JITTER, and without it 0 for fixed delays, else 0.1."""

    retry_for: Annotated[_SecondsAbove0, _seconds(_ABOVE_0)] | UnsetType = UNSET
    """No retry is made later than so many seconds after the due time. Default: RETRY_FOR."""

    retry_times: Annotated[_Times, _seconds(_TIMES)] | UnsetType = UNSET
    """The delay of each retry in seconds, instead of `retries`, `retry_time`, `retry_backoff` and `retry_max`."""

    final_statuses: Annotated[_Statuses, _rule(statuses.RULE)] | UnsetType = UNSET
    """Answers with one of these statuses end the task: no retry follows. Default: FINAL_STATUSES."""

    expire: Annotated[_SecondsAbove0, _seconds(_ABOVE_0)] | UnsetType = UNSET
    """No attempt is made later than so many seconds after the due time: the task is forgotten. Default: never."""

    repeat: Annotated[Repeat, _rule(REPEAT_RULE)] | UnsetType = UNSET
    """Makes a series of the task: when it comes due it makes an occurrence, a task of its own, and waits for its next
    time."""

    ack: Annotated[bool, _rule("must be true or false")] = False
    """Whether a receiver that answers 202 has taken the task on, and says later what became of it: until then the task
    is not delivered."""

    ack_within: Annotated[_AckWithin, _seconds(_ACK_WITHIN)] | UnsetType = UNSET
    """Seconds after a 202, or an extension, after which the attempt has failed. Default: 300."""

    again_most: Annotated[int, Meta(ge=0, le=RETRIES_MOST), _rule(_AGAIN)] = 0
    """So often a success with Schedule-Again-In brings the task again."""

    limit_key: Annotated[Annotated[str, Meta(pattern=LIMIT_KEY)], _rule(_LIMIT_KEY)] | UnsetType = UNSET
    """The limit that the task is under, instead of its host's: such as a tenant, or an account."""

    on_success: Annotated["Callback", _rule(_CALLBACK)] | UnsetType = UNSET
    """A task that starts when this one was delivered: in the same moment, and once."""

    on_failure: Annotated["Callback", _rule(_CALLBACK)] | UnsetType = UNSET
    """A task that starts when this one died or expired."""


NONE = Options()
"""Of a task that asks for nothing special."""

NAMES = Options.__struct_fields__


class Callback(Options, frozen=True, forbid_unknown_fields=True):
    """A task that the end of another starts, which is told how that ended (callback.py).

    ttl, at: at most one of them; without, it is due at once. type: absent means the default type. data: told beside the
    rest. include_data: whether the data of the task that ended is told, too. event: false sends `data` alone, without
    how the task ended.
    """

    webhook: str
    ttl: int | float | UnsetType = UNSET
    at: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    include_data: bool = False
    event: bool = True


CALLBACKS = ("on_success", "on_failure")

CALLBACKS_DEEP = 8
"""So deep callbacks may stand in callbacks."""


def _said_of(kind: Any) -> dict[str, Any]:
    """Return what a field's type says besides kind and bounds; the annotated one may be part of a union."""
    annotated = kind if hasattr(kind, "__metadata__") else get_args(kind)[0]
    return annotated.__metadata__[-1].extra or {}


_SAID = {field.name: _said_of(field.type) for field in msgspec.structs.fields(Options)}

RULES: dict[str, str] = {name: said["rule"] for name, said in _SAID.items()}
"""What each option must be, as errors say it."""

PROBLEMS: dict[str, Callable[[Any], str]] = {
    name: problem_of for name, said in _SAID.items() if (problem_of := said.get("problem_of"))
}
"""What finds a fault in the value of an option that its kind and bounds do not find."""

RECORD_FORMAT = 2
"""What this version's workers read, and their names as consumers say: 1 is a record without options."""

FORMATS: dict[str, int] = {name: said.get("format", 2) for name, said in _SAID.items()}
"""The record format that each option came with."""

Carrier = TypeVar("Carrier", bound=Options)

_DEFAULTS = msgspec.structs.astuple(NONE)
_NOTHING_GIVEN = (UNSET,) * len(NAMES)


def options_of(carrier: Options) -> Options:
    """Return the options of what has further fields, without these; NONE itself if all have their defaults."""
    # Fields that are only given by name stand last.
    values = msgspec.structs.astuple(carrier)[-len(NAMES) :]
    return NONE if values == _DEFAULTS else Options(**dict(zip(NAMES, values, strict=True)))


def with_trace(options: Options, traceparent: str) -> Options:
    """Return options that have no trace with this one."""
    if options.traceparent is not UNSET:
        raise ValueError("two traces")
    traced = copy(options)
    msgspec.structs.force_setattr(traced, "traceparent", traceparent)  # `replace` would take 2 us
    return traced


def format_of(options: Options) -> int:
    """Return the record format that a worker must know to read these options."""
    if options is NONE:
        return 1
    given = [name for name in NAMES if getattr(options, name) != getattr(NONE, name)]
    nested = [format_of(getattr(options, name)) for name in CALLBACKS if name in given]
    return max([1, *(FORMATS[name] for name in given), *nested])


def with_options(carrier: Carrier, options: Options) -> Carrier:
    """Return the same with these options."""
    return msgspec.structs.replace(carrier, **{name: getattr(options, name) for name in NAMES})


def changed(options: Options, changes: Any) -> Options:
    """Return options as a change leaves them: UNSET keeps one, None gives one its default again."""
    if msgspec.structs.astuple(changes)[-len(NAMES) :] == _NOTHING_GIVEN:
        return options
    given = {name: value for name in NAMES if (value := getattr(changes, name)) is not UNSET}
    return options_of(
        msgspec.structs.replace(
            options, **{name: getattr(NONE, name) if value is None else value for name, value in given.items()}
        )
    )
