"""A token with types sees and changes only tasks of these, by whatever route; the others are not there for it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.own_types import TASK_PATHS
from redis_scheduler.api.routes import AUDIT_ROUTE, METRICS_ROUTE, TASK_ROUTES, Route
from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.written import Put
from tests.scripts import states
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.store import Store
from tests.support.tokens import ALL_RIGHTS, make_token

HOOK = "http://127.0.0.1:9/"
BODY = {"webhook": HOOK, "ttl": 60}
OF_KEYS = [
    pytest.param(route, id=f"{route.method} {route.path}") for route in TASK_ROUTES if route.path.startswith(TASK_PATHS)
]
OF_MANY = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for route in TASK_ROUTES
    if "{key}" not in route.path and "type" in (route.parameters or ())
]
ACK = {"Schedule-Ack": "x"}
ROUNDS = 80


@pytest.fixture
async def mail(api: Client, client: RedisClient) -> Client:
    """Whoever has a token for tasks of two types."""
    return api.with_token(await make_token(client, *ALL_RIGHTS, types=("mail", "order")))


async def left(api: Client) -> int:
    stats = await api.stats()
    return int(stats["running_schedules"]) + int(stats["states"]["dead"])


def asking(route: Route[Any], key: str) -> dict[str, Any]:
    """What a request for a task is, which would be served if the token had its type."""
    body = {"PUT": BODY, "PATCH": {"ttl": 70}}.get(route.method)
    given: dict[str, Any] = {"headers": dict(ACK)}
    if body:
        given["json"] = body
    return given


@pytest.mark.parametrize("route", OF_KEYS)
async def test_a_task_of_another_type_is_not_there(
    route: Route[Any], api: Client, mail: Client, client: RedisClient
) -> None:
    store = Store(client, process_name())
    others = ["own:other", await api.schedule(HOOK, 60), (await states.dead(store)).key]
    await api.call("PUT", "/schedule/own:other?type=news", json=BODY)
    for key in others:
        path = route.path.replace("{key}", key) + ("?type=mail" if route.method == "PUT" else "")
        before = await api.call("GET", f"/schedule/{key}")
        status, content = await mail.call(route.method, path, **asking(route, key))
        if route.method == "PUT" and key == "own:other":
            assert (status, content["code"]) == (403, "other-type")
        elif route.method == "PUT":
            assert status == 409 or (status, content["code"]) == (403, "other-type")
        else:
            assert status == 404, content
            wanted = "dead-letter-not-found" if route.path.startswith("/dead/") else "task-not-found"
            assert content["code"] == wanted
        assert await api.call("GET", f"/schedule/{key}") == before
    await api.call("POST", "/purge")


@pytest.mark.parametrize("route", OF_KEYS)
async def test_a_task_of_an_own_type_is_there(
    route: Route[Any], api: Client, mail: Client, client: RedisClient
) -> None:
    await api.call("PUT", "/schedule/own:mail?type=mail", json=BODY)
    if route.path.startswith("/dead/"):
        task = await states.dead(Store(client, "worker"))
        raw = await client.command("HGET", KEYS.tasks, task.key)
        await client.command("HSET", KEYS.tasks, task.key, raw.replace(b',"ttl"', b',"type":"mail","ttl"', 1))
        key = task.key
    else:
        key = "own:mail"
    path = route.path.replace("{key}", key) + ("?type=mail" if route.method == "PUT" else "")
    status, content = await mail.call(route.method, path, **asking(route, key))
    assert status == 200 or content["code"] == "wrong-acknowledgement", content
    await api.call("POST", "/purge")


@pytest.mark.parametrize("route", OF_MANY)
async def test_what_is_done_to_many_or_shown_of_them_leaves_the_others_out(
    route: Route[Any], api: Client, mail: Client
) -> None:
    for name in ("mail", "order", "news", "default"):
        await api.schedule(HOOK, 60, f"/schedule?type={name}")
    status, content = await mail.call(route.method, f"{route.path}?type=news")
    assert (status, content["code"]) == (403, "other-type")
    if route.path == "/schedules" and route.method == "GET":
        for query in ("", "?state=scheduled", "?host=127.0.0.1:9", "?limit=4"):
            _, content = await mail.call("GET", f"/schedules{query}")
            assert sorted(one["info"]["type"] for one in content["data"]) == ["mail", "order"]
    if route.path.startswith("/schedules/"):
        query = "?by=5" if "shift" in route.path else "?host=127.0.0.1:9"
        paused = "resume" in route.path
        if paused:
            await api.call("POST", "/schedules/pause")
        for dry in ("&dry_run=true", ""):
            _, content = await mail.call("POST", f"{route.path}{query}{dry}")
            assert content["data"] == 2 if isinstance(content.get("data"), int) else True, content
            assert (content["touched"], content["looked_at"]) == (2, 2), content
        _, content = await api.call("GET", "/schedules?type=news")
        [news] = content["data"]
        assert news["info"]["state"] == ("paused" if paused else "scheduled")
    await api.call("POST", "/purge")


TAKES = [
    ("DELETE", "/schedule/own:e"),
    ("POST", "/schedule/own:e/pause"),
    ("POST", "/schedule/own:e/run"),
    ("POST", "/schedules/cancel?key_prefix=own:e"),
    ("POST", "/schedules/pause?key_prefix=own:e"),
    ("POST", "/schedules/run?key_prefix=own:e"),
    ("POST", "/schedules/shift?by=1000&key_prefix=own:e"),
]


@pytest.mark.parametrize(("method", "path"), TAKES, ids=[f"{method} {path}" for method, path in TAKES])
async def test_a_task_that_takes_the_key_in_between_is_not_touched(
    method: str, path: str, mail: Client, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """The type of the key's task changes all the time while the token asks: between its look and its write, too."""
    store, key, is_over = Store(client, process_name()), "own:e", asyncio.Event()

    async def ask() -> int:
        found = []
        while not is_over.is_set():
            found.append((await mail.call(method, path))[0])
        return found.count(200)

    async def stands(name: str) -> bool:
        """Put a task of a type in the place of the one that is there; return whether it is left alone."""
        await store.cancel([(key, other) for other in ("mail", "news") if other != name])
        put = Put(replace(states.new_task(60_000, name), key=key), b"", None)
        await store.put([put])
        # Its own the token is to meet at times, the other it must not change: so it has longer for its own.
        await asyncio.sleep(0.02 if name == "mail" else 0.002)
        record, score = await states.ask(raw, "HGET", KEYS.tasks, key), await raw.zscore(KEYS.due, key)
        return record is not None and record.endswith(put.task.tail) and b'{"due":%d,' % (score or 0) in record

    asking = [asyncio.create_task(ask()) for _ in range(6)]
    left_alone: list[list[bool]] = []
    # A busy machine may need more rounds until the token meets one of its own.
    while len(left_alone) < ROUNDS or (all(of_mail for of_mail, _ in left_alone) and len(left_alone) < 20 * ROUNDS):
        left_alone.append([await stands(name) for name in ("mail", "news")])
    is_over.set()
    assert sum(await asyncio.gather(*asking)) > 0
    assert not all(of_mail for of_mail, _ in left_alone), "the token met none of its own"
    assert all(of_news for _, of_news in left_alone)
    await store.cancel([(key, "news")])


