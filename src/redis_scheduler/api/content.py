"""What a request gives to be sent (data, body or body_base64), and whether the request that delivers it can be made."""

from base64 import b64decode
from datetime import datetime
from operator import attrgetter

import msgspec
from msgspec import UNSET, Raw

from redis_scheduler.api.bodies import ScheduleRequest, UpdateRequest
from redis_scheduler.api.diagnosis import RULES
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.task.content import CONTENTS, Content
from redis_scheduler.task.given import quoted, shown
from redis_scheduler.task.options import NAMES, PROBLEMS, Callback, Options
from redis_scheduler.task.record import Record
from redis_scheduler.task.repeat import Repeat

_DEFAULTS = {Callback: msgspec.structs.astuple(Callback(webhook="")), Repeat: msgspec.structs.astuple(Repeat())}
_values = attrgetter(*PROBLEMS)
_NOTHING_GIVEN = (UNSET,) * len(PROBLEMS)
_encode = msgspec.json.Encoder().encode


def check_values(options: Options | UpdateRequest) -> None:
    """Raise InvalidField for a value with a fault that its kind and bounds do not find."""
    values = _values(options)
    if values == _NOTHING_GIVEN:
        return
    for (name, problem_of), value in zip(PROBLEMS.items(), values, strict=True):
        if value is not UNSET and value is not None and (problem := problem_of(value)):
            raise InvalidField(name, problem)


def check_sent(request: ScheduleRequest | UpdateRequest) -> None:
    """Raise InvalidField unless what is given can be sent."""
    check_values(request)
    given = [name for name in CONTENTS if getattr(request, name) is not UNSET]
    if len(given) > 1:
        got = shown(getattr(request, given[1]))
        problem = f"must not be given beside {given[0]}: a request has one body, got {got}"
        raise InvalidField(given[1], problem, Code.CONTRADICTION)
    if request.body_base64:
        try:
            b64decode(request.body_base64, validate=True)
        except ValueError:
            error = f"{RULES['body_base64']}, got {quoted(request.body_base64)}"
            raise InvalidField("body_base64", error) from None


def check_method(options: Options, data: bytes | None) -> None:
    """Raise InvalidField for a method that does not send the content."""
    if options.method == "GET" and data is not None:
        problem = "GET sends no body: leave out data, body and body_base64, got GET"
        raise InvalidField("method", problem, Code.CONTRADICTION)


def content_of(request: ScheduleRequest | UpdateRequest) -> tuple[Content, bytes | None]:
    """Return the name of the content that is given, and its JSON; None if none is given."""
    if request.body not in (UNSET, None):
        return "body", _encode(request.body)
    if request.body_base64 not in (UNSET, None):
        return "body_base64", _encode(request.body_base64)
    return "data", None if request.data is UNSET else bytes(request.data)


def changed_content(record: Record, changes: UpdateRequest) -> tuple[Content, bytes | None]:
    """Return the content of a task as a change leaves it."""
    if changes.data is UNSET and changes.body is UNSET and changes.body_base64 is UNSET:
        return record.content, record.data
    return content_of(changes)


def quotes_of(request: ScheduleRequest | UpdateRequest, absent: Options) -> int:
    """Return how many quotes the options and contents but data have at least. An option that is given its default is
    not counted."""
    own, defaults = (msgspec.structs.astuple(one)[-len(NAMES) :] for one in (request, absent))
    quotes = sum(
        2 + _quotes(value)
        for value, default in zip(own, defaults, strict=True)
        if value is not default and value != default
    )
    for name in CONTENTS[1:]:
        if (value := getattr(request, name)) is not UNSET:
            quotes += 2 + _quotes(value)
    return quotes


def _quotes(value: object) -> int:
    match value:
        case datetime():
            return 2
        case str():
            return 2 + value.count('"')
        case dict():
            return sum(_quotes(name) + _quotes(member) for name, member in value.items())
        case list() | tuple():
            return sum(map(_quotes, value))
        case Raw():
            return bytes(value).count(b'"')
        case Callback() | Repeat():
            members = zip(msgspec.structs.astuple(value), _DEFAULTS[type(value)], strict=True)
            return sum(
                2 + _quotes(member) for member, default in members if member is not default and member != default
            )
    return 0
