"""The public contract: every route, what it answers, and what it leaves in Redis."""

import asyncio
import json
import re
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
import pytest
import redis.asyncio

from redis_scheduler.api.bodies import (
    BatchRequest,
    PreviewRequest,
    ScheduleRequest,
    UpdateRequest,
    encode_answer,
)
from redis_scheduler.api.host_bodies import LimitRequest
from redis_scheduler.api.routes import ROUTES, Access, Route
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.acknowledgement import acknowledgement_token
from redis_scheduler.task.key import is_task_key
from tests.scripts import states
from tests.support.names import KEYS_OF_SHARDS
from tests.support.service import TOKEN, Client
from tests.support.shards import have_groups, scheduled_in_the_first
from tests.support.store import Store
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/hook?a=%2F"
TASK = {"webhook": WEBHOOK, "ttl": 60}
CONTENTS: dict[Any, Any] = {
    **{ScheduleRequest: TASK, UpdateRequest: TASK, BatchRequest: {"tasks": [TASK]}},
    PreviewRequest: {"repeat": {"every": 60}},
    LimitRequest: {"rate": 5},
}
"""A body of each kind."""

WANTED = {"/schedules/cancel": "?type=default", "/dead/delete": "?type=default", "/schedules/shift": "?by=5"}
"""Parameters that a route must be given."""


async def test_the_root_answers_without_a_token(api: Client) -> None:
    api.headers = {}
    assert await api.call("GET", "/") == (200, {"status": 200, "data": "Scheduler service is running."})


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_each_route_answers_as_the_table_says(api: Client, store: Store, route: Route[Any]) -> None:
    is_dead = route.path.startswith("/dead")
    key = (await states.dead(store)).key if is_dead else await api.schedule(WEBHOOK, 60, data={"a": [1]})
    if route.path.endswith(("/done", "/fail", "/extend")):
        key = await scheduled_in_the_first(api, WEBHOOK, ack=True)
        [claim] = await states.claimed(store, 1)
        api.headers["Schedule-Ack"] = acknowledgement_token(TOKEN, key, claim.id, 0)
    if route.path == "/hosts/{key}":
        key = "localhost:80"
        assert (await api.call("PUT", f"/hosts/{key}", json={"rate": 5}))[0] == 200
    elif route.method == "PUT":
        key = "own:key"
    path = route.path.format(key=key)
    content = CONTENTS.get(route.body)
    needs_token = route.access is Access.TOKEN

    async def asked(query: str, headers: dict[str, str]) -> tuple[int, bytes]:
        url = f"{api.url}{path}{query}"
        async with api.session.request(route.method, url, headers=headers, json=content) as response:
            return response.status, await response.read()

    status, body = await asked(WANTED.get(route.path, ""), api.headers if needs_token else {})
    if route.answer is str:
        assert (status, body[:7]) == (200, b"# HELP ")
    # A member that the type has not, or has elsewhere, would not come out again.
    else:
        assert (status, encode_answer(msgspec.json.decode(body, type=route.answer))) == (200, body)
    assert (await asked("?other=1", {}))[0] == (401 if needs_token else 200)
    status, body = await asked("?other=1", api.headers)
    if route.parameters is None:
        assert status == 200
    else:
        known = ", ".join(route.parameters) or "none"
        error = f"other: is not a parameter here; known: {known}"
        assert (status, json.loads(body)) == (
            400,
            {"status": 400, "error": error, "code": "unknown-parameter", "field": "other"},
        )


async def test_a_task_with_a_time_is_due_then_and_says_so(api: Client) -> None:
    at = "2200-01-31T10:00:00.0625+01:00"
    status, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "at": at})
    assert (status, content["due"]) == (200, "2200-01-31T09:00:00.063Z")
    path = f"/schedule/{content['key']}"
    info = (await api.call("GET", path))[1]["data"]["info"]
    assert (info["ttl"], info["at"], info["due"], info["expires"]) == (None, *[content["due"]] * 3)
    # What does not name a time keeps it, and a delay takes its place.
    assert (await api.call("PATCH", path, json={"data": 1}))[1]["due"] == content["due"]
    assert (await api.call("GET", path))[1]["data"]["info"]["at"] == content["due"]
    assert (await api.call("PATCH", path, json={"at": "2201-01-01t00:00:00z"}))[1]["due"] == "2201-01-01T00:00:00.000Z"
    due = (await api.call("PATCH", path, json={"ttl": 60}))[1]["due"]
    info = (await api.call("GET", path))[1]["data"]["info"]
    assert (info["ttl"], info["due"], "at" in info) == (60, due, False)