async def test_dead_letters_of_other_types_are_in_no_list_and_no_count(
    api: Client, mail: Client, client: RedisClient
) -> None:
    store = Store(client, "worker")
    for _ in range(3):
        await states.dead(store)
    _, content = await mail.call("GET", "/dead")
    assert content["data"] == []
    _, content = await mail.call("GET", "/dead/groups")
    assert "3" not in str({name: value for name, value in content.items() if name != "status"})
    for path in ("/dead/replay?host=localhost", "/dead/delete?died_before=2999-01-01T00:00:00Z"):
        for dry in ("&dry_run=true", ""):
            _, content = await mail.call("POST", f"{path}{dry}")
            assert (content["touched"], content["looked_at"]) == (0, 0)
    _, content = await api.call("GET", "/dead")
    assert len(content["data"]) == 3
    await api.call("POST", "/purge")


async def test_only_tasks_of_own_types_are_scheduled_with_such_callbacks(api: Client, mail: Client) -> None:
    callback = {"webhook": HOOK, "type": "mail"}
    other = {"webhook": HOOK}
    refused: list[tuple[str, str, Any, str]] = [
        ("POST", "/schedule", BODY, "type"),
        ("POST", "/schedule?type=default", BODY, "type"),
        ("POST", "/schedule?type=news", BODY, "type"),
        ("PUT", "/schedule/own:e?type=news", BODY, "type"),
        ("POST", "/schedules?type=mail", {"tasks": [BODY, BODY | {"type": "news"}]}, "type"),
        ("POST", "/schedules", {"tasks": [BODY]}, "type"),
        ("POST", "/schedule?type=mail", BODY | {"on_success": other}, "on_success.type"),
        (
            "POST",
            "/schedule?type=mail",
            BODY | {"on_failure": callback | {"on_success": other}},
            "on_failure.on_success.type",
        ),
    ]
    for method, path, body, field in refused:
        status, content = await mail.call(method, path, json=body)
        assert (status, content["code"], content["field"]) == (403, "other-type", field), path
    assert await left(api) == 0
    key = await mail.schedule(HOOK, 60, "/schedule?type=mail", on_success=callback)
    status, content = await mail.call("PATCH", f"/schedule/{key}", json={"on_success": other})
    assert (status, content["code"]) == (403, "other-type")
    assert (await mail.call("PATCH", f"/schedule/{key}", json={"on_success": None}))[0] == 200
    status, _ = await mail.call("POST", "/schedules?type=mail", json={"tasks": [BODY, BODY | {"type": "order"}]})
    assert status == 200
    status, content = await mail.call("GET", "/stats")
    assert content["data"] == {"running_schedules": 3, "types": {"mail": 2, "order": 1}}
    await api.call("PUT", "/schedule/own:b?type=news", json=BODY)
    item = BODY | {"key": "own:b", "type": "mail"}
    status, content = await mail.call("POST", "/schedules", json={"tasks": [item]})
    assert (status, content["code"]) == (403, "other-type")
    await api.call("POST", "/purge")


