"""ETags and preconditions: a change is made only of the task that its caller knows."""

import asyncio
import json
from typing import Any

import pytest
import redis.asyncio

from tests.scripts.states import FAILURE
from tests.support.service import Client
from tests.support.shards import keys_of

HOOK = "http://127.0.0.1:9/"
LARGE = "x" * 100_000
MALFORMED = ["", "abc", '"abc', "*, *", '"a" "b"', '"a",', ",", 'W/"a', "'a'", '"a"' * 3_000]


async def scheduled(api: Client, raw: redis.asyncio.Redis, data: Any) -> str:
    """Schedule a task; its data may be larger than a body."""
    key = await api.schedule(HOOK, 60, data=0)
    tasks = (await keys_of(raw, key)).tasks
    record: Any = await raw.hget(tasks, key)
    await raw.hset(tasks, key, record.replace(b'"data":0', b'"data":' + json.dumps(data).encode()))
    return key


async def asked(api: Client, method: str, path: str, **options: Any) -> tuple[int, Any, str | None]:
    headers = api.headers | options.pop("headers", {})
    async with api.session.request(method, api.url + path, headers=headers, **options) as response:
        return response.status, await response.json(), response.headers.get("ETag")


async def etag_of(api: Client, key: str) -> str:
    status, _, etag = await asked(api, "GET", f"/schedule/{key}")
    assert status == 200
    assert etag is not None
    assert etag[0] == etag[-1] == '"'
    return etag


@pytest.mark.parametrize("data", [1, LARGE], ids=["small", "large"])
async def test_an_etag_is_of_what_the_caller_defined(api: Client, raw: redis.asyncio.Redis, data: Any) -> None:
    key = await scheduled(api, raw, data)
    first = await etag_of(api, key)
    await raw.hset((await keys_of(raw, key)).failures, key, b"3 " + FAILURE)
    assert await etag_of(api, key) == first
    seen = {first}
    for change in (
        {"webhook": HOOK + "a"},
        {"ttl": 120},
        {"at": "2200-01-01T00:00:00Z"},
        {"data": 2},
        {"body": "2"},
        {"data": 3},
    ):
        status, _, etag = await asked(api, "PATCH", f"/schedule/{key}", json=change)
        assert status == 200
        assert etag == await etag_of(api, key)
        seen.add(etag)
    assert len(seen) == 7
    assert await etag_of(api, await api.schedule(HOOK, 60)) not in seen


@pytest.mark.parametrize("data", [1, LARGE], ids=["small", "large"])
async def test_an_etag_stays_where_the_receiver_wants_the_task_again(
    api: Client, raw: redis.asyncio.Redis, data: Any
) -> None:
    key = await api.schedule(HOOK, 60, data=0, again_most=3)
    tasks = (await keys_of(raw, key)).tasks
    record: Any = await raw.hget(tasks, key)
    large = record.replace(b'"data":0', b'"data":' + json.dumps(data).encode())
    await raw.hset(tasks, key, large)
    first = await etag_of(api, key)
    for due in (b'{"due":1900000000123', b'{"due":1900000000123,"again":1', b'{"due":1900000000456,"again":2'):
        await raw.hset(tasks, key, due + large[large.index(b',"head"') :])
        assert await etag_of(api, key) == first
    path, headers = f"/schedule/{key}", {"If-Match": first}
    status, _, changed = await asked(api, "PATCH", path, headers=headers, json={"ttl": 120})
    assert (status, changed) == (200, await etag_of(api, key))
    assert (await asked(api, "PATCH", path, headers=headers, json={"ttl": 5}))[0] == 412


async def test_a_list_and_a_schedule_have_none(api: Client) -> None:
    assert (await asked(api, "POST", "/schedule", json={"webhook": HOOK, "ttl": 60}))[2] is None
    assert (await asked(api, "GET", "/schedules"))[2] is None