async def test_a_time_that_is_past_is_due_now(api: Client) -> None:
    before = datetime.now().astimezone()
    for at in ("0001-01-01T00:00:00Z", "2001-09-09T01:46:40Z", before.isoformat()):
        status, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "at": at})
        assert status == 200
        assert 0 <= (datetime.fromisoformat(content["due"]) - before).total_seconds() < 3
        info = (await api.call("GET", f"/schedule/{content['key']}"))[1]["data"]["info"]
        assert info["at"] == content["due"]


async def test_a_schedule_answers_with_its_key_and_due_time(api: Client) -> None:
    before = datetime.now().astimezone()
    status, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 90.5, "data": {"a": 1}})
    assert status == 200
    assert content["data"] == content["key"]
    assert is_task_key(content["key"])
    due = datetime.fromisoformat(content["due"])
    assert 90 < (due - before).total_seconds() < 93


async def test_a_task_is_shown_with_its_info_and_its_data(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 60, data={"b": [], "a": 1})
    status, content = await api.call("GET", f"/schedule/{key}")
    assert status == 200
    info = content["data"]["info"]
    assert content["data"]["data"] == {"b": [], "a": 1}
    assert {name: info[name] for name in ("key", "ttl", "retry", "webhook", "state", "type")} == {
        "key": key,
        "ttl": 60,
        "retry": 0,
        "webhook": WEBHOOK,
        "state": "scheduled",
        "type": "default",
    }
    assert info["expires"] == info["due"]


