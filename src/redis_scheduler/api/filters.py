"""Reads the filters of a query: which tasks a list is to show."""

from collections.abc import Mapping
from dataclasses import replace

from redis_scheduler.api.callers import Caller
from redis_scheduler.api.requests import type_name
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.host import HOST_LENGTH, host_named
from redis_scheduler.store.filters import LISTED, Filters
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.due import TIME_RULE, at_ms
from redis_scheduler.task.given import quoted
from redis_scheduler.task.key import is_task_key
from redis_scheduler.task.label import labels_problem

FILTERS = ("type", "state", "host", "key_prefix", "due_after", "due_before", "label", "repeats")
"""The parameters that filter."""

DEAD_FILTERS = (*(name for name in FILTERS if name != "state"), "error", "died_before")
"""Those that filter dead letters."""

TYPES = " types"
"""In the place of a parameter: the types that the caller's token has, a line each. No query has such a name."""


def filters_of(given: Mapping[str, str]) -> Filters:
    """Return the checked filters. Raises InvalidField."""
    state, host, prefix = given.get("state"), given.get("host"), given.get("key_prefix")
    if state is not None and state not in LISTED:
        raise InvalidField(
            "state", f"must be one of {', '.join(LISTED)} (what died is at GET /dead), got {quoted(state)}"
        )
    if host is not None and (len(host) > HOST_LENGTH or not host.isprintable() or "/" in host or " " in host):
        raise InvalidField("host", f"must be the host of webhooks, with or without its port, got {quoted(host)}")
    if prefix is not None and not is_task_key(prefix):
        raise InvalidField("key_prefix", f"must be the beginning of a key, got {quoted(prefix)}")
    after_ms, before_ms = _time_ms(given, "due_after"), _time_ms(given, "due_before")
    if after_ms is not None and before_ms is not None and after_ms >= before_ms:
        problem = f"must be later than due_after: no task is due in between, got {quoted(given['due_before'])}"
        raise InvalidField("due_before", problem, Code.CONTRADICTION)
    types = tuple(given[TYPES].split("\n")) if TYPES in given else None
    return Filters(
        types[0] if types is not None and len(types) == 1 else type_name(given),
        None if state is None else (state,),
        host and (host_named(host) or host.lower()),
        prefix,
        after_ms,
        before_ms,
        _label(given),
        given.get("error"),
        _time_ms(given, "died_before"),
        types,
        _repeats(given),
    )


def without_alerts(filters: Filters, caller: Caller | None) -> Filters:
    """Return the filters; for a caller that may not see alerts, they leave these out."""
    return filters if caller is None or caller.sees(ALERT_TYPE) else replace(filters, other_than=ALERT_TYPE)


def _label(given: Mapping[str, str]) -> str | None:
    text = given.get("label")
    if text is not None:
        name, equals, value = text.partition("=")
        if not equals or labels_problem({name: value}):
            raise InvalidField("label", f"must be name=value, one of a task's labels, got {quoted(text)}")
    return text


def _repeats(given: Mapping[str, str]) -> bool | None:
    text = given.get("repeats")
    if text not in (None, "true", "false"):
        raise InvalidField("repeats", f"must be true or false, got {quoted(text)}")
    return None if text is None else text == "true"


def _time_ms(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        # In a query a + that is not written as %2B means a blank.
        return at_ms(text.replace(" ", "+"))
    except ValueError:
        raise InvalidField(name, f"{TIME_RULE}, got {quoted(text)}") from None
