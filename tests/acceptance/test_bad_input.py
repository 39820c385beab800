"""Bad input: a 4xx with a sentence that helps, always JSON; and nothing is written."""

import base64
import json
import re
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import Code
from redis_scheduler.task.given import quoted
from tests.support.service import TOKEN, Client, Process
from tests.support.written import written

GOOD = {"webhook": "http://127.0.0.1:9/", "ttl": 60}
STATUS_OF = {code.word: code.status for code in Code}
JSON = {"Content-Type": "application/json"}


async def refused(api: Client, raw: redis.asyncio.Redis, method: str, path: str, **options: Any) -> tuple[int, str]:
    """Send what must be refused; return the status and the sentence."""
    keys_before = {*await written(raw)}
    status, content = await api.call(method, path, **options)
    assert 400 <= status < 500
    assert set(content) - {"field"} == {"status", "error", "code"}
    assert STATUS_OF[content["code"]] == status
    if re.match(r"\S+: ", content["error"]):
        assert content["error"].startswith(quoted(content["field"])[1:-1])
    assert {*await written(raw)} == keys_before
    error: str = content["error"]
    assert "Traceback" not in error
    return status, error


NO_WEBHOOKS: list[Any] = [None, 5, True, [], "", "x", "/path", "//host/"]
NO_HOSTS = [
    "h%0d%0aX",
    "<h>",
    '"',
    ".",
    "a..b",
    "a" * 300,
    "[v1.x]",
    "127.1",
    "1.2.3.4.5",
    "256.1.1.1",
    "-h",
    "h_é"[:1] + "%",
]
TIME = "2200-01-31T09:00:00+01:00"
NO_TIMES: list[Any] = [
    *(None, True, 5, 1.5e12, [], {}, "", " ", "now", "2200", "2200-01-31", "09:00:00Z", "20200131T090000Z"),
    *("2200-01-31T09:00:00", "2200-01-31T09:00:00+1", "2200-01-31T09:00:00+0100", "2200-01-31T09:00:00+24:00"),
    *("2200-01-31T09:00Z", "2200-01-31 09:00:00Z", "2200-01-31T24:00:00Z", "2200-01-31T09:60:00Z"),
    *("2200-02-30T09:00:00Z", "2200-13-01T09:00:00Z", "2200-00-01T09:00:00Z", "2200-01-00T09:00:00Z"),
    *("2200-01-31T09:00:61Z", "2200-01-31T09:00:60Z", "2200-01-30T23:59:60Z", "2200-01-31T09:00:00.Z"),
    *("10000-01-01T00:00:00Z", "-2200-01-31T09:00:00Z", "9999-12-31T23:59:59-00:01", "NaN", "Infinity"),
    *(f"{TIME}\n", f" {TIME}", f"{TIME}[Europe/Berlin]", f"2200-01-31T09:00:00.{'1' * 200}Z", "x" * 8_000),
    *("２２００-01-31T09:00:00Z", "2200-01-31T09:00:00\u22121:00", "2200-01-31T09:00:00\0Z", "2200-W05-5T09:00:00Z"),
]
NO_TTLS: list[Any] = [-1, -0.001, 1e300, "5", True, False, None, [], {}, 10**30, 315_360_001]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *[({"webhook": webhook}, "webhook") for webhook in NO_WEBHOOKS],
        *[({"webhook": f"{scheme}://host/"}, "http or https") for scheme in ("file", "ftp", "javascript", "unix")],
        ({"webhook": "file:///etc/passwd"}, "http or https"),
        ({"webhook": "http:///path"}, "host"),
        ({"webhook": "http://:80/"}, "host"),
        ({"webhook": "http://user:secret@host/"}, "user"),
        ({"webhook": "http://user@host/"}, "user"),
        ({"webhook": "http://host:99999/"}, "webhook"),
        ({"webhook": "http://host:0/"}, "port"),
        ({"webhook": "http://host:x/"}, "webhook"),
        ({"webhook": "http://[::1/"}, "webhook"),
        ({"webhook": "http://ho st/"}, "spaces"),
        ({"webhook": "http://host/a b"}, "spaces"),
        ({"webhook": "http://host/\r\nX-Evil: 1"}, "control"),
        ({"webhook": "http://host/\n"}, "control"),
        ({"webhook": "http://host/\0"}, "control"),
        ({"webhook": "http://host/" + "a" * 4100}, "4096"),
        *[({"webhook": f"http://{host}/"}, "webhook") for host in NO_HOSTS],
        *[({"ttl": ttl}, "ttl") for ttl in NO_TTLS],
        *[({"ttl": None, "at": at}, "ttl") for at in (TIME, None)],
        ({"at": TIME}, "at: must not be given beside ttl"),
        ({"color": "red"}, "color"),
        ({"x\r\nX-Evil: 1": 1}, "unknown field; known: webhook, ttl, at, data"),
    ],
)
async def test_a_bad_field_is_named(api: Client, raw: redis.asyncio.Redis, change: dict[str, Any], said: str) -> None:
    status, error = await refused(api, raw, "POST", "/schedule", json=GOOD | change)
    assert status in (400, 413)
    assert said in error


