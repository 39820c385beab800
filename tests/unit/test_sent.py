"""What a task says of its request: what can be sent is taken, kept and sent as it was given; all else is refused."""

import json
import re
from typing import Any

import pytest

from redis_scheduler.api.content import check_method, content_of
from redis_scheduler.api.requests import schedule_request, update_request
from redis_scheduler.api.trace import traceparent
from redis_scheduler.delivery.request import RequestBuilder
from redis_scheduler.errors import Code, InvalidRequest
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.failure import status_of
from redis_scheduler.task.header import HEADERS_BYTES, HEADERS_MOST, OF_THE_CONNECTION
from redis_scheduler.task.options import options_of
from redis_scheduler.task.record import Record, read_record, record_tail

WEBHOOK = "http://host.example/a"
BUILDER = RequestBuilder("token", "agent", "instance", 5)


def raw_of(**fields: Any) -> bytes:
    """The record of a task with these fields."""
    wanted = schedule_request(json.dumps({"webhook": WEBHOOK, "ttl": 1, **fields}).encode())
    content, data = content_of(wanted)
    return b'{"due":1732358400123' + record_tail(wanted.webhook, 1, None, data, options_of(wanted), content)


def request_of(record: Record) -> bytes:
    return BUILDER.build(Claim("1-1", "key", record, 0))[1]


def sent(**fields: Any) -> list[str]:
    """The lines of the request of a task, and its body."""
    head, body = request_of(read_record(raw_of(**fields))).split(b"\r\n\r\n", 1)
    return [*head.decode("latin-1").split("\r\n"), body.decode()]


def refused(body: bytes, update: bool = False) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        (update_request if update else schedule_request)(body)
    assert len(str(caught.value)) < 400
    str(caught.value).encode()
    return caught.value


USUAL = ["Authorization: token", "User-Agent: agent", "Schedule-Instance: instance", "Schedule-Attempts-Most: 6"]
OURS = ["Schedule-Key: key", "Schedule-Attempt: 1", "Schedule-Due: 2024-11-23T10:40:00.123Z"]
JSON, TEXT = "Content-Type: application/json", "Content-Type: text/plain; charset=utf-8"
BYTES = "Content-Type: application/octet-stream"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"timeout": 3, "data": 1}, ["POST", JSON, *USUAL, *OURS, "Content-Length: 1", "1"]),
        ({"method": "PUT", "data": []}, ["PUT", JSON, *USUAL, *OURS, "Content-Length: 2", "[]"]),
        ({"method": "PATCH"}, ["PATCH", JSON, *USUAL, *OURS, "Content-Length: 0", ""]),
        ({"method": "GET"}, ["GET", *USUAL, *OURS, ""]),
        ({"method": "DELETE"}, ["DELETE", *USUAL, *OURS, ""]),
        ({"method": "DELETE", "data": 1}, ["DELETE", JSON, *USUAL, *OURS, "Content-Length: 1", "1"]),
        ({"body": 'ü"\n'}, ["POST", TEXT, *USUAL, *OURS, "Content-Length: 4", 'ü"\n']),
        ({"body": ""}, ["POST", TEXT, *USUAL, *OURS, "Content-Length: 0", ""]),
        ({"body_base64": "w7wK"}, ["POST", BYTES, *USUAL, *OURS, "Content-Length: 3", "ü\n"]),
        (
            {"headers": {"X-A": "1", "x-empty": "", "data": '","data":é'}},
            [
                "POST",
                JSON,
                *USUAL[:2],
                "X-A: 1",
                "x-empty: ",
                'data: ","data":é',
                *USUAL[2:],
                *OURS,
                "Content-Length: 0",
                "",
            ],
        ),
        (
            {"body": "a", "headers": {"content-type": "x/y", "AUTHORIZATION": "mine", "User-agent": "me"}},
            [
                "POST",
                "content-type: x/y",
                "AUTHORIZATION: mine",
                "User-agent: me",
                *USUAL[2:],
                *OURS,
                "Content-Length: 1",
                "a",
            ],
        ),
        (
            {"method": "GET", "headers": {"authorization": "", "X-A": ""}},
            ["GET", USUAL[1], "X-A: ", *USUAL[2:], *OURS, ""],
        ),
    ],
)
async def test_a_request_is_as_the_task_says(fields: dict[str, Any], expected: list[str]) -> None:
    assert sent(**fields) == [f"{expected[0]} /a HTTP/1.1", "Host: host.example", *expected[1:]]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"timeout": 1}, "6"),
        ({"retries": 0}, "1"),
        ({"retries": 2}, "3"),
        ({"retry_times": [1, 2, 3]}, "4"),
        ({"retries": -1}, None),
    ],
)
async def test_a_request_says_how_many_attempts_there_are_at_most(options: dict[str, Any], most: str | None) -> None:
    lines = sent(**options)
    assert [line for line in lines if "Attempts-Most" in line] == [f"Schedule-Attempts-Most: {most}"] * (
        most is not None
    )


