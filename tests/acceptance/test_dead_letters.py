"""The routes to dead letters: look at them, group them, bring one back, delete one."""

import asyncio
import itertools
from datetime import datetime
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api import steps
from redis_scheduler.store import dead_letters
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.claim import Unsettled
from redis_scheduler.task.failure import LastFailure, encode_failure
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.repeat import Repeat
from tests.scripts.states import claimed, in_due, missing
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until


async def died(
    store: Store,
    webhook: str = "http://127.0.0.1:9/hook",
    error: str = "answered 500",
    type_name: str | None = None,
    data: bytes = b'{"n":1}',
    options: Options = NONE,
) -> str:
    """A task whose attempts all failed so; its key."""
    key = new_task_key()
    await store.schedule(
        [NewTask(key, 0, record_tail(webhook, 0, type_name, data, options), listing_of(type_name, options))]
    )
    [claim] = await claimed(store, 1)
    failure = encode_failure(LastFailure(error, 12, 500))
    assert await store.bury([Unsettled(claim, failure)]) == [True]
    return key


async def keys_of(api: Client, query: str = "") -> list[str]:
    _, content = await api.call("GET", f"/dead{query}")
    return [task["info"]["key"] for task in content["data"]]


async def grouped(api: Client, query: str = "") -> dict[str, Any]:
    """The groups, once all dead letters were looked at in the time that there is for it."""

    async def are_complete() -> dict[str, Any] | None:
        status, content = await api.call("GET", f"/dead/groups{query}")
        assert status == 200, content
        return content if content["complete"] else None

    return await wait_until(are_complete, "all are looked at", 30) or {}


async def test_the_newest_come_first_page_by_page(api: Client, store: Store) -> None:
    keys = [await died(store, type_name="mail" if number % 2 else None) for number in range(5)]
    await in_due(store)
    for key in keys[:2]:  # of one millisecond, perhaps
        await store.client.command("ZADD", KEYS.dead, "XX", 5, key)
    newest_first = list(reversed(keys[2:])) + sorted(keys[:2], reverse=True)
    assert await keys_of(api) == newest_first
    for limit in (1, 2, 3, 5, 6):
        found: list[str] = []
        cursor = ""
        for _ in range(10):
            _, content = await api.call("GET", f"/dead?limit={limit}{cursor}")
            found += [task["info"]["key"] for task in content["data"]]
            if content["next"] is None:
                break
            cursor = f"&cursor={content['next']}"
        assert found == newest_first
    assert await keys_of(api, "?type=mail") == [key for key in newest_first if keys.index(key) % 2]
    assert await keys_of(api, "?type=default") == [key for key in newest_first if keys.index(key) % 2 == 0]
    status, content = await api.call("GET", "/dead?cursor=ZHVlIDEgYQ")  # one of another list
    assert (status, content["field"]) == (400, "cursor")


async def test_a_dead_letter_is_shown_with_its_last_failure(api: Client, store: Store) -> None:
    key = await died(store, error="answered 503")
    status, content = await api.call("GET", f"/dead/{key}")
    assert status == 200
    info = content["data"]["info"]
    assert (info["state"], info["retry"], info["last_failure"]["error"]) == ("dead", 1, "answered 503")
    assert content["data"] == (await api.call("GET", f"/schedule/{key}"))[1]["data"]