@pytest.mark.parametrize("at", NO_TIMES)
async def test_a_time_that_is_none_is_told_with_its_rule(api: Client, raw: redis.asyncio.Redis, at: Any) -> None:
    key = await api.schedule(GOOD["webhook"], 60)  # type: ignore[arg-type]  # it is text
    before = await raw_get(api, f"/schedule/{key}")
    for method, path, body in (
        ("POST", "/schedule", {"webhook": GOOD["webhook"], "at": at}),
        ("PATCH", f"/schedule/{key}", {"at": at}),
    ):
        status, error = await refused(api, raw, method, path, json=body)
        assert (status, error.partition(", such as ")[0]) == (400, "at: must be an RFC 3339 time with its offset")
    assert await raw_get(api, f"/schedule/{key}") == before


async def test_a_task_has_one_due_time(api: Client, raw: redis.asyncio.Redis) -> None:
    key = await api.schedule(GOOD["webhook"], 60)  # type: ignore[arg-type]  # it is text
    both = (400, f'at: must not be given beside ttl: a task has one due time, got "{TIME}"')
    assert await refused(api, raw, "POST", "/schedule", json=GOOD | {"at": TIME}) == both
    assert await refused(api, raw, "PATCH", f"/schedule/{key}", json={"ttl": 1, "at": TIME}) == both


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "01", "+1", "0x10", ".5"])
async def test_a_ttl_that_is_no_json_number_is_refused(api: Client, raw: redis.asyncio.Redis, number: str) -> None:
    body = f'{{"webhook":"http://127.0.0.1:9/","ttl":{number}}}'
    assert (await refused(api, raw, "POST", "/schedule", data=body, headers=JSON))[0] == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"ttl=5&webhook=x", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"webhook":"http://h/","ttl":1,"data":"\xff"}', "not JSON"),
        (b'{"webhook":"http://h/","ttl":1}{}', "not JSON"),
        (b"[]", "object"),
        (b"5", "object"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b"{}", "webhook"),
        (b'{"webhook":"http://h/"}', "ttl"),
        (b'{"ttl":1}', "webhook"),
    ],
)
async def test_a_body_that_is_not_a_schedule_is_refused(
    api: Client, raw: redis.asyncio.Redis, body: bytes, said: str
) -> None:
    status, error = await refused(api, raw, "POST", "/schedule", data=body, headers=JSON)
    assert status == 400
    assert said in error


@pytest.mark.parametrize("depth", [127, 128, 900, 990])
@pytest.mark.parametrize("pair", [b"[]", b'{"[":}'])
async def test_nesting_is_kept_up_to_the_limit_and_refused_beyond(
    api: Client, raw: redis.asyncio.Redis, depth: int, pair: bytes
) -> None:
    # The object around it is a level too; what stands in a text is none.
    data = pair[:-1] * (depth - 1) + b'["[[[{{{"]' + pair[-1:] * (depth - 1)
    body = b'{"webhook":"http://h/","ttl":60,"data":' + data + b"}"
    options: dict[str, Any] = {"data": body, "headers": JSON}
    if depth == 127:
        status, content = await api.call("POST", "/schedule", **options)
        assert status == 200
        assert data in await raw_get(api, f"/schedule/{content['key']}")
    else:
        status, error = await refused(api, raw, "POST", "/schedule", **options)
        assert (status, "nested" in error) == (400, True)


async def raw_get(api: Client, path: str) -> bytes:
    async with api.session.get(api.url + path, headers=api.headers) as response:
        assert response.status == 200
        return await response.read()