OF_ALL = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for route in (*TASK_ROUTES, AUDIT_ROUTE, METRICS_ROUTE)
    if not (route.path.startswith(TASK_PATHS) or "type" in (route.parameters or ()) or route.has_no_type)
]


@pytest.mark.parametrize("route", OF_ALL)
async def test_what_is_of_all_types_is_refused(route: Route[Any], mail: Client) -> None:
    status, content = await mail.call(route.method, route.path.replace("{key}", "a:1"))
    assert (status, content["code"]) == (403, "other-type")


async def test_what_is_of_no_type_is_served(mail: Client) -> None:
    assert (await mail.call("POST", "/repeat/preview", json={"repeat": {"every": 5}}))[0] == 200


async def test_a_list_of_one_type_goes_by_its_index(api: Client, client: RedisClient) -> None:
    user = api.with_token(await make_token(client, "read", types=("mail",)))
    for name in ("mail", "news", "mail"):
        await api.schedule(HOOK, 60, f"/schedule?type={name}")
    _, content = await user.call("GET", "/schedules?limit=1")
    assert [one["info"]["type"] for one in content["data"]] == ["mail"]
    _, content = await user.call("GET", f"/schedules?limit=5&cursor={content['next']}")
    assert [one["info"]["type"] for one in content["data"]] == ["mail"]
    await api.call("POST", "/purge")
