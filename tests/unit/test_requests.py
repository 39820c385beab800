"""Bodies: each fault is told in the API's own words, with what was given; what JSON allows is taken byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from redis_scheduler.api import requests
from redis_scheduler.api.bodies import ScheduleRequest, refusal
from redis_scheduler.api.requests import schedule_request, update_request
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.task.options import NAMES

URL = "http://127.0.0.1:9/"
TTL_RULE = "ttl: must be a number of seconds from 0 to 315360000 (ten years)"
WEBHOOK_RULE = "webhook: must be an absolute http or https URL"
KNOWN = f"known: {', '.join(ScheduleRequest.__struct_fields__)}"


def said_of(body: bytes, update: bool = False) -> str:
    """Return what is said of a body that must be refused."""
    with pytest.raises(InvalidRequest) as caught:
        (update_request if update else schedule_request)(body)
    said = str(caught.value)
    json.dumps(said).encode()
    said.encode()  # it can be sent
    assert len(said) < 450
    return said


def body_of(**texts: str) -> bytes:
    """A body of members whose values are JSON texts."""
    return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}").encode()


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ('"5m"', '"5m"'),
        ('"5"', '"5"'),
        ('""', '""'),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
        ("[5]", "[5]"),
        ('{"seconds":5}', '{"seconds":5}'),
        ("-1", "-1"),
        ("-0.001", "-0.001"),
        ("315360001", "315360001"),
        ("1" + "0" * 30, "1" + "0" * 30),
        ("1e300", "1e300"),
        ("1e400", "1e400"),
        ("9" * 5000, "9" * 60 + "…"),
        ('"' + "x" * 500 + '"', '"' + "x" * 59 + "…"),
        ('"\\ud83d"', '"\\ud83d"'),
        ('"ü"', '"ü"'),
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_a_ttl_that_is_none_is_told_with_the_rule_and_what_was_given(text: str, got: str, update: bool) -> None:
    body = body_of(webhook=f'"{URL}"', ttl=text)
    assert said_of(body, update) == f"{TTL_RULE}, got {got}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", f"{WEBHOOK_RULE}, got 5"),
        ("null", f"{WEBHOOK_RULE}, got null"),
        ("true", f"{WEBHOOK_RULE}, got true"),
        ("[]", f"{WEBHOOK_RULE}, got an array"),
        ('{"url":"x"}', f"{WEBHOOK_RULE}, got an object"),
        ('""', f'{WEBHOOK_RULE}, got no scheme in ""'),
        ('"example.com/hook"', f'{WEBHOOK_RULE}, got no scheme in "example.com"'),
        ('"hidden@example.com/hidden"', f'{WEBHOOK_RULE}, got no scheme in "example.com"'),
        ('"localhost:9000/hook"', f'{WEBHOOK_RULE}, got the scheme "localhost"'),
        ('"ftp://h/"', f'{WEBHOOK_RULE}, got the scheme "ftp"'),
        ('"http://h/a b"', 'webhook: must not hold spaces or control characters, got " " as character 11'),
        ('"http://h/\\n"', 'webhook: must not hold spaces or control characters, got "\\n" as character 10'),
        (
            '"http://h/\\ud83d"',
            'webhook: must not hold half a surrogate pair (half an emoji), got "\\ud83d" as character 10',
        ),
        (
            '"http://\\udc00h/"',
            'webhook: must not hold half a surrogate pair (half an emoji), got "\\udc00" as character 8',
        ),
        (f'"http://h/{"a" * 5000}"', "webhook: must be at most 4096 characters, got 5009"),
        ('"http://user:hidden@h/"', "webhook: must not hold a user or password"),
        ('"http://user:hid℀den@h/"', "webhook: must not hold a user or password"),
        ('"http://hidden@h:x/"', "webhook: must not hold a user or password"),
        ('"http:///path"', 'webhook: must have a host, got "http://"'),
        ('"http://h:0/"', 'webhook: must have a port from 1 to 65535, without leading zeros, got "0"'),
        ('"http://h:65536/"', 'webhook: must have a port from 1 to 65535, without leading zeros, got "65536"'),
        ('"http://h:x/"', 'webhook: must have a port from 1 to 65535, without leading zeros, got "x"'),
        ('"http://127.1/"', 'webhook: must have a host name or address that can exist, got "127.1"'),
        ('"http://[::1/"', 'webhook: must have a host name or address that can exist, got "http://[::1"'),
        ('"http://a℀b/hidden"', 'webhook: must have a host name or address that can exist, got "http://a℀b"'),
        (f'"http://{"a" * 300}/"', f'webhook: must have a host name or address that can exist, got "{"a" * 60}…"'),
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_a_webhook_that_is_none_is_told_with_the_part_that_is_wrong(text: str, said: str, update: bool) -> None:
    found = said_of(body_of(webhook=text, ttl="1"), update)
    assert found == said
    assert "hidden" not in found


def test_a_missing_field_is_told_with_its_rule() -> None:
    assert said_of(b"{}") == "webhook: is missing; it must be an absolute http or https URL"
    assert said_of(body_of(webhook=f'"{URL}"')) == (
        "ttl: is missing; it must be a number of seconds from 0 to 315360000 (ten years), or give `at` instead"
    )
    assert said_of(body_of(ttl="1", data="{}")).startswith("webhook: is missing")
    assert (
        said_of(b"{}", update=True)
        == f"The body names nothing to change: give webhook, ttl, at, data, body, body_base64, {', '.join(NAMES[:-1])} or {NAMES[-1]}"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("onFailure", "it is written `on_failure`"),
        ("Retry-Time", "it is written `retry_time`"),
        ("bodyBase64", "it is written `body_base64`"),
        ("type", "?type="),
        *[(name, "`ttl`") for name in ("delay", "delaySeconds", "countdown", "TTL")],
        *[(name, "`at`") for name in ("AT", "run_at", "deliverAt", "not_before")],
        *[(name, "are `headers`") for name in ("content_type", "cookies")],
        *[(name, "is `method`") for name in ("http_method", "verb")],
        *[(name, "`repeat`") for name in ("cron", "interval")],
        *[(name, "`webhook`") for name in ("url", "callback", "Webhook", "endpoint")],
        *[(name, "`data`") for name in ("payload", "message")],
        *[(name, "`retries`") for name in ("max_retries", "backoff")],
        ("concurrency", "CONCURRENCY"),
        ("tags", "`labels`"),
        ("expires", "`expire`"),
        *[(name, "the service makes") for name in ("key", "id")],
        *[(name, "Authorization") for name in ("token", "api_key")],
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_an_unknown_field_names_the_known_ones_and_where_its_meaning_is(name: str, hint: str, update: bool) -> None:
    said = said_of(body_of(webhook=f'"{URL}"', ttl="1", **{name: '"hidden"'}), update)
    assert said.startswith(f"{name}: is an unknown field; ")
    assert hint in said
    assert said.endswith(KNOWN)
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("color", "color"),
        ("", '""'),
        ("\\ud83d", "�"),
        ("x\\r\\nX-Evil: 1", "x\\r\\nX-Evil: 1"),
        ("n" * 500, "n" * 60 + "…"),
        ("ü", "ü"),
        ("\\ud55c\\uad6d\\ud83d\\ude00", "한국😀"),
    ],
)
def test_an_unknown_field_of_any_name_is_told(name: str, shown: str) -> None:
    assert said_of(body_of(webhook=f'"{URL}"', ttl="1", **{name: "1"})) == f"{shown}: is an unknown field; {KNOWN}"


PAIRS = [
    (f'"webhook":"{URL}"', '"webhook":"http://other/"'),
    (f'"webhook":"{URL}"', f'"webhook":"{URL}"'),
    ('"ttl":1', '"ttl":1'),
    ('"ttl":1', '"\\u0074tl":2'),
    ('"\\u0074tl":1', '"\\u0074t\\u006c":2'),
    ('"data":1', '"data":1'),
    ('"data":""', '"d\\u0061ta":"\\""'),
    ('"data":null', '"data":{"a":[1,"\\\\"]}'),
    ('"data":{"data":1}', '"data":{"data":1}'),
]


def test_a_field_given_twice_is_refused_beside_escaped_quotes_in_an_option() -> None:
    body = f'{{"webhook":"{URL}","ttl":1,"headers":{{"A":"\\u0022\\u0022"}},"retries":1,"retries":2}}'
    assert said_of(body.encode()) == "retries: is given twice, got 1 and 2"


@pytest.mark.parametrize(
    "rule",
    [
        '"every":5,"every":5',
        '"every":5,"until":"2199-01-01T00:00:00Z","until":"2199-01-01T00:00:00Z"',
        '"cron":"* * * * *","tz":"UTC","t\\u007a":"UTC"',
        '"every":5,"times":3,"overlap":"skip","times":3',
        '"every":5,"missed":"latest","missed":"latest"',
    ],
)
def test_a_member_of_a_rule_given_twice_is_refused(rule: str) -> None:
    name = list(json.loads("{" + rule + "}"))[-1]
    twice = {"every": "every", "until": "until", "tz": "tz", "overlap": "times", "missed": "missed"}[name]
    body = f'{{"webhook":"{URL}","repeat":{{{rule}}}}}'.encode()
    value = json.dumps(json.loads("{" + rule + "}")[twice])
    assert said_of(body) == f"repeat.{twice}: is given twice, got {value} and {value}"


def test_a_rule_is_read_by_the_decoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at each member takes five times as long."""
    monkeypatch.setattr(requests, "examined", None)
    rules = ['"every":5,"until":"2199-01-01T00:00:00Z","times":3', '"cron":"0 9 * * 1","tz":"UTC","overlap":"skip"']
    for rule in rules:
        assert schedule_request(f'{{"webhook":"{URL}","data":"\\"","repeat":{{{rule}}}}}'.encode()).repeat


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("between", [",", " ,\n "])
@pytest.mark.parametrize("last", ["", ',"webhook":"http://h/a\\u0022b\\u0022"', ',"data":" \\" "'])
def test_a_field_given_twice_is_refused(first: str, second: str, between: str, last: str) -> None:
    name = json.loads("{" + second + "}").popitem()[0]
    others = {"webhook": f'"webhook":"{URL}"', "ttl": '"ttl":1'}
    given_names = {name, *json.loads("{" + last.removeprefix(",") + "}")}
    rest = "".join(f"{between}{text}" for field, text in others.items() if field not in given_names)
    if name in json.loads("{" + last.removeprefix(",") + "}"):
        last = ""
        rest = "".join(f"{between}{text}" for field, text in others.items() if field != name)
    values = [text.partition(":")[2] for text in (first, second)]
    got = "a text and a text" if name == "webhook" else " and ".join(values)
    for members in (first + between + second + rest + last, first + rest + last + between + second):
        assert said_of(("{" + members + "}").encode()) == f"{name}: is given twice, got {got}"
        assert said_of(("{ " + members + " }").encode(), update=True) == f"{name}: is given twice, got {got}"


