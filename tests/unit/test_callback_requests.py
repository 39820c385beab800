"""Callbacks in bodies: each is checked as a task is, and what is wrong is named by its whole name."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_scheduler.api.requests import schedule_request, update_request
from redis_scheduler.api.shown import view_of
from redis_scheduler.api.view import Info
from redis_scheduler.errors import Code, InvalidRequest
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.callback import DIED, End, follow_up
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import CALLBACKS_DEEP, Callback, options_of
from redis_scheduler.task.record import read_record, record_tail
from tests.support.changes import change_by

HOOK = "http://host.example/a"
ON = "on_success", "on_failure"


def body_of(**fields: Any) -> bytes:
    return json.dumps({"webhook": HOOK, "ttl": 1, **fields}).encode()


def nested(depth: int, innermost: dict[str, Any], name: str = "on_success") -> dict[str, Any]:
    """A callback in so many others."""
    for _ in range(depth - 1):
        innermost = {"webhook": HOOK, name: innermost}
    return innermost


def refused(body: bytes, is_update: bool = False) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        (update_request if is_update else schedule_request)(body)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode()
    return caught.value


def test_a_callback_says_what_a_task_can_say() -> None:
    given = {
        "webhook": HOOK,
        "at": "2030-01-01T00:00:00Z",
        "type": "mail",
        "data": {"a": [1.0]},
        "include_data": True,
        "method": "PUT",
        "headers": {"X-A": 'a"b'},
        "retry_times": [1, 2],
        "ack": True,
        "on_failure": {"webhook": f"{HOOK}?x=\u00fc", "ttl": 3, "expire": 9, "event": False},
    }
    wanted = schedule_request(body_of(on_success=given, on_failure={"webhook": HOOK}))
    assert isinstance(wanted.on_success, Callback)
    raw = b'{"due":7' + record_tail(HOOK, 1, None, None, options_of(wanted))
    stored = Stored("key", raw, read_record(raw), 0, None, "scheduled", 7)
    info = view_of(stored).info
    assert isinstance(info, Info)
    assert (info.on_success, info.on_failure) == (wanted.on_success, wanted.on_failure)
    changed = change_by(stored, b'{"on_success":null,"on_failure":{"webhook":"http://b/"}}')
    assert read_record(b'{"due":7' + changed.tail).options == options_of(
        schedule_request(body_of(on_failure={"webhook": "http://b/"}))
    )
    kept = change_by(stored, b'{"ttl":9}')
    assert read_record(b'{"due":7' + kept.tail).options == options_of(wanted)


@pytest.mark.parametrize("is_update", [False, True])
@pytest.mark.parametrize("name", ON)
def test_callbacks_are_nested_eight_deep_and_no_deeper(name: str, is_update: bool) -> None:
    check = update_request if is_update else schedule_request
    check(body_of(**{name: nested(CALLBACKS_DEEP, {"webhook": HOOK}, name)}))
    for innermost in ({"webhook": HOOK}, {"webhook": HOOK, "retries": 5, "type": "\u0041"}, {"webhook": 1}):
        for body in (body_of(**{name: nested(9, innermost, name)}), body_of(**{name: nested(60, innermost, name)})):
            error = refused(body, is_update)
            assert (error.field, error.code) == (".".join([name] * 9), Code.TOO_DEEP)
            assert str(error) == f"{error.field}: must not be given here: callbacks are nested at most 8 deep, got 9"


RULE = 'must be an object: the body of a task, such as {"webhook": URL}, got '
REFUSED: list[tuple[Any, str, str]] = [
    *[(value, "", f"{RULE}{shown}") for value, shown in ((1, "1"), ("x", "a text"), ([], "an array"), (True, "true"))],
    ({}, "webhook", "is missing; it must be an absolute http or https URL"),
    ({"ttl": 1}, "webhook", "is missing; it must be an absolute http or https URL"),
    ({"webhook": None}, "webhook", "must be an absolute http or https URL, got null"),
    ({"webhook": 1}, "webhook", "must be an absolute http or https URL, got 1"),
    ({"webhook": "ftp://a/"}, "webhook", 'must be an absolute http or https URL, got the scheme "ftp"'),
    ({"webhook": "http://a:b@c/"}, "webhook", "must not hold a user or password"),
    ({"webhook": "http://a/\r\nX: 1"}, "webhook", 'must not hold spaces or control characters, got "\\r" as ch'),
    ({"webhook": "http://a/\ud83d"}, "webhook", "must not hold half a surrogate pair"),
    ({"webhook": "http://a/" + "x" * 4_096}, "webhook", "must be at most 4096 characters, got 4105"),
    ({"ttl": -1}, "ttl", "must be a number of seconds from 0 to "),
    ({"ttl": 1e300}, "ttl", "must be a number of seconds from 0 to "),
    ({"ttl": "5"}, "ttl", "must be a number of seconds from 0 to "),
    ({"ttl": None}, "ttl", "must be a number of seconds from 0 to "),
    ({"ttl": 1, "at": "2030-01-01T00:00:00Z"}, "at", "must not be given beside ttl"),
    ({"at": "2030-01-01T00:00:00"}, "at", "must be an RFC 3339 time with its offset"),
    ({"at": ""}, "at", "must be an RFC 3339 time with its offset"),
    ({"type": ""}, "type", "must be 1 to 100 printable characters"),
    ({"type": "a\nb"}, "type", "must be 1 to 100 printable characters"),
    ({"type": 5}, "type", "must be 1 to 100 printable characters, got 5"),
    ({"include_data": 1}, "include_data", "must be true or false, got 1"),
    ({"include_data": None}, "include_data", "must be true or false, got null"),
    ({"event": 0}, "event", "must be true or false, got 0"),
    ({"event": None}, "event", "must be true or false, got null"),
    ({"event": False, "include_data": True}, "event", "must not be false beside include_data"),
    ({"event": False, "method": "GET"}, "event", "must not be false beside the method GET"),
    ({"data": "half \ud83d"}, "data", "must not hold half a surrogate pair (half an emoji) here"),
    ({"headers": {"X": "a\r\nHost: b"}}, "headers", "X must be visible characters of Latin-1 and spaces"),
    ({"headers": {"X\r\nHost": "b"}}, "headers", "must have names of letters, digits"),
    ({"headers": {"Host": "b"}}, "headers", "must not have Host"),
    ({"headers": {"Schedule-Key": "b"}}, "headers", "must not have Schedule-Key"),
    ({"headers": {"Webhook-Id": "b"}}, "headers", "must not have Webhook-Id: the service sets it"),
    ({"headers": {"webhook-own": "b"}}, "headers", "must not have webhook-own: the service sets it"),
    ({"headers": {"Schedule_Key": "b"}}, "headers", "must not have Schedule_Key: the service sets it"),
    ({"headers": {"webhook_signature": "b"}}, "headers", "must not have webhook_signature: the service sets it"),
    ({"headers": {"transfer_Encoding": "b"}}, "headers", "must not have transfer_Encoding: the service sets it"),
    ({"headers": {"TraceParent": "b"}}, "headers", "must not have TraceParent: give the option traceparent instead"),
    ({"headers": {}}, "headers", "must be 1 to 32 headers, got 0"),
    ({"headers": {"X": 1}}, "headers", '"X" must be a text, got 1'),
    ({"method": "HEAD"}, "method", "must be POST, GET, PUT, PATCH or DELETE"),
    ({"method": "GET", "data": 1}, "data", "must not be given beside the method GET"),
    ({"method": "GET", "include_data": True}, "include_data", "must not be given beside the method GET"),
    ({"retries": 1.5}, "retries", "must be a whole number from 0 to "),
    ({"retries": 1, "retry_times": [1]}, "retries", "cannot be given beside retry_times"),
    ({"retry_max": 5}, "retry_max", "has an effect only with a retry_backoff"),
    ({"ack_within": 5}, "ack_within", "has no effect without ack"),
    ({"timeout": 0}, "timeout", "must be a number of seconds from 0.001 to MAX_TIMEOUT"),
    ({"repeat": {"every": 5}}, "repeat", "must not be given here: a callback starts one task"),
    ({"repeat": {"every": 5, "x": 1}}, "repeat.x", "is an unknown field; "),
    ({"key": "mine"}, "key", "is an unknown field; "),
    ({"body": "a"}, "body", "is an unknown field; "),
    ({"if_match": "*"}, "if_match", "is an unknown field; "),
    ({"on_success": 1}, "on_success", f"{RULE}1"),
    ({"on_failure": {"webhook": "x"}}, "on_failure.webhook", "must be an absolute http or https URL, got no scheme"),
]


@pytest.mark.parametrize("is_update", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(("callback", "field", "problem"), REFUSED)
def test_what_is_wrong_in_a_callback_is_named(
    callback: Any, field: str, problem: str, depth: int, is_update: bool
) -> None:
    if isinstance(callback, dict) and callback and callback != {"ttl": 1}:
        callback = {"webhook": HOOK, **callback}
    error = refused(body_of(on_failure=nested(depth, callback, "on_failure")), is_update)
    prefix = ".".join(["on_failure"] * depth)
    name = f"{prefix}.{field}" if field else prefix
    assert error.field == name
    assert str(error).startswith(f"{name}: {problem}")


@pytest.mark.parametrize("name", ON)
def test_a_schedule_takes_no_null_for_a_callback(name: str) -> None:
    assert str(refused(body_of(**{name: None}))) == f"{name}: {RULE}null"


@pytest.mark.parametrize(
    ("callback", "field"),
    [
        ('"webhook":"http://a/","webhook":"http://b/"', "on_success.webhook"),
        ('"webhook":"http://a/","ttl":1,"ttl":2', "on_success.ttl"),
        ('"webhook":"http://a/","data":1,"data":"x"', "on_success.data"),
        ('"webhook":"http://a/","include_data":true,"include_data":false', "on_success.include_data"),
        ('"webhook":"http://a/","headers":{"a":"1","a":"2"}', "on_success.headers"),
        (r'"webhook":"http://a/","data":"\u0022\u0022","type":"a","type":"b"', "on_success.type"),
        ('"webhook":"http://a/","on_failure":{"webhook":"http://a/","ttl":1,"ttl":1}', "on_success.on_failure.ttl"),
    ],
)
def test_nothing_in_a_callback_is_given_twice(callback: str, field: str) -> None:
    error = refused(b'{"webhook":"http://a/","ttl":1,"on_success":{%b}}' % callback.encode())
    assert (error.field, error.code) == (field, Code.REPEATED_FIELD)


def test_a_usual_callback_needs_no_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("redis_scheduler.api.requests.examined")
    callback = {
        "webhook": HOOK,
        "type": "mail",
        "data": {"a": ["x", 'y"']},
        "headers": {"X": "1"},
        "include_data": True,
    }
    schedule_request(body_of(on_success=callback, on_failure={"webhook": HOOK, "ttl": 5, "on_success": callback}))


@pytest.mark.parametrize("name", ["include_data", "event", "onSuccess", "then"])
def test_what_is_of_a_callback_is_no_field_of_a_task(name: str) -> None:
    error = refused(body_of(**{name: True}))
    assert (error.field, error.code) == (name, Code.UNKNOWN_FIELD)
    assert "on_success" in str(error)


TEXTS = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(
    [HOOK, "http://b/", "mail", "2030-01-01T00:00:00Z"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
GOOD_MEMBERS = {
    "ttl": st.integers(0, 9) | st.just(0.5),
    "type": st.sampled_from(["mail", "ü", "default"]),
    "data": VALUES,
    "include_data": st.booleans(),
    "event": st.booleans(),
    "method": st.sampled_from(["PUT", "GET"]),
    "headers": st.just({"X-A": 'a"b', "data": ',"data":'}),
    "retries": st.integers(0, 3),
    "labels": st.just({"order": "17"}),
    "expire": st.integers(60, 99),
}
MEMBERS = st.fixed_dictionaries(
    {"webhook": st.just(HOOK) | VALUES}, optional={name: good | VALUES for name, good in GOOD_MEMBERS.items()}
)
GOOD = st.fixed_dictionaries({"webhook": st.just(HOOK)}, optional=GOOD_MEMBERS)
CALLBACK_VALUES = st.recursive(
    MEMBERS | GOOD | GOOD | VALUES,
    lambda inner: st.builds(lambda one, name, deeper: one | {name: deeper}, GOOD, st.sampled_from(ON), inner),
    max_leaves=6,
)


@given(CALLBACK_VALUES, st.booleans())
@settings(deadline=None)
def test_whatever_is_given_is_refused_or_can_be_stored_read_and_started(value: Any, is_ascii: bool) -> None:
    text = json.dumps({"webhook": HOOK, "ttl": 1, "on_failure": value, "data": 1}, ensure_ascii=is_ascii)
    try:
        wanted = schedule_request(text.encode(errors="surrogatepass"))
    except InvalidRequest as error:
        str(error).encode()
        return
    record = read_record(b'{"due":7' + record_tail(HOOK, 1, None, b"1", options_of(wanted)))
    assert record.options == options_of(wanted)
    found = follow_up(Claim("1-1", "key", record, 0), End(DIED, 1, "no", 7.0, 500, b"x"))
    assert found is not None
    started = read_record(b'{"due":7' + found.tail)
    assert (started.webhook, started.unknown) == (wanted.on_failure.webhook, None)  # type: ignore[union-attr]
    assert started.options == options_of(wanted.on_failure)  # type: ignore[arg-type]
    sent = None if started.data is None else json.loads(started.data)
    if not value.get("event", True):
        assert sent == value.get("data")
    elif sent is not None:
        assert sent["data"] == value.get("data")