@pytest.mark.parametrize(
    "change",
    [{"ttl": -1}, {"ttl": "5"}, {"webhook": "file:///x"}, {"webhook": None}, {"key": "x"}, {}, {"ttl": None}],
)
async def test_a_bad_update_changes_nothing(api: Client, raw: redis.asyncio.Redis, change: dict[str, Any]) -> None:
    key = await api.schedule(GOOD["webhook"], 60)  # type: ignore[arg-type]  # it is text
    before = await raw_get(api, f"/schedule/{key}")
    assert (await refused(api, raw, "PATCH", f"/schedule/{key}", json=change))[0] == 400
    assert await raw_get(api, f"/schedule/{key}") == before


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=x", "limit=10001", "limit=", "limit=1&limit=2", "limit=٣"]
)
async def test_a_bad_limit_is_refused(api: Client, raw: redis.asyncio.Redis, query: str) -> None:
    status, error = await refused(api, raw, "GET", f"/schedules?{query}")
    assert (status, "limit" in error) == (400, True)


POSITIONS = [
    "queue",
    "queue *",
    "due x y",
    "queue 99999999999999999999999999-0 {}",
    "queue 1-2-3 {}",
    f"queue {2**64}-0 {{}}",
    f"queue 1-{2**64} {{}}",
    f"queue {10**20 - 1}-1 {{}}",
    "due 1-0 {}",
    "due 1--2 {}",
]
FOREIGN_CURSORS = ["x", "!!!!", "a" * 3000] + [
    base64.urlsafe_b64encode(position.format("A" * 22).encode()).decode().rstrip("=") for position in POSITIONS
]


@pytest.mark.parametrize("cursor", FOREIGN_CURSORS)
async def test_a_foreign_cursor_is_refused(api: Client, raw: redis.asyncio.Redis, cursor: str) -> None:
    status, error = await refused(api, raw, "GET", f"/schedules?cursor={cursor}")
    assert (status, "cursor" in error) == (400, True)


@pytest.mark.parametrize(
    "query", ["type=", "type=%0d%0aX", "type=" + "a" * 101, "type=a&type=b", "kind=a", "type=%FF", "type=%ED%A0%80"]
)
async def test_a_bad_type_is_refused(api: Client, raw: redis.asyncio.Redis, query: str) -> None:
    assert (await refused(api, raw, "POST", f"/schedule?{query}", json=GOOD))[0] == 400


@pytest.mark.parametrize(
    "value",
    [None, "", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "Bearer", "Bearer ", f"Basic {TOKEN}", "é", "日本"],
)
async def test_another_token_is_refused(api: Client, raw: redis.asyncio.Redis, value: str | None) -> None:
    api.headers = {} if value is None else {"Authorization": value}
    for method, path in (
        ("GET", "/stats"),
        ("GET", "/schedules"),
        ("POST", "/schedule"),
        ("POST", "/purge"),
        ("DELETE", "/schedules"),
        ("GET", "/schedule/x"),
        ("GET", "/nothing"),
        ("POST", "/"),
    ):
        assert (await refused(api, raw, method, path))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/schedule/", 404),
        ("GET", "/schedule/a/b", 404),
        ("GET", "/schedule/a%2Fb", 404),
        ("GET", "/schedule/unknown", 404),
        ("GET", "/schedule/" + "k" * 10_000, 404),
        ("DELETE", "/schedule/%00", 404),
        ("DELETE", "/schedule/é", 404),
        ("PATCH", "/schedule/unknown", 404),
        ("POST", "/schedule/unknown", 405),
        ("GET", "/schedule", 405),
        ("PUT", "/schedule", 405),
        ("DELETE", "/stats", 405),
        ("GET", "/purge", 405),
        ("POST", "/", 405),
    ],
)
async def test_an_unknown_path_key_or_method_is_refused(
    api: Client, raw: redis.asyncio.Redis, method: str, path: str, status: int
) -> None:
    options = {"json": {"ttl": 1}} if method == "PATCH" else {}
    assert (await refused(api, raw, method, path, **options))[0] == status


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "x",
        "application/jsonp",
        "application/json" + "; " * 500 + ";charset=x",
    ],
)
async def test_another_content_type_is_refused(api: Client, raw: redis.asyncio.Redis, content_type: str) -> None:
    options = {"data": json.dumps(GOOD), "headers": {"Content-Type": content_type}}
    assert (await refused(api, raw, "POST", "/schedule", **options))[0] == 415


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/schedules?type=mail"), ("POST", "/purge?x=1"), ("GET", "/stats?x=1")]
)
async def test_a_parameter_that_would_be_passed_over_is_refused(
    api: Client, raw: redis.asyncio.Redis, method: str, path: str
) -> None:
    await api.schedule("http://127.0.0.1:9/", 60)
    assert (await refused(api, raw, method, path))[0] == 400
    assert (await api.stats())["running_schedules"] == 1