def test_what_stands_twice_inside_data_is_the_receivers_matter() -> None:
    data = b'{"ttl":1,"ttl":1,"data":{"webhook":1,"webhook":1}}'
    for body in (b'{"data":%s,"ttl":1,"webhook":"http://h/"}', b'{"webhook":"http://h/","ttl":1,"data":%s}'):
        assert bytes(schedule_request(body % data).data) == data  # type: ignore[arg-type]  # it is given


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xef\xbb\xbf{}", "The body is not JSON: it begins with a byte order mark (BOM), which must be left out"),
        *[
            (text.encode(encoding), "The body is not JSON: it is UTF-16 or UTF-32, and must be UTF-8")
            for text in ('{"ttl":1}', '"x"', "{}")
            for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
        ],
        (b'{"data":"\xff"}', "The body is not JSON: it is not UTF-8, by its byte 10 (0xff)"),
        (b'{"data":"\xed\xa0\xbd"}', "The body is not JSON: it is not UTF-8, by its byte 10 (0xed)"),
        (b"ttl=5&webhook=x", "The body is not JSON: invalid character, at line 1, column 2"),
        (b'{"ttl":1,}', "The body is not JSON: trailing comma in object, at line 1, column 10"),
        (b'{"ttl":1', "The body is not JSON: it ends too early"),
        (b"{'ttl':1}", "The body is not JSON: object keys must be strings, at line 1, column 2"),
        (b'{"data":"\n"}', "The body is not JSON: invalid character, at line 1, column 10"),
        (b'{"data":"x', "The body is not JSON: it ends too early"),
        (b'{"ttl":1}{}', "The body is not JSON: trailing characters, at line 1, column 1"),
        (b'{\n "ttl":\n\n NaN}', "The body is not JSON: NaN is no number in it, at line 4, column 2"),
        (b'{"ttl":-Infinity}', "The body is not JSON: Infinity is no number in it, at line 1, column 9"),
        (b'{"data":[1,NaN]}', "The body is not JSON: NaN is no number in it, at line 1, column 12"),
        (b'{"ttl":01}', "The body is not JSON: invalid number, at line 1, column 9"),
        (b'{"data":"\\ud83d","ttl":.5}', "The body is not JSON: invalid character, at line 1, column 24"),
        (b"[]", "The body must be a JSON object, got an array"),
        (b"[{}]", "The body must be a JSON object, got an array"),
        (b" 5 ", "The body must be a JSON object, got 5"),
        (b'"text"', 'The body must be a JSON object, got "text"'),
        (b"null", "The body must be a JSON object, got null"),
        (b'"' + b"x" * 1000 + b'"', 'The body must be a JSON object, got "' + "x" * 59 + "…"),
        (b'"\\ud83d"', 'The body must be a JSON object, got "\\ud83d"'),
        (b"", "The body is empty: it must be a JSON object"),
        (b"[" * 100_000, "The body is nested more than 128 levels deep"),
        (b'{"a":' * 100_000, "The body is nested more than 128 levels deep"),
        (b'{"a":1', "The body is not JSON: it ends too early"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_as_what_it_is(body: bytes, said: str) -> None:
    for update in (False, True):
        assert said_of(body, update).startswith(said)


DATA = [
    '"\\ud83d\\ude00"',
    '{"text":"cut \\ud83d"}',
    '"cut \\ud83d and on"',
    '"\\ude00"',
    '["\\uD83D\\uD83D",  "\\udfff", 1e400, 12345678901234567890123 ]',
    '{"\\ud83d":1,"\\ud83d":2}',
    '"\\\\ud83d"',
    '"\\\\\\ud83d"',
    "9" * 5000 + ".5",
]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(
    "body",
    ['{"webhook":"http://h/","ttl":1.5,"data":%s}', '{ "data" :\t%s\n, "ttl":1.5, "w\\u0065bhook":"http:\\/\\/h/" } '],
)
def test_data_with_half_a_surrogate_pair_is_taken_as_it_is(data: str, body: str) -> None:
    text = (body % data).encode()
    for wanted in (schedule_request(text), update_request(text)):
        assert (wanted.webhook, wanted.ttl) == ("http://h/", 1.5)
        assert bytes(wanted.data) == data.encode()  # type: ignore[arg-type]  # it is given


def test_data_that_is_absent_is_not_null() -> None:
    assert schedule_request(body_of(webhook=f'"{URL}"', ttl="1")).data is UNSET
    assert bytes(schedule_request(body_of(webhook=f'"{URL}"', ttl="1", data="null")).data) == b"null"  # type: ignore[arg-type]


def test_a_webhook_with_quotes_is_taken() -> None:
    for escape in ('\\"', "\\u0022"):
        body = body_of(webhook=f'"http://h/a{escape}b{escape}"', ttl="1", data='"x\\"y"')
        assert schedule_request(body).webhook == 'http://h/a"b"'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["webhook", "ttl", "data", "color", "Data"]), VALUES | st.sampled_from([URL, 5])),
        max_size=5,
    ),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:  ")]),
    st.booleans(),
)
def test_any_object_is_taken_as_it_is_or_refused_in_own_words(
    members: list[tuple[str, Any]], separators: tuple[str, str], is_ascii: bool
) -> None:
    comma, colon = separators
    texts = [(name, json.dumps(value, ensure_ascii=is_ascii)) for name, value in members]
    body = "{" + comma.join(f'"{name}"{colon}{text}' for name, text in texts) + "}"
    try:
        encoded = body.encode()
    except UnicodeEncodeError:
        return  # a text with half a pair that is not escaped is no UTF-8
    names = [name for name, _ in members]
    found = dict(texts)
    ttl = json.loads(found.get("ttl", "null"))
    is_good = (
        set(names) <= {"webhook", "ttl", "data"}
        and len(names) == len(set(names))
        and found.get("webhook") == json.dumps(URL)
        and isinstance(ttl, int | float)
        and not isinstance(ttl, bool)
        and 0 <= ttl <= 315_360_000
    )
    if is_good:
        wanted = schedule_request(encoded)
        assert (wanted.webhook, wanted.ttl) == (URL, ttl)
        assert (wanted.data is UNSET) == ("data" not in found)
        assert wanted.data is UNSET or bytes(wanted.data) == found["data"].encode()
    else:
        said = said_of(encoded)
        assert said.split(":")[0] in {"webhook", "ttl", "data", "color", "Data"}
        assert "`$" not in said


