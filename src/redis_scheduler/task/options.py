"""What a task can say beside its webhook, ttl, type and data.

A new option is a field of Options, and then what uses it: bodies, records and views have the field from here. The field
says its kind and bounds, its rule as errors say it, its default, and in a docstring what it means and in which unit:

    retries: Annotated[int, Meta(ge=0, extra={"rule": "must be a whole number from 0"})] = 5

An option that has its default is neither stored nor shown, so it costs nothing where it is not used.
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

Carrier = TypeVar("Carrier", bound=Options)


def options_of(carrier: Options) -> Options:
    """Return the options of what has further fields, without these."""
    return Options(**{name: getattr(carrier, name) for name in NAMES})


def with_options(carrier: Carrier, options: Options) -> Carrier:
    """Return the same with these options."""
    return msgspec.structs.replace(carrier, **{name: getattr(options, name) for name in NAMES})


def changed(options: Options, changes: Any) -> Options:
    """Return options as a change leaves them: UNSET keeps one, None gives one its default again."""
    given = {name: value for name in NAMES if (value := getattr(changes, name)) is not UNSET}
    if not given:
        return options
    return msgspec.structs.replace(
        options, **{name: getattr(NONE, name) if value is None else value for name, value in given.items()}
    )
