"""What a task can say beside its webhook, ttl, type and data.

A new option is a field of Options, and then what uses it: bodies, records and views have the field from here. The field
says its kind and bounds, its rule as errors say it, its default, and in a docstring what it means and in which unit:

    retries: Annotated[int, Meta(ge=0, extra={"rule": "must be a whole number from 0"})] = 5

An option that has its default is neither stored nor shown, so it costs nothing where it is not used. A worker that does
not know an option gives its task back. So each has the record format that it came with, where that is not the first
with options: `extra={"rule": …, "format": 3}`. A release that adds options raises RECORD_FORMAT.
"""

from typing import Any, TypeVar, get_args

import msgspec
from msgspec import UNSET


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The options of a task: none yet. Bodies, heads of records and views are Options with further fields.

    Garbage collection passes them over: what comes from JSON holds no circles.
    """


NONE = Options()
"""Of a task that asks for nothing special."""

NAMES = Options.__struct_fields__

RULES: dict[str, str] = {field.name: get_args(field.type)[1].extra["rule"] for field in msgspec.structs.fields(Options)}
"""What each option must be, as errors say it."""

RECORD_FORMAT = 2
"""What this version's workers read, and their names as consumers say: 1 is a record without options."""

FORMATS: dict[str, int] = {
    field.name: get_args(field.type)[1].extra.get("format", 2) for field in msgspec.structs.fields(Options)
}
"""The record format that each option came with."""

Carrier = TypeVar("Carrier", bound=Options)

_DEFAULTS = msgspec.structs.astuple(NONE)


def options_of(carrier: Options) -> Options:
    """Return the options of what has further fields, without these; NONE itself if all have their defaults."""
    # Fields that are only given by name stand last.
    values = msgspec.structs.astuple(carrier)[-len(NAMES) :] if NAMES else ()
    return NONE if values == _DEFAULTS else Options(**dict(zip(NAMES, values, strict=True)))


def format_of(options: Options) -> int:
    """Return the record format that a worker must know to read these options."""
    if options is NONE:
        return 1
    return max((FORMATS[name] for name in NAMES if getattr(options, name) != getattr(NONE, name)), default=1)


def with_options(carrier: Carrier, options: Options) -> Carrier:
    """Return the same with these options."""
    return msgspec.structs.replace(carrier, **{name: getattr(options, name) for name in NAMES})


def changed(options: Options, changes: Any) -> Options:
    """Return options as a change leaves them: UNSET keeps one, None gives one its default again."""
    given = {name: value for name in NAMES if (value := getattr(changes, name)) is not UNSET}
    if not given:
        return options
    return options_of(
        msgspec.structs.replace(
            options, **{name: getattr(NONE, name) if value is None else value for name, value in given.items()}
        )
    )
