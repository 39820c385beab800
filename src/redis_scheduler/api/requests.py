"""Reads bodies and parameters, checks each once, and says in a sentence what is wrong and where."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET
from starlette.requests import Request

from redis_scheduler.api.bodies import PreviewRequest, ScheduleRequest, UpdateRequest
from redis_scheduler.api.content import check_method, check_sent, check_values, content_of, quotes_of
from redis_scheduler.api.diagnosis import RULES, TYPE_LENGTH, check_depth, examined, within
from redis_scheduler.api.reading import TOO_DEEP
from redis_scheduler.api.webhooks import check_webhook
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, TaskNotFound
from redis_scheduler.store.views import PAGE_LIMIT
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.due import NO_TTL, at_ms, delay_until, is_time
from redis_scheduler.task.given import bounded, quoted, shown
from redis_scheduler.task.json_text import is_whole
from redis_scheduler.task.key import KEY_LENGTH, has_made_form, is_task_key
from redis_scheduler.task.options import CALLBACKS, NONE, Callback, Options, options_of
from redis_scheduler.task.policy import contradiction
from redis_scheduler.task.timing import TEN_YEARS_S

Body = TypeVar("Body", ScheduleRequest, UpdateRequest)


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    if not body:
        raise InvalidRequest(Code.NOT_JSON, "The body is empty: it must be a JSON object")
    try:
        try:
            # `data` is passed on as it is, so its text is checked here: JSON is UTF-8 (RFC 8259, section 8.1).
            body.decode()
            decoded = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            decoded = examined(body, decoder.type)
        else:
            if may_repeat(body, decoded):
                decoded = examined(body, decoder.type)
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, TOO_DEEP) from error
    return decoded


def may_repeat(body: bytes, request: ScheduleRequest | UpdateRequest, pairs: int = 0) -> bool:
    """Whether a member may be given twice: the decoder silently takes the last one.

    Every body is asked this, so it must be cheap: it counts quotes, of which each member's name has two. `pairs`: of
    members that only some bodies have.
    """
    data, end = request.data or b"", len(body) - 1
    if body.endswith(data, 0, end):  # most often it is the last member
        quotes = body.count(b'"', 0, end - len(data))
    else:
        quotes = body.count(b'"') - bytes(data).count(b'"')
    names = (request.webhook is not UNSET) * 2 + bool(data) + (request.ttl is not UNSET) + (request.at is not UNSET) * 2
    names += pairs
    if quotes == 2 * names:
        return False
    if _ESCAPED_QUOTE in body:  # an option's value may have it, and is counted below as it is written again
        return True
    return quotes != 2 * names + quotes_of(request, NONE if isinstance(request, ScheduleRequest) else _NO_CHANGE)


_ESCAPED_QUOTE = rb"\u0022"

_decode_schedule = msgspec.json.Decoder(ScheduleRequest)
_decode_update = msgspec.json.Decoder(UpdateRequest)
_NO_CHANGE = UpdateRequest()
_CHANGES = UpdateRequest.__struct_fields__
_RARE_FROM = _CHANGES.index("body")
"""Before it stand webhook, ttl, at and data; from it on what few changes give: body, body_base64 and options."""

_NOTHING_RARE = msgspec.structs.astuple(_NO_CHANGE)[_RARE_FROM:]


def schedule_request(body: bytes) -> ScheduleRequest:
    """Return the checked body of POST /schedule. Raises InvalidRequest."""
    request = _decoded(body, _decode_schedule)
    check_task(request)
    return request


def check_task(request: ScheduleRequest) -> None:
    """Raise InvalidRequest unless a task may be made of this."""
    check_webhook(request.webhook)
    if request.ttl is UNSET and request.at is UNSET and request.repeat is UNSET:
        raise InvalidField("ttl", f"is missing; it {RULES['ttl']}, or give `at` instead", Code.MISSING_FIELD)
    check_when(request)
    if options_of(request) is not NONE or request.body is not UNSET or request.body_base64 is not UNSET:
        check_sent(request)
        check_options(request)
        check_method(request, content_of(request)[1])
        check_callbacks(request)


def check_callbacks(options: Options | UpdateRequest, depth: int = 0) -> None:
    """Raise InvalidField unless a task may be made of each callback, and of those within it."""
    for name in CALLBACKS:
        callback = getattr(options, name)
        if callback is not UNSET and callback is not None:
            check_depth(name, depth)
            with within(name):
                _check_callback(callback)
                check_callbacks(callback, depth + 1)


def _check_callback(callback: Callback) -> None:
    check_webhook(callback.webhook)
    if callback.repeat is not UNSET:
        raise InvalidField(
            "repeat",
            f"must not be given here: a callback starts one task, got {shown(callback.repeat)}",
            Code.CONTRADICTION,
        )
    check_when(callback)
    check_values(callback)
    check_options(callback)
    if callback.type is not UNSET:
        check_new_type(callback.type)
    if callback.data is not UNSET and not is_whole(bytes(callback.data)):
        problem = f"must not hold half a surrogate pair (half an emoji) here, got {shown(callback.data)}"
        raise InvalidField("data", problem)
    if callback.method == "GET" and (callback.data is not UNSET or callback.include_data):
        name = "include_data" if callback.include_data else "data"
        problem = f"must not be given beside the method GET, which sends no body, got {shown(getattr(callback, name))}"
        raise InvalidField(name, problem, Code.CONTRADICTION)
    if not callback.event and (callback.method == "GET" or callback.include_data):
        beside = "include_data, which is told" if callback.include_data else "the method GET, which sends no body"
        raise InvalidField("event", f"must not be false beside {beside}, got false", Code.CONTRADICTION)


def update_request(body: bytes) -> UpdateRequest:
    """Return the checked body of PATCH /schedule/{key}. Raises InvalidRequest."""
    request = _changes(body)
    if request == _NO_CHANGE:
        error = f"The body names nothing to change: give {', '.join(_CHANGES[:-1])} or {_CHANGES[-1]}"
        raise InvalidRequest(Code.NOTHING_TO_CHANGE, error)
    return request


def replay_request(body: bytes) -> UpdateRequest:
    """Return the checked body of POST /dead/{key}/replay, which may be empty: at once. Raises InvalidRequest."""
    request = _changes(body) if body else _NO_CHANGE
    if request.ttl is UNSET and request.at is UNSET:
        request = msgspec.structs.replace(request, ttl=0)
    return request


def is_moved_at_most(request: UpdateRequest) -> bool:
    """Whether a change leaves all of a task but its time as it is."""
    return msgspec.structs.replace(request, ttl=UNSET, at=UNSET) == _NO_CHANGE


def _changes(body: bytes) -> UpdateRequest:
    request = _decoded(body, _decode_update)
    if request.webhook is not UNSET:
        check_webhook(request.webhook)
    check_when(request)
    if msgspec.structs.astuple(request)[_RARE_FROM:] != _NOTHING_RARE:
        check_sent(request)
        check_callbacks(request)
    return request


def preview_request(body: bytes) -> PreviewRequest:
    """Return the body of POST /repeat/preview; its rule is not checked. Raises InvalidRequest."""
    try:
        return examined(body, PreviewRequest)
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, TOO_DEEP) from error


def check_when(request: ScheduleRequest | UpdateRequest | Callback) -> None:
    """Raise InvalidField unless the delay is 0 to ten years, or there is a time instead. (JSON has no NaN and no
    Infinity.)"""
    if request.ttl is not UNSET and not 0 <= request.ttl <= TEN_YEARS_S:
        raise InvalidField("ttl", f"{RULES['ttl']}, got {shown(request.ttl)}")
    if request.at is not UNSET:
        if not is_time(request.at):
            raise InvalidField("at", f"{RULES['at']}, got {quoted(request.at)}")
        if request.ttl is not UNSET:
            problem = f"must not be given beside ttl: a task has one due time, got {quoted(request.at)}"
            raise InvalidField("at", problem, Code.CONTRADICTION)


def when(request: ScheduleRequest | UpdateRequest) -> tuple[float, int]:
    """Return the `ttl` that is kept in the record, and the delay as scripts are given it, of a checked request with ttl
    or at."""
    if request.ttl is UNSET:
        return NO_TTL, delay_until(at_ms(str(request.at)))
    return request.ttl, round(request.ttl * 1000)


def check_options(options: Options, before: Options = NONE) -> None:
    """Raise InvalidField if options contradict each other, or one can have no effect beside the others; but not for
    what was so `before` a change."""
    if options is not before and (found := contradiction(options)) is not None and found != contradiction(before):
        raise InvalidField(*found, Code.CONTRADICTION)


PARAMETERS_MOST = 20
"""More are refused unread: 64 KiB of them delayed every other request by 46 ms."""

_FIELDS = ScheduleRequest.__struct_fields__


def parameters(request: Request, names: Sequence[str]) -> dict[str, str]:
    """Return the query parameters. Raises InvalidRequest for another name, an empty one, or one that is given twice."""
    if not request.scope["query_string"]:
        return {}
    if request.scope["query_string"].count(b"&") >= PARAMETERS_MOST:
        raise InvalidRequest(
            Code.INVALID_QUERY,
            f"The query has more than {PARAMETERS_MOST} parameters; known: {', '.join(names) or 'none'}",
        )
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InvalidRequest(Code.INVALID_QUERY, "The query is not percent-encoded UTF-8") from error
    for name, value in pairs:
        if name not in names:
            instead = "it is a field of the body; " if name in _FIELDS else ""
            problem = f"is not a parameter here; {instead}known: {', '.join(names) or 'none'}"
            raise InvalidField(bounded(name), problem, Code.UNKNOWN_PARAMETER)
        if name in found or not value:
            got = f"{quoted(found[name])} and {quoted(value)}" if name in found else quoted(value)
            raise InvalidField(name, f"must be given once, and not empty, got {got}")
        found[name] = value
    return found


def type_name(given: Mapping[str, str]) -> str | None:
    """Return the checked `type`, or None. Raises InvalidRequest."""
    name = given.get("type")
    if name is not None:
        check_type(name)
    return name


def check_type(name: str) -> None:
    """Raise InvalidRequest for what cannot be the name of a type."""
    if not name or len(name) > TYPE_LENGTH or not name.isprintable():
        raise InvalidField("type", f"{RULES['type']}, got {quoted(name)}")


def check_new_type(name: str) -> None:
    """Raise InvalidRequest for a type that no task of a caller can have."""
    check_type(name)
    if name == ALERT_TYPE:
        problem = f"must be another than that of the service's own alerts, got {quoted(name)}"
        raise InvalidField("type", problem)


def page_limit(given: Mapping[str, str]) -> int:
    """Return the checked `limit`. Raises InvalidRequest."""
    text = given.get("limit", str(PAGE_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= PAGE_LIMIT):
        raise InvalidField("limit", f"must be a whole number from 1 to {PAGE_LIMIT}, got {quoted(text)}")
    return int(text)


RESERVED_KEYS = ("groups", "replay", "delete")
"""No caller may give these: behind /dead/ they are paths, so the dead letter of such a task could not be asked for."""


def own_key(request: Request) -> str:
    """Return the key in the path that its caller made. Raises InvalidField, and 409 for one of the service's form."""
    key: str = request.path_params["key"]
    check_own_key(key)
    return key


def check_own_key(key: str) -> None:
    """Raise as `own_key` does."""
    if not is_task_key(key):
        raise InvalidField("key", f"{RULES['key']}, got {quoted(key)}")
    if key in RESERVED_KEYS:
        raise InvalidField("key", f"must be none of the words of paths ({', '.join(RESERVED_KEYS)}), got {quoted(key)}")
    if has_made_form(key):
        error = (
            f"has the form of the keys that the service makes, {KEY_LENGTH} characters without a colon: give another"
        )
        raise InvalidField("key", f"{error}, got {quoted(key)}", Code.SERVICE_KEY)


def task_key(request: Request) -> str:
    """Return the key in the path. Raises TaskNotFound for what cannot be one."""
    key: str = request.path_params["key"]
    if not is_task_key(key):
        raise TaskNotFound
    return key