async def test_groups_count_by_host_and_error(api: Client, store: Store, raw: redis.asyncio.Redis) -> None:
    for port in (9, 9, 9, 10):
        key = await died(store, f"http://127.0.0.1:{port}/{new_task_key()}?a=1", "answered 500", "mail")
    await died(store, "http://127.0.0.1:9/", "no answer within 10 s")
    for spelling in ("https://shop.example/a", "https://SHOP.example:443/b"):
        await died(store, spelling, "answered 500")
    broken = await died(store)
    await raw.hset(KEYS.tasks, broken, "{")
    await raw.hset(KEYS.failures, broken, "1 x")
    content = await grouped(api)
    found = {(group["host"], group["error"]): group["count"] for group in content["data"]}
    assert found == {
        ("127.0.0.1:9", "answered 500"): 3,
        ("127.0.0.1:10", "answered 500"): 1,
        ("127.0.0.1:9", "no answer within 10 s"): 1,
        ("shop.example:443", "answered 500"): 2,
        ("", ""): 1,
    }
    assert content["data"][0]["count"] == 3
    assert (content["looked_at"], content["dead"], content["others"]) == (8, 8, 0)
    content = await grouped(api, "?type=mail")
    assert [(group["count"], group["newest"]) for group in content["data"]][-1:] == [(1, key)]
    assert sum(group["count"] for group in content["data"]) == 4
    assert (await api.call("DELETE", f"/dead/{broken}"))[0] == 200  # the audit would find it


