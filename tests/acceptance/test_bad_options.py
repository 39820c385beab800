"""Each field with each kind of wrong value, on each route that takes it: refused with its name and what was given, and
nothing written."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.bodies import BatchItem
from redis_scheduler.process.moving import SHOWN_MOST
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.given import SHOWN_LENGTH, quoted
from redis_scheduler.task.options import CALLBACKS, NAMES, Callback
from redis_scheduler.task.repeat import Repeat
from tests.support.names import KEYS_OF_SHARDS, SHARDS
from tests.support.service import Client, run
from tests.support.written import written

HOOK = "http://127.0.0.1:9/"
JSON = {"Content-Type": "application/json"}

VALUES = {
    "null": "null",
    "true": "true",
    "an empty text": '""',
    "a text": '"x"',
    "unicode": '"é😀"',
    "control characters": '"\\u0000\\r\\nX-Evil: 1"',
    "half an emoji": '"\\ud83d"',
    "a number as a text": '"5"',
    "NaN as a text": '"NaN"',
    "a negative number": "-1",
    "a small negative number": "-0.0001",
    "a huge number": "1e300",
    "more than a double holds": "1e400",
    "a huge whole number": "1" + "0" * 400,
    "no number": "NaN",
    "infinity": "-Infinity",
    "an empty list": "[]",
    "a list": "[null]",
    "an empty object": "{}",
    "an object": '{"color":{"a":[1]}}',
    "a deep object": '{"a":' * 200 + "1" + "}" * 200,
}
TEXTS = {"an empty text", "a text", "unicode", "control characters", "a number as a text", "NaN as a text"}
NO_JSON = {"no number", "infinity"}
MAY_BE_SECRET = {"webhook", "headers", "on_success", "on_failure"}
"""Of what these are given, errors say the kind alone, or the part that is wrong."""

WORDS = {'"': "a text", "{": "an object", "[": "an array"}
OBJECTS = {"an empty object", "an object", "a deep object"}

TAKEN: dict[str, set[str]] = {
    "data": set(VALUES) - NO_JSON - {"a deep object"},
    "body": TEXTS,
    "body_base64": {"an empty text"},
    "retries": {"a negative number"},
    "ack": {"true"},
    "include_data": {"true"},
    "event": {"true"},
    "type": {"a text", "unicode", "a number as a text", "NaN as a text"},
    "key": {"a text", "a number as a text", "NaN as a text"},
    "limit_key": {"a text", "a number as a text", "NaN as a text"},
}
"""What is no wrong value of a field."""

FIELDS = [name for name in BatchItem.__struct_fields__ if name not in ("type", "key")]
DEFAULTS: dict[str, Any] = {"webhook": HOOK, "ttl": 600}


def body_of(fields: dict[str, Any], name: str, value: str) -> str:
    """A body as text: the value may be no JSON."""
    if name == "at":
        fields = {other: given for other, given in fields.items() if other != "ttl"}
    members = [f"{json.dumps(other)}:{json.dumps(given)}" for other, given in fields.items() if other != name]
    return "{" + ",".join([*members, f'"{name}":{value}']) + "}"


def got_of(name: str, kind: str, content: dict[str, Any]) -> tuple[str, ...]:
    """How an error must show what was given: by its beginning. Of what may be an object, which member is wrong."""
    value = VALUES.get(kind, "1001")
    if content["code"] in ("unknown-field", "missing-field"):
        assert kind in OBJECTS, content
        return ("",)
    if name in ("headers", "labels") and value.startswith('{"'):
        return ("an object",) if name == "headers" else (value[value.index(":") + 1 : -1][:SHOWN_LENGTH],)
    if (name, value) in (("headers", "{}"), ("labels", "{}")):
        return ("0",)
    if name == "retry_times" and value.startswith("["):
        return ("an array of",)
    if name == "webhook" and value.startswith('"'):
        text = json.loads(value)
        return (
            (f"no scheme in {quoted(text)}", f"{json.dumps(text[0])} as character 1") if text else ('no scheme in ""',)
        )
    if name in MAY_BE_SECRET and value[0] in WORDS:
        return (WORDS[value[0]],)
    return (value[:SHOWN_LENGTH], quoted(json.loads(value)) if value.startswith('"') else value[:SHOWN_LENGTH])


async def assert_refused(
    api: Client, raw: redis.asyncio.Redis, method: str, path: str, body: str, field: str, kind: str
) -> None:
    before = await written(raw)
    status, content = await api.call(method, path, data=body.encode(), headers=JSON)
    about = (method, path, field, kind, content)
    assert status == 400, about
    assert await written(raw) == before, about
    if kind in NO_JSON or content["code"] == "too-deep":
        assert content["code"] in ("not-json", "too-deep"), about
        return
    assert content["field"] == field or content["field"].startswith(f"{field}."), about
    assert content["error"].startswith((field, f"tasks[0].{field}")), about
    assert len(content["error"]) < 1_000, about
    assert content["error"].partition(" got ")[2].startswith(got_of(field.split(".")[-1], kind, content)), about
    assert "\r" not in content["error"], about


@pytest.mark.parametrize("name", FIELDS)
async def test_a_wrong_value_is_refused_wherever_it_is_given(api: Client, raw: redis.asyncio.Redis, name: str) -> None:
    key = await api.schedule(HOOK, 600)
    await api.call("PUT", "/schedule/own", json=DEFAULTS)
    for kind, value in VALUES.items():
        if kind in TAKEN.get(name, ()):
            continue
        body = body_of(DEFAULTS, name, value)
        for method, path in (("POST", "/schedule"), ("PUT", "/schedule/own"), ("PUT", "/schedule/new")):
            await assert_refused(api, raw, method, path, body, name, kind)
        await assert_refused(api, raw, "POST", "/schedules", f'{{"tasks":[{body}]}}', name, kind)
        if kind != "null" or name in ("webhook", "ttl", "at"):
            await assert_refused(api, raw, "PATCH", f"/schedule/{key}", body_of({}, name, value), name, kind)


@pytest.mark.parametrize("name", Callback.__struct_fields__)
async def test_a_wrong_value_in_a_callback_is_refused(api: Client, raw: redis.asyncio.Redis, name: str) -> None:
    key = await api.schedule(HOOK, 600)
    for kind, value in VALUES.items():
        if kind in TAKEN.get(name, ()) and (name, kind) != ("data", "half an emoji"):
            continue
        callback = body_of({"webhook": HOOK}, name, value)
        for parent in CALLBACKS:
            body, field = body_of(DEFAULTS, parent, callback), f"{parent}.{name}"
            await assert_refused(api, raw, "POST", "/schedule", body, field, kind)
            await assert_refused(api, raw, "PATCH", f"/schedule/{key}", body_of({}, parent, callback), field, kind)


@pytest.mark.parametrize("name", Repeat.__struct_fields__)
async def test_a_wrong_value_of_how_a_task_repeats_is_refused(api: Client, raw: redis.asyncio.Redis, name: str) -> None:
    key = await api.schedule(HOOK, 600)
    rule = {"every": 60} if name not in ("cron", "tz") else {"cron": "* * * * *", "tz": "UTC"}
    for kind, value in VALUES.items():
        repeat, field = body_of(rule, name, value), f"repeat.{name}"
        for method, path, body in (
            ("POST", "/schedule", body_of(DEFAULTS, "repeat", repeat)),
            ("PATCH", f"/schedule/{key}", body_of({}, "repeat", repeat)),
            ("POST", "/repeat/preview", body_of({}, "repeat", repeat)),
        ):
            await assert_refused(api, raw, method, path, body, field, kind)


@pytest.mark.parametrize("name", ["type", "key"])
async def test_a_wrong_name_in_a_batch_is_refused(api: Client, raw: redis.asyncio.Redis, name: str) -> None:
    for kind, value in VALUES.items():
        if kind not in TAKEN[name]:
            body = f'{{"tasks":[{body_of(DEFAULTS, name, value)}]}}'
            await assert_refused(api, raw, "POST", "/schedules", body, name, kind)


@pytest.mark.parametrize("name", [name for name in FIELDS if name in TAKEN])
async def test_what_is_no_wrong_value_is_taken(api: Client, name: str) -> None:
    for kind in TAKEN[name]:
        status, content = await api.call("POST", "/schedule", data=body_of(DEFAULTS, name, VALUES[kind]), headers=JSON)
        assert status == 200, (kind, content)


LATER = "2199-01-01T00:00:00Z"
CONTRADICTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"ttl": 5, "at": LATER}, "at", f'"{LATER}"'),
    ({"data": 1, "body": "x"}, "body", '"x"'),
    ({"body": "x", "body_base64": "eA=="}, "body_base64", '"eA=="'),
    ({"method": "GET", "data": 1}, "method", "GET"),
    ({"retries": 0, "retry_time": 5}, "retry_time", "5"),
    ({"retry_times": [7, 8], "retry_backoff": "linear"}, "retry_backoff", '"linear"'),
    ({"retry_times": [7, 8], "retry_jitter": 0, "expire": 6}, "expire", "6"),
    ({"ack_within": 5}, "ack_within", "5"),
    ({"repeat": {"times": 5}}, "repeat.every", '{"times":5}'),
    ({"repeat": {"every": 5, "tz": "UTC"}}, "repeat.tz", '"UTC"'),
    ({"repeat": {"cron": "0 0 30 2 *"}}, "repeat.cron", '"0 0 30 2 *"'),
    ({"repeat": {"every": 5, "until": "2001-01-01T00:00:00Z"}}, "repeat.until", '"2001-01-01T00:00:00Z"'),
    ({"repeat": {"every": 5, "missed": "all", "overlap": "skip"}}, "repeat.overlap", '"skip"'),
    ({"on_success": {"webhook": HOOK, "ttl": 5, "at": LATER}}, "on_success.at", f'"{LATER}"'),
    ({"on_success": {"webhook": HOOK, "repeat": {"every": 5}}}, "on_success.repeat", '{"every":5}'),
    ({"on_success": {"webhook": HOOK, "method": "GET", "data": [1]}}, "on_success.data", "[1]"),
    ({"on_success": {"webhook": HOOK, "method": "GET", "include_data": True}}, "on_success.include_data", "true"),
    ({"on_failure": {"webhook": HOOK, "event": False, "include_data": True}}, "on_failure.event", "false"),
    ({"on_failure": {"webhook": HOOK, "type": ALERT_TYPE}}, "on_failure.type", f'"{ALERT_TYPE}"'),
    ({"webhook": HOOK + "x" * 4096}, "webhook", str(len(HOOK) + 4096)),
    ({"webhook": "http://a:99999/"}, "webhook", '"99999"'),
]


@pytest.mark.parametrize(("fields", "name", "got"), CONTRADICTIONS)
async def test_what_contradicts_the_rest_is_shown_as_it_was_given(
    api: Client, raw: redis.asyncio.Redis, fields: dict[str, Any], name: str, got: str
) -> None:
    key = await api.schedule(HOOK, 600)
    whole = DEFAULTS | fields
    before = await written(raw)
    for method, path, body in (
        ("POST", "/schedule", whole),
        ("PUT", "/schedule/own", whole),
        ("PATCH", f"/schedule/{key}", fields),
        ("POST", "/schedules", {"tasks": [whole]}),
    ):
        status, content = await api.call(method, path, json=body)
        assert (status, content["field"]) == (400, name), (method, path, content)
        assert content["error"].endswith(f", got {got}"), (method, path, content)
    assert await written(raw) == before


@pytest.mark.parametrize(
    ("name", "first", "second", "got"),
    [
        ("ttl", "1", "2", "1 and 2"),
        ("data", '"a"', '{"a":\r\n1}', '"a" and {"a": 1}'),
        ("type", '"a"', '"b"', '"a" and "b"'),
        ("webhook", '"http://a:hidden@b"', "5", "a text and 5"),
        ("headers", '{"X":"hidden"}', '"hidden"', "an object and a text"),
        ("retries", "1" * 100, "2", "1" * SHOWN_LENGTH + "… and 2"),
    ],
)
async def test_what_is_given_twice_is_shown_twice(
    api: Client, raw: redis.asyncio.Redis, name: str, first: str, second: str, got: str
) -> None:
    body = body_of(DEFAULTS, name, f'{first},"{name}":{second}')
    before = await written(raw)
    for path, text in (("/schedule", body), ("/schedules", f'{{"tasks":[{body}]}}')):
        if (path, name) == ("/schedule", "type"):
            continue
        status, content = await api.call("POST", path, data=text.encode(), headers=JSON)
        assert (status, content["code"], content["field"]) == (400, "repeated-field", name), content
        assert content["error"].endswith(f"{name}: is given twice, got {got}"), content
    assert await written(raw) == before


async def test_a_field_that_is_given_very_often_is_not_kept(api: Client) -> None:
    """A million values would be kept to show two of them."""
    body = body_of(DEFAULTS, "ttl", "1" + ',"ttl":2' * 1_000)
    status, content = await api.call("POST", "/schedule", data=body, headers=JSON)
    assert (status, content["code"], content.get("field")) == (400, "repeated-field", "ttl"), content


async def test_a_label_that_is_given_twice_is_shown_twice(api: Client) -> None:
    labels = '{"order":"17","order":"18"}'
    status, content = await api.call("POST", "/schedule", data=body_of(DEFAULTS, "labels", labels), headers=JSON)
    assert (status, content["error"]) == (400, 'labels: "order" is given twice, got "17" and "18"')


@pytest.mark.parametrize(
    ("method", "path", "name", "got"),
    [
        ("GET", "/schedules?cursor=none", "cursor", '"none"'),
        ("GET", "/dead?cursor=none", "cursor", '"none"'),
        ("GET", "/schedules?limit=0", "limit", '"0"'),
        ("GET", "/schedules?type=a&type=b", "type", '"a" and "b"'),
        ("GET", "/schedules?type=", "type", '""'),
        ("POST", "/schedules/cancel?key_prefix=a&cursor=none", "cursor", '"none"'),
        ("POST", "/schedules/cancel?key_prefix=a&dry_run=true&cursor=none", "cursor", '"none"'),
        ("POST", "/schedules/run?repeats=true", "repeats", "true"),
        ("POST", "/schedules/run?rate=0", "rate", '"0"'),
        ("POST", "/schedules/shift?by=soon", "by", '"soon"'),
        ("POST", "/dead/replay?rate=-1", "rate", '"-1"'),
        ("POST", "/dead/delete?host=a&operation=a&dry_run=true", "operation", '"a"'),
    ],
)
async def test_a_wrong_parameter_is_shown_as_it_was_given(
    api: Client, method: str, path: str, name: str, got: str
) -> None:
    status, content = await api.call(method, path)
    assert (status, content["field"]) == (400, name), content
    assert content["error"].endswith(f", got {got}")


def compact(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))


@pytest.mark.parametrize(
    ("body", "name", "got"),
    [
        ({"per": 5}, "per", "5"),
        ({"rate": 0, "per": 5}, "per", "5"),
        ({"concurrency": "many"}, "concurrency", '"many"'),
        ({"rate": [5]}, "rate", "[5]"),
        ({"paused": {"a": 1}}, "paused", '{"a":1}'),
    ],
)
async def test_a_wrong_limit_is_shown_as_it_was_given(api: Client, body: dict[str, Any], name: str, got: str) -> None:
    status, content = await api.call("PUT", "/hosts/a.example:443", data=compact(body), headers=JSON)
    assert (status, content["field"]) == (400, name)
    assert content["error"].endswith(f", got {got}")


async def test_own_keys_that_are_refused_are_shown(api: Client) -> None:
    task = DEFAULTS | {"key": "mine"}
    for headers in ({}, {"Idempotency-Key": "a"}):
        tasks = [task] if headers else [task, task]
        status, content = await api.call("POST", "/schedules", json={"tasks": tasks}, headers=headers)
        assert (status, content["field"]) == (400, "key")
        assert content["error"].endswith(', got "mine"')


NO_LINES = {*NO_JSON, "more than a double holds", "half an emoji"}
"""Not read as JSON in a line."""


async def test_a_wrong_value_of_a_line_is_told_by_an_import(redis_url: str, tmp_path: Path) -> None:
    """The members of Options go the way of the API's bodies."""
    good = {"key": "a", "due": LATER, "state": "scheduled", "webhook": HOOK}
    rows = [
        (name, kind) for name in NAMES for kind in VALUES if kind not in TAKEN.get(name, ()) and kind not in NO_LINES
    ]
    lines = [body_of(good, name, VALUES[kind]) for name, kind in rows]
    told: list[str] = []
    for start in range(0, len(lines), SHOWN_MOST):
        (tmp_path / "lines").write_text("\n".join(lines[start : start + SHOWN_MOST]))
        found = await asyncio.to_thread(run, "import", str(tmp_path / "lines"), REDIS_URL=redis_url)
        assert (found.returncode, found.stdout[:17]) == (1, "Imported 0 tasks;"), found
        told += found.stderr.splitlines()
    assert len(told) == len(rows)
    for (name, kind), line in zip(rows, told, strict=True):
        error = line.partition(": ")[2]
        assert error.startswith(name), (name, kind, error)
        code = "unknown-field" if "unknown" in error else "missing-field" if "is missing" in error else ""
        assert error.partition(" got ")[2].startswith(got_of(name, kind, {"code": code})), (name, kind, error)


async def test_a_number_of_tasks_that_is_too_large_is_refused(api: Client, raw: redis.asyncio.Redis) -> None:
    tasks = json.dumps({"tasks": [{}] * 1_001})
    await assert_refused(api, raw, "POST", "/schedules", tasks, "tasks", "1,001 tasks")
    assert [await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS] == [0] * SHARDS