@pytest.mark.parametrize("options", [{}, {"timeout": 1}])
@pytest.mark.parametrize(("status", "line"), [(None, b""), (503, b"Schedule-Previous-Status: 503\r\n")])
async def test_a_request_says_what_the_attempt_before_was_answered(
    options: dict[str, Any], status: int | None, line: bytes
) -> None:
    record = read_record(raw_of(**options))
    _, request = BUILDER.build(Claim("1-1", "key", record, 1, previous_status=status))
    assert b"\r\nSchedule-Due: 2024-11-23T10:40:00.123Z\r\n" + line + b"Content-Length: 0\r\n" in request


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_request_carries_the_trace_unless_an_old_record_has_it_among_its_headers() -> None:
    assert f"traceparent: {TRACE}" in sent(traceparent=TRACE)
    raw = raw_of(traceparent=TRACE, headers={"X-Own-Trace": "mine"}).replace(b"X-Own-Trace", b"Traceparent")
    lines = request_of(read_record(raw)).decode("latin-1").split("\r\n")
    assert [line for line in lines if line.lower().startswith("traceparent")] == ["Traceparent: mine"]


NO_TRACES = [
    *("", "00", TRACE[:-1], f"{TRACE}0", f"{TRACE}\n", f" {TRACE}", f"{TRACE}-x", TRACE.upper(), f"ff{TRACE[2:]}"),
    *(TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), TRACE.replace("b7ad6b7169203331", "0" * 16)),
    *(TRACE.replace("-", "_"), TRACE.replace("a", "g"), f"{TRACE}\r\nX-Evil: 1", "ü" * 55),
]


@pytest.mark.parametrize("value", NO_TRACES)
def test_a_trace_that_is_none_is_refused_in_a_body_and_ignored_in_a_head(value: str) -> None:
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, "traceparent": value}).encode())
    assert str(found).startswith("traceparent: must be a traceparent of W3C Trace Context, got ")
    head = [(b"traceparent", value.encode("latin-1"))]
    assert traceparent(dict(head)) is None


def test_a_trace_in_a_head_is_taken() -> None:
    head = [(b"host", b"h"), (b"traceparent", TRACE.encode())]
    assert traceparent(dict(head)) == TRACE
    assert traceparent(dict(head[:1])) is None


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, None),
        (b'{"error":"answered 503","elapsed_ms":1,"status":503}', 503),
        (b'{"error":"no answer","elapsed_ms":1}', None),
        *[(text, None) for text in (b"", b"{", b"[]", b"\xff", b'{"status":"503"}', b"[" * 9_999)],
    ],
)
def test_the_status_of_the_last_failure_is_found_where_there_is_one(failure: bytes | None, status: int | None) -> None:
    assert status_of(failure) == status


HEADERS = "headers: must"
NO_OBJECTS: list[Any] = [None, 1, "X: 1", [], True]
NO_METHODS: list[Any] = ["", "post", "HEAD", "CONNECT", "GET /x HTTP/1.1\r\n", 1, True, [], {}, "\ud83d"]
NO_TIMEOUTS: list[Any] = [0, -1, -0.5, 86_401, 1e300, 10**30, "5", "5s", True, [], {}]
NO_TEXTS: list[Any] = [1, [], {}, True, "\ud83d"]
NO_BASE64: list[Any] = ["a", "YQ", "YQ=", "Y Q==", "YQ==\n", "_-==", "日本==", "=", 1, [], {}, "\ud83d" * 4]