async def test_groups_say_what_they_did_not_look_at(
    client: RedisClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await died(store, error=f"error {number}")
    views = DeadLetters(client)
    monkeypatch.setattr(dead_letters, "GROUPS_MOST", 1)
    found = await views.groups(look_s=60)
    assert (len(found.groups), found.others, found.looked_at, found.dead) == (1, 2, 3, 3)
    monkeypatch.setattr("redis_scheduler.store.views.CHUNK_LIMIT", 2)
    monkeypatch.setattr(dead_letters, "LETTERS_MOST", 1)
    found = await views.groups(look_s=60)
    assert (found.looked_at, found.dead, found.groups[0].error) == (2, 3, "error 2")
    found = await views.groups(look_s=0)
    assert (found.looked_at, found.dead, found.groups[0].error) == (1, 3, "error 2")
    assert not found.is_complete


async def test_a_replay_goes_at_once_and_starts_afresh(api: Client, store: Store) -> None:
    key = await died(store, data=b'{"keep":[1]}')
    for path in (f"/dead/{key}/replay",):
        status, content = await api.call("POST", path)
        assert (status, content["found"], content["key"]) == (200, "replayed", key)
    _, shown = await api.call("GET", f"/schedule/{key}")
    assert shown["data"]["info"]["due"] == content["due"]
    assert (shown["data"]["info"]["retry"], shown["data"]["data"]) == (0, {"keep": [1]})
    assert await keys_of(api) == []
    for path in (f"/dead/{key}/replay", "/dead/unknown/replay"):
        status, content = await api.call("POST", path)
        assert (status, content["code"]) == (404, "dead-letter-not-found")
    assert (await api.stats())["counters"]["replayed"] == 1


async def test_a_replay_may_change_the_task(api: Client, store: Store) -> None:
    key = await died(store, type_name="mail")
    change: dict[str, Any] = {"webhook": "http://127.0.0.1:9/new", "ttl": 3600, "data": "new"}
    status, _ = await api.call("POST", f"/dead/{key}/replay", json=change)
    assert status == 200
    _, shown = await api.call("GET", f"/schedule/{key}")
    info = shown["data"]["info"]
    assert (info["webhook"], info["ttl"], info["state"], shown["data"]["data"]) == (
        *(change["webhook"], 3600, "scheduled", "new"),
    )
    _, listed = await api.call("GET", "/schedules?type=mail")
    assert [task["info"]["key"] for task in listed["data"]] == [key]


async def refused_for(api: Client, token: str, method: str, path: str, body: Any) -> str | None:
    """The right that a token lacks for a request; None if it is served, or only the worker of this test is too old."""
    user = api.with_token(token)
    status, content = await user.call(method, path, json=body)
    assert (status, content.get("code")) in ((200, None), (409, "older-worker"), (403, "missing-right"))
    return content["error"].rpartition(": ")[2] if status == 403 else None


@pytest.mark.parametrize(
    "change",
    [
        {"webhook": "http://127.0.0.1:9/mine"},
        {"headers": {"X-Key": "${secret:shop}"}, "ttl": 60},
        {"data": 1},
        {"body": None},
        {"retries": None},
        {"on_failure": {"webhook": "http://127.0.0.1:9/mine", "ttl": 0, "include_data": True}},
    ],
)
async def test_a_replay_that_changes_more_than_its_time_needs_the_right_to_schedule(
    change: dict[str, Any], api: Client, client: RedisClient, store: Store
) -> None:
    key = await died(store)
    path, replays = f"/dead/{key}/replay", await make_token(client, "replay", "read")
    assert await refused_for(api, replays, "POST", path, change) == "schedule"
    assert await keys_of(api) == [key]
    assert await refused_for(api, await make_token(client, "schedule", "replay"), "POST", path, change) is None


@pytest.mark.parametrize("body", [{}, {"ttl": 60}, {"at": "2199-01-01T00:00:00Z"}])
async def test_a_replay_that_changes_its_time_alone_needs_no_further_right(
    body: dict[str, Any], api: Client, client: RedisClient, store: Store
) -> None:
    key = await died(store)
    assert await refused_for(api, await make_token(client, "replay"), "POST", f"/dead/{key}/replay", body) is None


async def test_a_patch_that_brings_a_dead_task_back_needs_the_right_to_replay(
    api: Client, client: RedisClient, store: Store
) -> None:
    key = await died(store)
    path, schedules = f"/schedule/{key}", await make_token(client, "schedule")
    for body in ({"ttl": 60}, {"ttl": 60, "webhook": "http://127.0.0.1:9/mine"}):
        assert await refused_for(api, schedules, "PATCH", path, body) == "replay"
    assert await keys_of(api) == [key]
    assert await refused_for(api, schedules, "PATCH", path, {"data": 2}) is None  # it stays dead
    assert await keys_of(api) == [key]
    assert await refused_for(api, await make_token(client, "schedule", "replay"), "PATCH", path, {"ttl": 60}) is None
    assert await keys_of(api) == []
    assert await refused_for(api, schedules, "PATCH", path, {"ttl": 70}) is None  # it is alive


@pytest.mark.parametrize(
    ("body", "field"),
    [({"ttl": -1}, "ttl"), ({"webhook": "ftp://h/"}, "webhook"), ({"color": 1}, "color"), ([], None)],
)
async def test_a_wrong_change_is_refused_and_the_letter_stays(
    body: Any, field: str | None, api: Client, store: Store
) -> None:
    key = await died(store)
    status, content = await api.call("POST", f"/dead/{key}/replay", json=body)
    assert (status, content.get("field")) == (400, field)
    assert await keys_of(api) == [key]


async def test_a_letter_of_a_large_record_is_shown_and_replayed(api: Client, store: Store) -> None:
    data = b'"' + b"x" * 200_000 + b'"'
    key = await died(store, data=data)
    assert (await api.call("GET", f"/dead/{key}"))[1]["data"]["data"] == data[1:-1].decode()
    assert (await api.call("POST", f"/dead/{key}/replay", json={"ttl": 60}))[0] == 200
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["data"] == data[1:-1].decode()


async def test_several_replays_at_once_bring_it_back_once(api: Client, store: Store) -> None:
    key = await died(store)
    answers = await asyncio.gather(*(api.call("POST", f"/dead/{key}/replay", json={"ttl": 60}) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] + [404] * 9


async def test_a_letter_that_is_deleted_is_gone_and_what_lives_stays(api: Client, store: Store) -> None:
    key, living = await died(store), (await in_due(store)).key
    assert await api.call("DELETE", f"/dead/{key}") == (200, {"status": 200, "data": "deleted", "key": key})
    for absent in (key, living, (await missing(store)).key):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
            status, content = await api.call(method, f"/dead/{absent}{path}")
            assert (status, content["code"]) == (404, "dead-letter-not-found")
    assert (await api.call("GET", f"/schedule/{living}"))[0] == 200


async def test_a_record_of_a_newer_version_is_not_replayed(api: Client, store: Store, raw: redis.asyncio.Redis) -> None:
    for record, code in ((b"{", "unreadable-record"), (b'{"due":1,"color":1}', "newer-record")):
        key = await died(store)
        await raw.hset(KEYS.tasks, key, record)
        _, content = await api.call("POST", f"/dead/{key}/replay")
        assert content["code"] == code
        assert (await api.call("DELETE", f"/dead/{key}"))[0] == 200


async def all_done(api: Client, verb: str, query: str) -> tuple[int, bool]:
    """Go on until that was all; how many were touched, and whether it was a dry run."""
    touched, cursor = 0, ""
    for _ in range(100):
        status, content = await api.call("POST", f"/dead/{verb}?{query}{cursor}")
        assert status == 200, content
        # Only a dry run counts each request; the others count their operation.
        touched = content["touched"] + (touched if content["dry_run"] else 0)
        if content["next"] is None:
            return touched, content["dry_run"]
        cursor = f"&cursor={content['next']}"
    raise AssertionError("without an end")


async def test_each_filter_finds_its_dead_letters(api: Client, store: Store) -> None:
    mail = await died(store, "http://a.example/", "answered 500", "mail")
    other = await died(store, "http://b.example:81/", "answered 503", options=Options(labels={"order": "17"}))
    late = await died(store, "http://b.example/", "no answer within 30 s")
    await store.client.command("ZADD", KEYS.dead, "XX", 1_000, mail)
    await store.client.command("ZADD", KEYS.dead, "XX", 2_000, other)
    await in_due(store, index_of("order=17"))
    for limit in ("1", "10"):
        for query, wanted in (
            ("type=mail", [mail]),
            ("host=b.example", [late, other]),
            ("host=b.example:80", [late]),
            ("label=order%3D17", [other]),
            ("error=answered%20503", [other]),
            ("error=answered", []),
            ("died_before=1970-01-01T00:00:02Z", [mail]),
            ("died_before=1970-01-01T00:00:02.001Z", [other, mail]),
            (f"key_prefix={late[:12]}", [late]),
            ("host=b.example&error=no%20answer%20within%2030%20s", [late]),
            ("due_before=1970-01-01T00:00:00Z", []),
            ("due_after=1970-01-01T00:00:00Z", [late, other, mail]),
        ):
            found: list[str] = []
            cursor = ""
            for _ in range(20):
                status, content = await api.call("GET", f"/dead?{query}&limit={limit}{cursor}")
                assert status == 200, content
                found += [task["info"]["key"] for task in content["data"]]
                cursor = f"&cursor={content['next']}"
                if content["next"] is None:
                    break
            assert found == wanted, query
            content = await grouped(api, f"?{query}")
            assert {group["newest"] for group in content["data"]} == set(wanted), query
            assert content["dead"] == 3


async def test_many_are_replayed_and_deleted_by_filters(api: Client, store: Store) -> None:
    for number in range(2 * steps.STEP_TASKS + 10):
        await died(store, error="answered 503" if number % 2 else "answered 500", type_name="mail")
    half = steps.STEP_TASKS + 5
    assert await all_done(api, "replay", "error=answered%20503&dry_run=true") == (half, True)
    assert len(await keys_of(api)) == 2 * half
    assert await all_done(api, "replay", "error=answered%20503") == (half, False)
    assert await all_done(api, "replay", "error=answered%20503") == (0, False)
    _, content = await api.call("GET", "/schedules?type=mail")
    assert {task["info"]["retry"] for task in content["data"]} == {0}
    assert len(content["data"]) == half
    assert await all_done(api, "delete", "type=mail&dry_run=true") == (half, True)
    assert await all_done(api, "delete", "type=mail&error=answered%20503") == (0, False)
    assert await all_done(api, "delete", "type=mail") == (half, False)
    assert await keys_of(api) == []
    stats = await api.stats()
    assert (stats["counters"]["replayed"], stats["ledger_balanced"]) == (half, True)


async def test_a_replay_that_is_sent_again_leaves_what_died_meanwhile(api: Client, store: Store) -> None:
    await died(store)
    assert await all_done(api, "replay", "operation=monday") == (1, False)
    later = await died(store)
    assert await all_done(api, "replay", "operation=monday") == (1, False)
    assert await keys_of(api) == [later]
    status, content = await api.call("POST", "/dead/replay?operation=monday&rate=5")
    assert (status, content["field"], content["code"]) == (400, "operation", "contradiction")
    status, content = await api.call("POST", "/dead/delete?type=default&operation=monday")
    assert (status, content["field"], content["code"]) == (400, "operation", "contradiction")
    assert await keys_of(api) == [later]


async def test_a_rate_spreads_what_is_replayed(api: Client, store: Store) -> None:
    count = steps.STEP_TASKS + 50
    for _ in range(count):
        await died(store)
    assert await all_done(api, "replay", "rate=10") == (count, False)
    _, content = await api.call("GET", "/schedules")
    times = sorted(datetime.fromisoformat(task["info"]["due"]).timestamp() for task in content["data"])
    assert count / 10 - 1 <= times[-1] - times[0] < count / 10 + 5
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # The first may have been due before their call came to Redis.
    assert sum(gap > 0.09 for gap in gaps) > count / 2


async def test_what_cannot_be_replayed_stays(api: Client, store: Store) -> None:
    foreign = await died(store)
    await store.client.command("HSET", KEYS.tasks, foreign, "foreign")
    over, rule = await died(store), Repeat(every=60, until="2020-01-01T00:00:00Z")
    tail = record_tail("http://a.example/", 0, None, None, Options(repeat=rule))
    await store.client.command("HSET", KEYS.tasks, over, b'{"due":1%b' % tail)
    status, content = await api.call("POST", f"/dead/{over}/replay")
    assert (status, content["field"]) == (400, "repeat.until")
    good = await died(store)
    assert await all_done(api, "replay", "") == (1, False)
    assert sorted(await keys_of(api)) == sorted([foreign, over])
    _, content = await api.call("GET", "/schedules")
    assert [task["info"]["key"] for task in content["data"]] == [good]
    assert await all_done(api, "delete", "due_before=2000-01-01T00:00:00Z") == (2, False)


@pytest.mark.parametrize(
    ("call", "field", "code"),
    [
        ("POST /dead/delete", None, "invalid-query"),
        ("POST /dead/delete?dry_run=true", None, "invalid-query"),
        ("POST /dead/delete?state=dead", "state", "unknown-parameter"),
        ("POST /dead/delete?type=a&rate=5", "rate", "unknown-parameter"),
        ("POST /dead/replay?rate=0", "rate", "invalid-value"),
        ("POST /dead/replay?dry_run=1", "dry_run", "invalid-value"),
        ("POST /dead/replay?died_before=yesterday", "died_before", "invalid-value"),
        ("POST /dead/replay?error=", "error", "invalid-value"),
        ("POST /dead/replay?cursor=x", "cursor", "invalid-value"),
        ("GET /dead?state=dead", "state", "unknown-parameter"),
        ("GET /dead?label=order", "label", "invalid-value"),
        ("GET /schedules?error=x", "error", "unknown-parameter"),
        ("GET /schedules?died_before=2030-01-01T00:00:00Z", "died_before", "unknown-parameter"),
    ],
)
async def test_a_wrong_call_for_many_is_refused(
    call: str, field: str | None, code: str, api: Client, store: Store
) -> None:
    key = await died(store)
    status, content = await api.call(*call.split(" "))
    assert (status, content.get("field"), content["code"]) == (400, field, code)
    assert await keys_of(api) == [key]