@pytest.mark.parametrize("data", [1, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_only_the_task_that_is_demanded_is_changed(
    api: Client, raw: redis.asyncio.Redis, method: str, data: Any
) -> None:
    key = await scheduled(api, raw, data)
    other = await etag_of(api, await api.schedule(HOOK, 60))
    path, body = f"/schedule/{key}", {"json": {"ttl": 5_000}} if method == "PATCH" else {}
    before = await etag_of(api, key)
    for wrong in (other, f"W/{before}", '""', f"{other} , {other}"):
        status, content, _ = await asked(api, method, path, headers={"If-Match": wrong}, **body)
        assert (status, content["code"], content["field"]) == (412, "precondition-failed", "If-Match")
        assert before in content["error"]
        assert await etag_of(api, key) == before
    for right in (f"{other}, {before}", "*"):
        key = await scheduled(api, raw, data) if right == "*" else key
        status, _, _ = await asked(api, method, f"/schedule/{key}", headers={"If-Match": right}, **body)
        assert status == 200


ALIKE: list[dict[str, Any]] = [
    {"webhook": HOOK, "at": "2200-01-01T00:00:00Z"},
    {"webhook": HOOK, "at": "2200-01-01T00:00:00Z", "retries": 3},
    {"webhook": HOOK, "repeat": {"every": 3600}},
    {"webhook": HOOK, "ttl": 60, "again_most": 3},
]


@pytest.mark.parametrize("body", ALIKE, ids=["plain", "options", "series", "again"])
async def test_the_etag_of_a_task_that_is_alike_is_not_its_own(api: Client, body: dict[str, Any]) -> None:
    for key in ("one", "two"):
        status, _, etag = await asked(api, "PUT", f"/schedule/{key}", json=body)
        assert (status, etag) == (200, await etag_of(api, key))
    before, headers = await etag_of(api, "two"), {"If-Match": await etag_of(api, "one")}
    for method, given in (("PATCH", {"json": {"data": 2}}), ("PUT", {"json": body | {"data": 2}}), ("DELETE", {})):
        status, content, _ = await asked(api, method, "/schedule/two", headers=headers, **given)
        assert (status, content["code"]) == (412, "precondition-failed")
        assert content["error"].endswith(f"its ETag is {before}, got {headers['If-Match']}")
        assert await etag_of(api, "two") == before


async def test_a_task_that_is_gone_is_not_found_whatever_is_demanded(api: Client) -> None:
    for method, body in (("PATCH", {"json": {"ttl": 1}}), ("DELETE", {})):
        status, content, _ = await asked(api, method, "/schedule/gone", headers={"If-Match": '"a"'}, **body)
        assert (status, content["code"]) == (404, "task-not-found")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_of_two_changes_of_the_same_task_one_is_made(api: Client, method: str) -> None:
    for _ in range(10):
        key = await api.schedule(HOOK, 60)
        etag = await etag_of(api, key)
        path, headers = f"/schedule/{key}", {"If-Match": etag}
        bodies: list[dict[str, Any]] = [{"json": {"data": number}} for number in range(4)]
        bodies[0] = bodies[0] if method == "PATCH" else {}
        answers = await asyncio.gather(
            asked(api, method, path, headers=headers, **bodies[0]),
            *(asked(api, "PATCH", path, headers=headers, **body) for body in bodies[1:]),
        )
        statuses = sorted(status for status, _, _ in answers)
        assert statuses[0] == 200
        assert set(statuses[1:]) <= {404, 412}, statuses


@pytest.mark.parametrize("given", MALFORMED)
async def test_a_list_that_is_none_is_refused(api: Client, given: str) -> None:
    key = await api.schedule(HOOK, 60)
    before = await etag_of(api, key)
    status, content, _ = await asked(api, "DELETE", f"/schedule/{key}", headers={"If-Match": given})
    assert (status, content["code"], content["field"]) == (400, "invalid-value", "If-Match")
    assert await etag_of(api, key) == before


async def test_no_cache_keeps_an_answer_that_has_an_etag(api: Client) -> None:
    key = await api.schedule(HOOK, 60)
    async with api.session.get(f"{api.url}/schedule/{key}", headers=api.headers) as response:
        assert (response.headers["ETag"] != "", response.headers["Cache-Control"]) == (True, "no-store")


async def test_a_record_that_cannot_be_read_is_deleted_by_its_etag(api: Client, raw: redis.asyncio.Redis) -> None:
    for record in (b"{}", b'{"due":1,"color":1}'):
        key = await api.schedule(HOOK, 60)
        await raw.hset((await keys_of(raw, key)).tasks, key, record)
        etag = await etag_of(api, key)
        assert (await asked(api, "DELETE", f"/schedule/{key}", headers={"If-Match": '"a"'}))[0] == 412
        assert (await asked(api, "DELETE", f"/schedule/{key}", headers={"If-Match": etag}))[0] == 200