async def test_a_token_is_taken_bare_and_as_a_bearer(api: Client) -> None:
    for value in (TOKEN, f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        assert (await api.call("GET", "/stats", headers={"Authorization": value}))[0] == 200


async def test_data_is_shown_byte_for_byte(api: Client) -> None:
    data = '{"z":1, "a":[ ],"n":123456789012345678901234567890,"f":1.10,"t":"ü \\u00fc \\n  x","e":{}}'
    body = f'{{"webhook":"{WEBHOOK}","ttl":60,"data":{data}}}'
    headers = {"Content-Type": "application/json; charset=utf-8"}
    _, content = await api.call("POST", "/schedule", data=body.encode(), headers=headers)
    for path in (f"/schedule/{content['key']}", "/schedules"):
        async with api.session.get(api.url + path, headers=api.headers) as response:
            assert data in await response.text()


async def test_data_that_is_absent_and_null_are_told_apart(api: Client) -> None:
    keys_of = {"absent": await api.schedule(WEBHOOK, 60), "null": await api.schedule(WEBHOOK, 60, data=None)}
    keys_of["given"] = await api.schedule(WEBHOOK, 60, data=0)
    _, listed = await api.call("GET", "/schedules")
    by_key = {task["info"]["key"]: task for task in listed["data"]}
    for name, shown in (("absent", (None, False)), ("null", (None, True)), ("given", (0, True))):
        task = (await api.call("GET", f"/schedule/{keys_of[name]}"))[1]["data"]
        assert task["info"].pop("waits_for").endswith(f"; then its time, {task['info']['expires']}")
        assert (task["data"], task["info"]["has_data"]) == shown
        assert by_key[keys_of[name]] == task
    await api.call("PATCH", f"/schedule/{keys_of['absent']}", json={"data": None})
    assert (await api.call("GET", f"/schedule/{keys_of['absent']}"))[1]["data"]["info"]["has_data"] is True


async def test_half_a_surrogate_pair_in_data_is_kept_and_shown(api: Client) -> None:
    data = b'{"cut":"\\ud83d","\\udc00":[1]}'
    body = b'{"webhook":"%s","ttl":60,"data":%s}' % (WEBHOOK.encode(), data)
    headers = {"Content-Type": "application/json"}
    _, content = await api.call("POST", "/schedule", data=body, headers=headers)
    await api.call("PATCH", f"/schedule/{content['key']}", data=b'{"ttl":50}', headers=headers)
    key = await api.schedule(WEBHOOK, 60)
    assert (await api.call("PATCH", f"/schedule/{key}", data=b'{"data":%s}' % data, headers=headers))[0] == 200
    for path, count in ((f"/schedule/{content['key']}", 1), (f"/schedule/{key}", 1), ("/schedules", 2)):
        async with api.session.get(api.url + path, headers=api.headers) as response:
            assert (await response.read()).count(data) == count


async def test_an_update_changes_what_is_given_and_keeps_the_rest(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 60, data=[1])
    _, before = await api.call("GET", f"/schedule/{key}")
    status, content = await api.call("PATCH", f"/schedule/{key}", json={"webhook": "https://example.com/"})
    assert (status, content["found"], content["due"]) == (200, "updated", before["data"]["info"]["due"])
    _, after = await api.call("GET", f"/schedule/{key}")
    assert after["data"]["info"] == before["data"]["info"] | {"webhook": "https://example.com/"}
    assert after["data"]["data"] == [1]


async def test_an_update_of_the_ttl_counts_from_now(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 3600)
    now = datetime.now().astimezone()
    status, content = await api.call("PATCH", f"/schedule/{key}", json={"ttl": 10, "data": None})
    assert status == 200
    assert 9 < (datetime.fromisoformat(content["due"]) - now).total_seconds() < 12
    _, shown = await api.call("GET", f"/schedule/{key}")
    assert (shown["data"]["info"]["ttl"], shown["data"]["info"]["due"]) == (10, content["due"])


async def test_concurrent_updates_never_lose_one_another(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 3600, data=0)
    changes = [{"webhook": "http://new.example/"}, {"data": "new"}] * 50
    answers = await asyncio.gather(*(api.call("PATCH", f"/schedule/{key}", json=change) for change in changes))
    assert [status for status, _ in answers] == [200] * 100
    _, shown = await api.call("GET", f"/schedule/{key}")
    assert (shown["data"]["info"]["webhook"], shown["data"]["data"]) == ("http://new.example/", "new")


async def test_a_cancelled_task_is_gone(api: Client, raw: redis.asyncio.Redis) -> None:
    key = await api.schedule(WEBHOOK, 60, path="/schedule?type=mail")
    assert await api.call("DELETE", f"/schedule/{key}") == (200, {"status": 200, "data": "cancelled", "key": key})
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 404
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 404
    assert (await api.call("PATCH", f"/schedule/{key}", json={"ttl": 1}))[0] == 404
    for keys in KEYS_OF_SHARDS:
        assert not await raw.exists(keys.tasks, keys.due, keys.types, keys.type_index("mail"))


async def test_a_type_lists_only_its_own(api: Client) -> None:
    mail = await api.schedule(WEBHOOK, 60, path="/schedule?type=mail")
    plain = await api.schedule(WEBHOOK, 30)
    named_default = await api.schedule(WEBHOOK, 40, path="/schedule?type=default")
    listed = {}
    for query in ("", "?type=mail", "?type=default", "?type=other"):
        _, content = await api.call("GET", f"/schedules{query}")
        listed[query] = [task["info"]["key"] for task in content["data"]]
        assert content["next"] is None
    assert listed == {
        "": [plain, named_default, mail],
        "?type=mail": [mail],
        "?type=default": [plain, named_default],
        "?type=other": [],
    }


async def test_pages_together_are_the_list(api: Client) -> None:
    due_now = [await api.schedule(WEBHOOK, 0) for _ in range(3)]
    later = [await api.schedule(WEBHOOK, 60 + number) for number in range(4)]
    for limit in (1, 2, 3, 7, 8):
        found, cursor = [], ""
        for _ in range(10):
            _, content = await api.call("GET", f"/schedules?limit={limit}{cursor}")
            found += [task["info"]["key"] for task in content["data"]]
            if content["next"] is None:
                break
            assert len(content["data"]) == limit
            cursor = f"&cursor={content['next']}"
        assert found == due_now + later


async def test_purge_deletes_only_the_services_own_keys(api: Client, raw: redis.asyncio.Redis) -> None:
    await raw.set("somebody-elses", 1)
    for method, path in (("POST", "/purge"), ("DELETE", "/schedules")):
        for ttl in (0, 60):
            await api.schedule(WEBHOOK, ttl, path="/schedule?type=mail")
        assert await api.call(method, path) == (200, {"status": 200, "data": 2})
        _, content = await api.call("GET", "/schedules")
        assert content["data"] == []
    assert await raw.get("somebody-elses") == b"1"
    assert (await api.stats())["counters"]["purged"] == 4


async def test_stats_say_what_is_late_what_comes_and_who_delivers(api: Client, raw: redis.asyncio.Redis) -> None:
    def said(stats: dict[str, Any]) -> tuple[bool, str | None, int]:
        return stats["oldest_due_seconds"] > 0, stats["next_due"], stats["workers"]

    assert said(await api.stats()) == (False, None, 0)
    seconds, _ = await raw.time()
    for keys in KEYS_OF_SHARDS:
        await raw.zadd(keys.workers, {"worker-a": seconds * 1000})
    await api.schedule(WEBHOOK, 0)
    _, found = await api.call("PUT", "/schedule/later", json={"webhook": WEBHOOK, "ttl": 60})

    async def is_said() -> bool:
        return said(await api.stats()) == (True, found["due"], 1)

    await wait_until(is_said, "which workers live is asked anew")
    for keys in KEYS_OF_SHARDS:
        await raw.zrem(keys.workers, "worker-a")

    async def is_forgotten() -> bool:
        return said(await api.stats())[2] == 0

    # It tells no record format, so while the API knows of it others' tasks could have no options.
    await wait_until(is_forgotten, "which workers live is asked anew")


async def test_stats_count_every_state(api: Client) -> None:
    await api.schedule(WEBHOOK, 0)
    await api.schedule(WEBHOOK, 60)
    stats = await api.stats()
    assert stats["running_schedules"] == 2
    assert stats["states"] == {
        "due": 1,
        "queued": 1,
        "in_delivery": 0,
        "waiting": 0,
        "paused": 0,
        "awaiting": 0,
        "held": 0,
        "dead": 0,
    }
    assert stats["counters"]["scheduled"] == 2
    assert stats["ledger_balanced"] is True
    assert stats["total_redis_keys"] > 0
    assert isinstance(stats["ram_usage"], str)
    assert stats["ram_usage_bytes"] > 1_000_000
    assert 0 <= stats["cpu_usage"] <= 100
    assert re.fullmatch(r"\d+[dhms]( \d+[hms])*", stats["system_uptime"])


async def test_schedules_that_come_together_each_get_their_own_answer(api: Client, raw: redis.asyncio.Redis) -> None:
    found = await asyncio.gather(*(api.schedule(WEBHOOK, 60, data=number) for number in range(300)))
    assert len(set(found)) == 300
    for number in (0, 299):
        _, content = await api.call("GET", f"/schedule/{found[number]}")
        assert content["data"]["data"] == number


async def test_a_head_request_has_no_body(api: Client) -> None:
    async with api.session.head(api.url + "/") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_answers_keep_the_connection(api: Client) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(session, api.url)
        for _ in range(3):
            await client.schedule(WEBHOOK, 60, data=json.loads("{}"))


async def test_a_full_redis_refuses_schedules_and_shows_the_rest(
    api: Client, raw: redis.asyncio.Redis, client: RedisClient
) -> None:
    key = await api.schedule(WEBHOOK, 60)
    await have_groups(raw)
    await raw.config_set("maxmemory", 1)
    status, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 60})
    assert (status, "out of memory" in content["error"]) == (507, True)
    assert (await api.call("PATCH", f"/schedule/{key}", json={"ttl": 5}))[0] == 507
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 200
    assert len((await api.call("GET", "/schedules"))[1]["data"]) == 1
    assert (await api.stats())["running_schedules"] == 1
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200
    await raw.config_set("maxmemory", 0)
    await api.schedule(WEBHOOK, 60)
