"""Limits of hosts and of limit keys: as a user and the receiver see them."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Judged, Limiting
from redis_scheduler.task.limit import Breaking
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.scripts.verbs import LIMIT
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"

PARTS = "each shard keeps its part of a limit: tests/acceptance/test_limits_of_all_shards.py"


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """The all-in-one service."""
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "60"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


async def put(api: Client, host: str, **limit: Any) -> dict[str, Any]:
    status, content = await api.call("PUT", f"/hosts/{host}", json=limit)
    assert status == 200, content
    found: dict[str, Any] = content["data"]
    return found


async def host(api: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.call("GET", f"/hosts/{name}"))[1]["data"]
    return found


async def state(api: Client, key: str) -> str | None:
    """The state of a task; None once it is gone."""
    status, content = await api.call("GET", f"/schedule/{key}")
    found: str = content["data"]["info"]["state"] if status == 200 else ""
    return found


async def held(api: Client, name: str, count: int) -> None:
    async def are_held() -> bool:
        return bool((await host(api, name))["held"] == count)

    await wait_until(are_held, f"{count} tasks of {name} are held")


async def paused(api: Client, receiver: Receiver, name: str = "") -> str:
    """Pause the receiver, and wait until the worker has noticed; its name as a host."""
    name = name or f"127.0.0.1:{receiver.port}"
    await put(api, name, paused=True)

    async def is_noticed() -> bool:
        key = await api.schedule(receiver.url, 0, data="probe", **({"limit_key": name[1:]} if name[0] == "@" else {}))

        async def has_moved() -> bool:
            return await state(api, key) in ("held", "delivered")

        await wait_until(has_moved, "the probe is held, or was delivered")
        return await state(api, key) == "held"

    await wait_until(is_noticed, "the worker holds what comes for it")
    await api.call("POST", "/schedules/cancel?state=held")
    receiver.arrivals.clear()
    return name


async def test_what_is_said_of_a_host_is_shown_and_can_be_forgotten(api: Client) -> None:
    said = {"concurrency": 5, "rate": 2.5, "per": 10, "paused": True}
    expected = {"host": "127.0.0.1:80", **said, "held": 0, "running": 0}
    assert await put(api, "0x7f000001:80", **said) == expected
    assert await host(api, "127.0.0.1:80") == expected
    assert (await put(api, "@tenant-1", rate=3)) == {
        "host": "@tenant-1",
        "rate": 3,
        "per": 1,
        "paused": False,
        "held": 0,
        "running": 0,
    }
    status, content = await api.call("GET", "/hosts")
    assert (status, [one["host"] for one in content["data"]], content["more"]) == (
        200,
        ["127.0.0.1:80", "@tenant-1"],
        False,
    )
    assert (await api.call("DELETE", "/hosts/127.1:80"))[0] == 200
    status, content = await api.call("DELETE", "/hosts/127.1:80")
    assert (status, content["code"]) == (404, "host-not-found")
    assert await host(api, "127.0.0.1:80") == {"host": "127.0.0.1:80", "paused": False, "held": 0, "running": 0}


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"concurrency": -1}, "concurrency", "invalid-value"),
        ({"concurrency": 1.5}, "concurrency", "invalid-value"),
        ({"rate": "fast"}, "rate", "invalid-value"),
        ({"rate": 1, "per": 0}, "per", "invalid-value"),
        ({"per": 5}, "per", "contradiction"),
        ({"rate": 0, "per": 5}, "per", "contradiction"),
        ({"paused": 1}, "paused", "invalid-value"),
        ({"pause": True}, "pause", "unknown-field"),
        ({}, None, "nothing-to-change"),
    ],
)
async def test_what_cannot_be_said_of_a_host_is_refused(
    api: Client, body: dict[str, Any], field: str | None, code: str
) -> None:
    status, content = await api.call("PUT", "/hosts/example.com:443", json=body)
    assert (status, content["code"], content.get("field")) == (400, code, field), content
    assert (await api.call("GET", "/hosts"))[1]["data"] == []


@pytest.mark.parametrize("name", ["example.com", "example.com:0", "@", "@-x", "a@b:80", ":80", "x" * 301 + ":80"])
async def test_what_is_no_host_is_refused(api: Client, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        status, content = await api.call(method, f"/hosts/{name}", **({"json": {"rate": 1}} if method == "PUT" else {}))
        assert (status, content["field"]) == (400, "host"), content


async def test_tasks_of_a_paused_host_are_held_and_others_are_not(service: Client, receiver: Receiver) -> None:
    name = await paused(service, receiver)
    keys = [await service.schedule(receiver.url, 0, data=number) for number in range(3)]
    await held(service, name, 3)
    info = (await service.call("GET", f"/schedule/{keys[0]}"))[1]["data"]["info"]
    waits = f"its turn: {name} is paused: PUT /hosts/{name}"
    assert (info["state"], info["expires"], info["waits_for"]) == ("held", None, waits)
    listed = (await service.call("GET", "/schedules?state=held"))[1]["data"]
    assert {task["info"]["key"] for task in listed} == set(keys)
    stats = await service.stats()
    assert (stats["running_schedules"], stats["states"]["held"], stats["ledger_balanced"]) == (3, 3, True)
    other = await service.schedule(receiver.url.replace("127.0.0.1", "localhost"), 0)
    await wait_until(lambda: receiver.arrivals, "a task of another host arrived")
    assert [arrival.key for arrival in receiver.arrivals] == [other]
    await put(service, name, paused=False)
    await wait_until(lambda: len(receiver.arrivals) == 4, "the held ones arrived")
    assert sorted(arrival.key for arrival in receiver.arrivals[1:]) == sorted(keys)


@pytest.mark.parametrize(("wells", "state", "words"), [(0, "open", "the next probe"), (1, "closing", "in step 1 of")])
async def test_a_held_task_says_how_its_breaker_stands(
    wells: int, state: str, words: str, api: Client, client: RedisClient, store: Store
) -> None:
    timing = replace(DEFAULT, breaker_well_ms=0, breaker_gap_ms=30_000)
    limiting = Limiting(client, timing, breaking=Breaking(failures=1))
    task = await states.held(store)
    for judged in (Judged(LIMIT, 1, 0), Judged(LIMIT, 0, wells)):
        await limiting.judge([judged])
    breaker = (await host(api, LIMIT))["breaker"]
    assert (breaker["state"], breaker["since"] < breaker["next"]) == (state, True)
    info = (await api.call("GET", f"/schedule/{task.key}"))[1]["data"]["info"]
    assert info["breaker"] == breaker
    assert words in info["waits_for"]
    assert breaker["since"] in info["waits_for"]
    assert (breaker["next"] in info["waits_for"]) == (state == "open")
    [listed] = (await api.call("GET", "/schedules?state=held"))[1]["data"]
    assert "breaker" not in listed["info"]
    await api.call("POST", "/purge")


@pytest.mark.one_shard(PARTS)
async def test_a_held_task_can_be_changed_paused_run_and_deleted(service: Client, receiver: Receiver) -> None:
    name = await paused(service, receiver)
    keys = [await service.schedule(receiver.url, 0, data=number) for number in range(5)]
    await held(service, name, 5)
    assert (await service.call("PATCH", f"/schedule/{keys[0]}", json={"data": "new"}))[1]["found"] == "updated"
    assert await state(service, keys[0]) == "held"
    assert (await service.call("PATCH", f"/schedule/{keys[1]}", json={"ttl": 600}))[1]["found"] == "updated"
    assert await state(service, keys[1]) == "scheduled"
    assert (await service.call("POST", f"/schedule/{keys[2]}/pause"))[1]["found"] == "held"
    assert await state(service, keys[2]) == "paused"
    assert (await service.call("POST", f"/schedule/{keys[3]}/run"))[1]["found"] == "held"
    assert await state(service, keys[3]) == "held"
    assert (await service.call("DELETE", f"/schedule/{keys[4]}"))[1]["data"] == "cancelled"
    await held(service, name, 2)
    assert (await service.call("DELETE", f"/hosts/{name}"))[0] == 200
    await wait_until(lambda: len(receiver.arrivals) == 2, "what was held arrived")
    assert {arrival.key: arrival.json() for arrival in receiver.arrivals} == {keys[0]: "new", keys[3]: 3}

    async def are_settled() -> bool:
        return bool((await service.stats())["running_schedules"] == 2)

    await wait_until(are_settled, "what arrived is settled")
    assert (await service.call("POST", "/purge"))[1]["data"] == 2


@pytest.mark.one_shard(PARTS)
async def test_a_limit_key_stands_for_the_host(service: Client, receiver: Receiver) -> None:
    name = await paused(service, receiver, "@tenant-1")
    key = await service.schedule(receiver.url, 0, limit_key="tenant-1")
    await held(service, name, 1)
    other = await service.schedule(receiver.url, 0, limit_key="tenant-2")
    await wait_until(lambda: receiver.arrivals, "a task of another limit key arrived")
    assert [arrival.key for arrival in receiver.arrivals] == [other]
    assert (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["limit_key"] == "tenant-1"
    assert (await service.call("POST", "/purge"))[1]["data"] == 1
    await held(service, name, 0)


@pytest.mark.one_shard(PARTS)
async def test_a_held_task_leaves_the_line_of_its_limit_once_it_is_under_another(
    service: Client, receiver: Receiver
) -> None:
    name = await paused(service, receiver)
    other_url = receiver.url.replace("127.0.0.1", "localhost")
    keys = [await service.schedule(receiver.url, 0, data=number) for number in range(4)]
    await held(service, name, 4)
    changes: list[dict[str, Any]] = [
        {"webhook": other_url},
        {"limit_key": "tenant-1"},
        {"webhook": receiver.url + "?under=the-same", "labels": {"a": "b"}},
        {"limit_key": "tenant-2", "webhook": other_url},
    ]
    for key, change in zip(keys, changes, strict=True):
        assert (await service.call("PATCH", f"/schedule/{key}", json=change))[1]["found"] == "updated"
    await wait_until(lambda: len(receiver.arrivals) == 3, "those under other limits arrived")
    assert sorted(arrival.key for arrival in receiver.arrivals) == sorted(key for key in keys if key != keys[2])
    assert await state(service, keys[2]) == "held"
    # Back under the first limit it is held there.
    key = await service.schedule(other_url, 600, data="later")
    assert (await service.call("PATCH", f"/schedule/{key}", json={"webhook": receiver.url, "ttl": 0}))[0] == 200
    await held(service, name, 2)


@pytest.mark.one_shard(PARTS)
async def test_a_host_with_a_concurrency_has_no_more_at_once(service: Client, receiver: Receiver) -> None:
    name = f"127.0.0.1:{receiver.port}"
    await paused(service, receiver)
    keys = [await service.schedule(receiver.url, 0, data=number) for number in range(40)]
    await held(service, name, 40)
    receiver.delay_s = 0.02
    await put(service, name, concurrency=3)
    await wait_until(lambda: len(receiver.arrivals) == 40, "all arrived")
    assert receiver.most_in_flight == 3
    assert sorted(receiver.times_by_key) == sorted(keys)


@pytest.mark.one_shard(PARTS)
async def test_a_host_with_a_rate_has_no_more_in_its_time(service: Client, receiver: Receiver) -> None:
    name = f"127.0.0.1:{receiver.port}"
    await paused(service, receiver)
    for number in range(60):
        await service.schedule(receiver.url, 0, data=number)
    await held(service, name, 60)
    await put(service, name, rate=20)
    began = time.monotonic()
    await wait_until(lambda: len(receiver.arrivals) == 60, "all arrived")
    # What a rate may catch up with comes at once: 0.3 s of it, 6 tasks.
    assert time.monotonic() - began >= 2.5
