"""When a task repeats: its rule, what is wrong with one, and what a series and its occurrences carry."""

from copy import copy
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import UNSET, Meta, UnsetType

from redis_scheduler.task.due import TIME_LENGTH, TIME_RULE, is_time
from redis_scheduler.task.key import is_task_key
from redis_scheduler.task.timing import TEN_YEARS_S

REPEAT_RULE = 'must be an object: {"every": seconds}, or {"cron": expression, "tz": zone}'
"""What `repeat` must be, as errors say it."""

TIMES_MOST = 1_000_000_000
"""The most occurrences that `times` can ask for."""

COUNT_MOST = 2**53
"""More occurrences than a series makes in its life; every reader of JSON keeps such a number exact."""

CRON_LENGTH = 256
"""Characters of the longest cron expression."""

ZONE_LENGTH = 100
"""More characters than the name of a time zone has."""

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_BAD_DAY = "bad day-of-month"
_HOURS = 24


class Repeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a task repeats: `every` or `cron`, and how long. A member that is absent is UNSET or has its default."""

    every: Annotated[
        int | float | UnsetType,
        Meta(extra={"rule": f"must be a number of seconds from 1 to {TEN_YEARS_S} (ten years), in whole milliseconds"}),
    ] = UNSET
    """Seconds between two occurrences."""

    cron: Annotated[
        str | UnsetType,
        Meta(extra={"rule": 'must be five fields (minute, hour, day, month, weekday), or a name such as "@daily"'}),
    ] = UNSET
    """Debian's five fields, with the names of months and weekdays; or one of their usual names."""

    tz: Annotated[str | UnsetType, Meta(extra={"rule": 'must be the name of a time zone, such as "Europe/Berlin"'})] = (
        UNSET
    )
    """The zone whose clock `cron` means: UTC if absent."""

    times: Annotated[
        Annotated[int, Meta(ge=1, le=TIMES_MOST)] | UnsetType,
        Meta(extra={"rule": f"must be a whole number from 1 to {TIMES_MOST}"}),
    ] = UNSET
    """So many occurrences are made: those that were skipped do not count. Absent: without end."""

    until: Annotated[str | UnsetType, Meta(extra={"rule": TIME_RULE})] = UNSET
    """No occurrence is due after this time."""

    missed: Annotated[Literal["latest", "skip", "all"], Meta(extra={"rule": 'must be "latest", "skip" or "all"'})] = (
        "latest"
    )
    """What comes of occurrences that passed while nobody delivered: the latest is made, late; none that is over a
    minute late; or all, at most the last 100."""

    overlap: Annotated[Literal["allow", "skip"], Meta(extra={"rule": 'must be "allow" or "skip"'})] = "allow"
    """Whether an occurrence is made while the one before is unfinished."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a series has done so far, as its record says it: how many occurrences it made, how many it skipped, and the
    key of the last that it made."""

    made: int = 0
    skipped: int = 0
    last: str = ""


class Occurrence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an occurrence's record says of where it comes from: the key of its series, and its number from 1."""

    series: str
    number: int


RULES: dict[str, str] = {field.name: get_args(field.type)[1].extra["rule"] for field in msgspec.structs.fields(Repeat)}
"""What each member must be, as errors say it."""


_LONGEST = {"cron": CRON_LENGTH, "tz": ZONE_LENGTH, "until": TIME_LENGTH}
"""Characters: longer ones are not looked at, nor kept."""


class Fault(NamedTuple):
    """What is wrong with a rule: which member, what it must be, and what was given; or members that exclude each
    other."""

    member: str
    rule: str
    given: object
    is_contradiction: bool = False


def rule_fault(repeat: Repeat) -> Fault | None:
    """Return what is wrong with a rule whenever it begins; None if times can be worked out."""
    for member, most in _LONGEST.items():
        given = getattr(repeat, member)
        if given is not UNSET and len(given) > most:
            return Fault(member, RULES[member], given)
    return _short_rule_fault(repeat)


@lru_cache(1_024)
def _short_rule_fault(repeat: Repeat) -> Fault | None:
    """Return the same of a rule that is short enough to be kept."""
    if (repeat.every is UNSET) is (repeat.cron is UNSET):
        got = repeat if repeat.every is UNSET else repeat.every
        return Fault("every", "must be given, or cron, and not both", got, True)
    if repeat.missed == "all" and repeat.overlap == "skip":
        return Fault("overlap", "must be allow with missed all, which makes several at once", repeat.overlap, True)
    if repeat.until is not UNSET and not is_time(repeat.until):
        return Fault("until", RULES["until"], repeat.until)
    if repeat.every is not UNSET:
        every_ms = repeat.every * 1000
        if not 1 <= repeat.every <= TEN_YEARS_S or abs(every_ms - round(every_ms)) > 1e-6:
            return Fault("every", RULES["every"], repeat.every)
        return None if repeat.tz is UNSET else Fault("tz", "has no effect without cron", repeat.tz, True)
    if repeat.tz is not UNSET and repeat.tz not in _zone_names():
        return Fault("tz", RULES["tz"], repeat.tz)
    return None if repeat.cron is UNSET else _fault_of_cron(repeat.cron)


def repetition_fault(repetition: Progress | Occurrence) -> Fault | None:
    """Return what no service has written of a series or an occurrence; None if one may have."""
    if isinstance(repetition, Progress):
        counts, key = {"made": repetition.made, "skipped": repetition.skipped}, {"last": repetition.last}
        least = 0
    else:
        counts, key, least = {"number": repetition.number}, {"series": repetition.series}, 1
    for name, count in counts.items():
        if not least <= count <= COUNT_MOST:
            return Fault(name, f"must be a whole number from {least} to {COUNT_MOST}", count)
    for name, text in key.items():
        if not is_task_key(text) and (text or least):
            return Fault(name, "cannot be the key of a task", text)
    return None


def _fault_of_cron(cron: str) -> Fault | None:
    """Return what is wrong with an expression by itself."""
    fields = _fields_of(cron) if cron.isascii() and cron.isprintable() else []
    if len(fields) != 5:
        return Fault("cron", RULES["cron"], cron)
    error = _error_of(" ".join(fields))
    if error is None:
        return None
    if error == _BAD_DAY and _error_of(" ".join([*fields[:3], "*", fields[4]])) is None:
        return Fault("cron", "never comes: no such month has this day", cron)
    return Fault("cron", f"{RULES['cron']} ({error})", cron)


def _error_of(expression: str) -> str | None:
    try:
        _parsed(expression)
    except CronSimError as error:
        return str(error).lower()
    return None


def parsed(cron: str) -> CronSim:
    """Return a walk through the times that a good expression matches: from its `dt` on, by the clock on the wall if
    that is naive. The library's own treatment of zones, which follows from its first time, is off."""
    return copy(_parsed(" ".join(_fields_of(cron))))


def has_every_hour(matches: CronSim) -> bool:
    """Return whether an expression names minutes, not times of day: it goes on evenly while a zone's clock is set."""
    return len(matches.hours) == _HOURS


@lru_cache(1_024)
def _parsed(expression: str) -> CronSim:
    """Return what is to be copied. To read an expression takes 25 µs, and up to 8 KB."""
    return CronSim(expression, datetime.min)


def _fields_of(cron: str) -> list[str]:
    """Return the fields of a cron expression, also of one by name."""
    return _NAMED.get(cron.strip().lower(), cron).split()


@lru_cache(1)
def _zone_names() -> frozenset[str]:
    """The zones of the tzdata package: the same wherever the service runs."""
    return frozenset(files("tzdata").joinpath("zones").read_text().split())