def headers(value: Any) -> bytes:
    return json.dumps({"webhook": WEBHOOK, "ttl": 1, "headers": value}).encode()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *[(value, f"{HEADERS} be an object of texts by header names, got ") for value in NO_OBJECTS],
        ({}, f"{HEADERS} be 1 to 32 headers, got 0"),
        ({f"X-{number}": "" for number in range(HEADERS_MOST + 1)}, f"{HEADERS} be 1 to 32 headers, got 33"),
        ({"X": "x" * HEADERS_BYTES}, f"{HEADERS} have at most 8192 characters, names and values of all, got 8193"),
        ({"X": 1}, 'headers: "X" must be a text, got 1'),
        ({"X": "1", "Y": None}, 'headers: "Y" must be a text, got null'),
        ({"X": ["1"]}, 'headers: "X" must be a text, got an array'),
        *[
            (
                {name: "1"},
                f"{HEADERS} have names of letters, digits and !#$%&'*+-.^_`|~ alone, got {json.dumps(name, ensure_ascii=False)}",
            )
            for name in ("", "X Y", "X:", "X\r\nEvil", "X\n", "Ü", "\0", "X\t", "(X)", "日")
        ],
        *[
            ({name: "1"}, f"{HEADERS} not have {name}: ")
            for name in (
                *sorted(OF_THE_CONNECTION),
                "HOST",
                "Content-LENGTH",
                "Schedule-Key",
                "SCHEDULE-anything",
                "Webhook-Id",
                "traceparent",
            )
        ],
        ({"X-A": "1", "x-a": "1"}, f"{HEADERS} have each name once, got X-A and x-a"),
        *[
            (
                {"X": f"ab{character}c"},
                f"headers: X must be visible characters of Latin-1 and spaces, got {json.dumps(character)} as",
            )
            for character in ("\n", "\r", "\0", "\t", "\x7f", "\x85", "\x9b", "€", "😀", "\u2028")
        ],
        *[({"X": value}, "headers: X must not begin or end with a space") for value in (" ", " a", "a ", "\xa0a")],
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_headers_that_cannot_be_sent_are_refused(value: Any, said: str, update: bool) -> None:
    if update and value is None:
        return  # the default again
    found = refused(headers(value), update)
    assert str(found).startswith(said)
    assert (found.code, found.field) == (Code.INVALID_VALUE, "headers")


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("second", ['"X":"2"', '"\\u0058":"1"'])
def test_a_header_that_is_given_twice_is_refused(second: str, update: bool) -> None:
    text = f'{{"webhook":"{WEBHOOK}","ttl":1,"headers":{{"X":"1",{second}}},"data":1}}'
    found = refused(text.encode(), update)
    assert (str(found), found.code) == ('headers: "X" is given twice, got a text and a text', Code.REPEATED_FIELD)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        *[({"method": method}, "method: must be POST, GET, PUT, PATCH or DELETE, got ") for method in NO_METHODS],
        *[
            (
                {"timeout": timeout},
                "timeout: must be a number of seconds from 0.001 to MAX_TIMEOUT, which is at most 86400 (a day), got ",
            )
            for timeout in NO_TIMEOUTS
        ],
        *[({"body": body}, "body: must be a text, ") for body in NO_TEXTS],
        *[
            ({"body_base64": body}, "body_base64: must be a text in base64 (RFC 4648, section 4), got ")
            for body in NO_BASE64
        ],
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_a_value_that_breaks_its_rule_is_refused(fields: dict[str, Any], said: str, update: bool) -> None:
    [name] = fields
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, **fields}).encode(), update)
    assert str(found).startswith(said)
    assert (found.code, found.field) == (Code.INVALID_VALUE, name)