HALF = '"\\ud83d"'


@pytest.mark.parametrize(
    "member",
    [
        f'"headers":{{{HALF}:"1",{HALF}:"2"}}',
        f'"headers":{{{HALF}:1}}',
        f'"headers":{{"X-A":{HALF},"X-B":1}}',
        f'"labels":{{{HALF}:1,{HALF}:2}}',
        f'"labels":{{"a":{HALF}}}',
        f'"repeat":{{{HALF}:1}}',
        f'"repeat":{{"cron":{HALF}}}',
        f'"repeat":{{"every":60,"until":{HALF}}}',
        f'"on_success":{{{HALF}:1}}',
        f'"on_success":{{"webhook":{HALF}}}',
        f'"on_success":{{"webhook":"http://h/","type":{HALF}}}',
        f'"on_success":{{"webhook":"http://h/","headers":{{{HALF}:{HALF}}}}}',
        f"{HALF}:1",
        f'"final_statuses":{HALF}',
        f'"retry_times":[{HALF}]',
    ],
)
def test_half_an_emoji_can_be_told_of(member: str) -> None:
    """No answer can hold it as it is."""
    with pytest.raises(InvalidRequest) as error:
        schedule_request(f'{{"webhook":"http://h/","ttl":1,{member}}}'.encode())
    assert refusal(error.value.code, str(error.value), error.value.field)