async def test_a_field_in_the_query_is_told_where_it_belongs(api: Client, raw: redis.asyncio.Redis) -> None:
    for path, known in (("/schedule?ttl=5", "type"), ("/schedule?webhook=x&type=y", "type"), ("/purge?data=1", "none")):
        name = path.partition("?")[2].partition("=")[0]
        said = f"{name}: is not a parameter here; it is a field of the body; known: {known}"
        assert await refused(api, raw, "POST", path, json=GOOD) == (400, said)


async def test_very_many_parameters_are_refused_unread(api: Client, raw: redis.asyncio.Redis) -> None:
    for query in ("a&" * 20, "a=1&" * 10_000, "&" * 20):
        known = "type, state, host, key_prefix, due_after, due_before, label, repeats, shard, limit, cursor"
        said = f"The query has more than 20 parameters; known: {known}"
        assert await refused(api, raw, "GET", f"/schedules?{query}") == (400, said)
    assert (await api.call("GET", "/schedules?limit=1&" + "&" * 18))[0] == 200


async def test_what_was_given_is_told_up_to_a_length(api: Client, raw: redis.asyncio.Redis) -> None:
    for query, said in (
        ("type=%0d", 'type: must be 1 to 100 printable characters, got "\\r"'),
        (f"type={'ü' * 101}", f'type: must be 1 to 100 printable characters, got "{"ü" * 60}…"'),
        (f"{'n' * 101}=1", f"{'n' * 60}…: is not a parameter here; known: type"),
    ):
        assert await refused(api, raw, "POST", f"/schedule?{query}", json=GOOD) == (400, said)
    assert (await refused(api, raw, "GET", "/schedules?limit=0"))[1].endswith('from 1 to 10000, got "0"')
    headers = {"Content-Type": "text/plain; " + "x" * 100}
    _, said = await refused(api, raw, "POST", "/schedule", data="{}", headers=headers)
    assert said == f'Content-Type: must be application/json, in UTF-8, got "text/plain; {"x" * 48}…"'
    _, said = await refused(api, raw, "POST", "/schedule", data="{}", headers=JSON | {"Content-Encoding": "gzip"})
    assert said == 'Content-Encoding: must be identity, got "gzip"'


async def test_a_field_that_is_given_twice_changes_nothing(api: Client, raw: redis.asyncio.Redis) -> None:
    body = b'{"webhook":"http://127.0.0.1:9/","ttl":60,"\\u0074tl":5}'
    assert await refused(api, raw, "POST", "/schedule", data=body, headers=JSON) == (
        400,
        "ttl: is given twice, got 60 and 5",
    )
    key = await api.schedule(GOOD["webhook"], 60)  # type: ignore[arg-type]  # it is text
    before = await raw_get(api, f"/schedule/{key}")
    options: dict[str, Any] = {"data": b'{"data":1,"data":1}', "headers": JSON}
    assert await refused(api, raw, "PATCH", f"/schedule/{key}", **options) == (400, "data: is given twice, got 1 and 1")
    assert await raw_get(api, f"/schedule/{key}") == before


async def test_a_405_names_every_method_of_the_path(api: Client) -> None:
    for path, methods in (
        ("/stats", {"GET", "HEAD"}),
        ("/schedules", {"GET", "HEAD", "POST", "DELETE"}),
    ):
        async with api.session.patch(api.url + path, headers=api.headers) as response:
            assert set(response.headers["Allow"].split(", ")) == methods
            said = (await response.json())["error"]
        assert said == f"This path does not take PATCH, but {response.headers['Allow']}"


async def test_the_token_is_in_no_log(api_process: Process, api: Client) -> None:
    await api.call("GET", "/stats")
    assert TOKEN not in api_process.log