SHORT = ["timeout", "ack_within", "expire", "retry_time", "retry_max", "retry_for"]


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("value", [0.0001, 0.00099, 1e-300])
def test_seconds_are_a_millisecond_at_least(value: float, update: bool) -> None:
    """They are kept in milliseconds: a shorter time would be none."""
    for name in SHORT:
        found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, name: value}).encode(), update)
        assert (found.field, found.code) == (name, Code.INVALID_VALUE)
        assert re.fullmatch(rf"{name}: must be .*a number of seconds from 0.001 to .*, got {value}", str(found))
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, "retry_times": [0, 1, value]}).encode(), update)
    assert str(found).startswith("retry_times: must be an array of 1 to 100 numbers of seconds, each 0 or from 0.001 ")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([], "an array of 0"),
        ([1] * 101, "an array of 101"),
        ([1, "2"], 'an array of 2 with "2" at index 1'),
        ([1, 2, [3]], "an array of 3 with [3] at index 2"),
    ],
)
def test_what_is_wrong_with_a_list_is_told(value: list[Any], got: str) -> None:
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, "retry_times": value}).encode(), False)
    assert str(found).endswith(f"(ten years), got {got}")


def test_seconds_may_be_a_millisecond() -> None:
    for name in SHORT:
        body = {"webhook": WEBHOOK, "ttl": 1, name: 0.001, "ack": name == "ack_within"}
        if name == "retry_max":
            body |= {"retry_backoff": "linear", "retry_time": 0.001}
        assert getattr(schedule_request(json.dumps(body).encode()), name) == 0.001


@pytest.mark.parametrize("name", ["method", "headers", "timeout", "body", "body_base64"])
def test_a_new_task_takes_no_null(name: str) -> None:
    assert str(refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, name: None}).encode())).startswith(f"{name}: must ")


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize(
    "fields", [{"data": 1, "body": ""}, {"data": None, "body_base64": ""}, {"body": "", "body_base64": ""}]
)
def test_only_one_content_is_taken(fields: dict[str, Any], update: bool) -> None:
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, **fields}).encode(), update)
    first, second = fields
    assert str(found) == f'{second}: must not be given beside {first}: a request has one body, got ""'
    assert (found.code, found.field) == (Code.CONTRADICTION, second)


@pytest.mark.parametrize("fields", [{"data": None}, {"body": ""}, {"body_base64": ""}])
def test_a_get_takes_no_content(fields: dict[str, Any]) -> None:
    found = refused(json.dumps({"webhook": WEBHOOK, "ttl": 1, "method": "GET", **fields}).encode())
    assert (found.code, found.field) == (Code.CONTRADICTION, "method")


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"X": "1"}, "body": "a"},
        {"method": "PUT", "body": 'a "quoted" text'},
        {"headers": {"X": '"a"'}, "timeout": 3, "data": {"headers": {}}},
    ],
)
def test_a_body_with_options_needs_no_diagnosis(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("redis_scheduler.api.requests.examined")
    schedule_request(json.dumps({"webhook": WEBHOOK, "ttl": 1, **fields}).encode())


@pytest.mark.parametrize("name", ["X\r\nContent-Length", "X\n", "Host", "content-length", "X"])
async def test_headers_that_foreign_hands_wrote_end_no_line_and_no_request(name: str) -> None:
    options = options_of(schedule_request(headers({"X": "1"})))
    foreign = {name: "1\r" if name == "X" else "1"}
    head = b',"webhook":"http://h/","ttl":1,"headers":%b' % json.dumps(foreign).encode()
    record = read_record(b'{"due":1,"head":%d%b}' % (len(head), head))
    assert record.options.headers == foreign
    assert options.headers == {"X": "1"}
    with pytest.raises(ValueError, match="cannot have taken"):
        request_of(record)


async def test_base64_that_foreign_hands_wrote_is_not_sent() -> None:
    with pytest.raises(ValueError, match=r"base64|padding"):
        request_of(read_record(b'{"due":1,"head":30,"webhook":"http://h/","ttl":1,"body_base64":"?"}'))


def test_a_method_is_checked_with_the_content_alone() -> None:
    for data in (None, b"1"):
        check_method(options_of(schedule_request(headers({"X": "1"}))), data)
