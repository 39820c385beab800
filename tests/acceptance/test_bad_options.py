"""Each field with each kind of wrong value, on each route that takes it: refused with its name, and nothing written."""

import json
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.bodies import BatchItem
from redis_scheduler.task.options import CALLBACKS, Callback
from redis_scheduler.task.repeat import Repeat
from tests.support.names import KEYS_OF_SHARDS, SHARDS
from tests.support.service import Client
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
NAMED_OTHERWISE = {"an object", "an empty object", "a deep object", "half an emoji", "1,001 tasks"}
"""An error says which member is at fault, and not what an object was; half a character cannot be told."""

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
    assert " got " in content["error"] or kind in NAMED_OTHERWISE, about
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


async def test_a_number_of_tasks_that_is_too_large_is_refused(api: Client, raw: redis.asyncio.Redis) -> None:
    tasks = json.dumps({"tasks": [{}] * 1_001})
    await assert_refused(api, raw, "POST", "/schedules", tasks, "tasks", "1,001 tasks")
    assert [await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS] == [0] * SHARDS
