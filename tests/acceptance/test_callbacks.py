"""Callbacks: tasks that start with the end of another, as a user and the receivers see them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.task.callback import TOLD_BYTES
from tests.acceptance.test_bad_input import GOOD, refused
from tests.support.receiver import Arrival, Receiver
from tests.support.service import Client, client_of, run, serving
from tests.support.waiting import wait_until

ANSWERS = {"/bad": (500, b"broken"), "/bytes": (200, b"\xff\xfe"), "/long": (200, b"x" * 40_000), "/late": (202, b"")}


async def answer(request: web.Request) -> web.Response:
    status, body = ANSWERS.get(request.path, (200, b"taken at " + request.path.encode()))
    headers = {"Schedule-Again-In": "0"} if request.path == "/again" else {}
    return web.Response(status=status, body=body, headers=headers)


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Client]:
    """The all-in-one service; a task that failed twice is dead."""
    receiver.behaviour = answer
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "0"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


def came(receiver: Receiver, path: str) -> list[Arrival]:
    return [one for one in receiver.arrivals if one.path == path]


async def told(receiver: Receiver, path: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for so many callbacks at a path; what each was told."""
    await wait_until(lambda: len(came(receiver, path)) >= count, f"{count} came to {path}")
    return [json.loads(one.body) for one in came(receiver, path)]


async def info(api: Client, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    return found


async def test_a_success_starts_a_task_that_is_told_of_it(service: Client, receiver: Receiver) -> None:
    hook = f"{receiver.url}work?q=1"
    callback = {"webhook": f"{receiver.url}well", "data": {"a": 1}, "include_data": True, "headers": {"X-A": "1"}}
    key = await service.schedule(hook, path="/schedule?type=mail", data=[7], on_success=callback)
    [found] = await told(receiver, "/well")
    due, ended = found.pop("due"), found.pop("ended")
    assert due <= ended
    assert found == {
        "event": "task.delivered",
        "key": key,
        "type": "mail",
        "webhook": hook,
        "attempts": 1,
        "status": 200,
        "error": None,
        "answer": "taken at /work",
        "data": {"a": 1},
        "task": [7],
    }
    [arrival] = came(receiver, "/well")
    assert arrival.headers["X-A"] == "1"
    assert arrival.headers["Content-Type"] == "application/json"
    assert arrival.key != key
    stats = await service.drained()
    assert (stats["counters"]["scheduled"], stats["counters"]["delivered"], stats["ledger_balanced"]) == (2, 2, True)


async def test_a_failure_starts_its_task_once_all_attempts_have_failed(service: Client, receiver: Receiver) -> None:
    callbacks: Any = {"on_success": {"webhook": f"{receiver.url}well"}, "on_failure": {"webhook": f"{receiver.url}ill"}}
    key = await service.schedule(f"{receiver.url}bad", **callbacks)
    [found] = await told(receiver, "/ill")
    assert found["event"] == "task.died"
    assert (found["key"], found["attempts"], found["status"]) == (key, 2, 500)
    assert (found["error"], found["answer"], found["data"]) == ("answered 500", "broken", None)
    assert len(came(receiver, "/bad")) == 2
    # A replay that dies again tells so again, and one with changes tells whom they name.
    assert (await service.call("POST", f"/dead/{key}/replay"))[0] == 200
    assert len(await told(receiver, "/ill", 2)) == 2
    changes = {"on_failure": {"webhook": f"{receiver.url}other"}, "retries": 0}
    assert (await service.call("POST", f"/dead/{key}/replay", json=changes))[0] == 200
    assert (await told(receiver, "/other"))[0]["attempts"] == 1
    await service.drained()
    assert len(came(receiver, "/ill")) == 2
    assert not came(receiver, "/well")


async def test_a_task_that_expires_is_told_of(service: Client, receiver: Receiver) -> None:
    callback = {"webhook": f"{receiver.url}ill"}
    await service.schedule(f"{receiver.url}bad", on_failure=callback, retry_times=[0, 60], expire=30)
    [found] = await told(receiver, "/ill")
    assert (found["event"], found["attempts"], found["status"]) == ("task.expired", 2, 500)
    stats = await service.drained()
    assert (stats["counters"]["expired"], stats["ledger_balanced"]) == (1, True)


async def test_a_callback_may_wait_and_have_callbacks_of_its_own(service: Client, receiver: Receiver) -> None:
    third = {"webhook": f"{receiver.url}third", "on_success": {"webhook": f"{receiver.url}end"}}
    second = {"webhook": f"{receiver.url}bad", "ttl": 600, "type": "later", "retries": 0, "on_failure": third}
    await service.schedule(f"{receiver.url}first", on_success=second)
    listed: list[dict[str, Any]] = []

    async def is_scheduled() -> bool:
        listed[:] = (await service.call("GET", "/schedules?type=later"))[1]["data"]
        return len(listed) == 1

    await wait_until(is_scheduled, "the callback waits for its time")
    shown = listed[0]["info"]
    assert (shown["ttl"], shown["state"], shown["on_failure"]) == (600, "scheduled", third)
    assert (await service.call("PATCH", f"/schedule/{shown['key']}", json={"ttl": 0}))[0] == 200
    [found] = await told(receiver, "/end")
    assert (found["event"], found["webhook"], found["answer"]) == (
        "task.delivered",
        third["webhook"],
        "taken at /third",
    )
    [found] = await told(receiver, "/third")
    assert (found["event"], found["key"], found["type"]) == ("task.died", shown["key"], "later")


async def test_of_an_answer_the_beginning_is_told(service: Client, receiver: Receiver) -> None:
    callback = {"webhook": f"{receiver.url}well"}
    for path in ("long", "bytes"):
        await service.schedule(receiver.url + path, on_success=callback)
    found = {one["webhook"].rpartition("/")[2]: one for one in await told(receiver, "/well", 2)}
    assert found["long"]["answer"] == "x" * TOLD_BYTES
    assert (found["bytes"]["answer"], found["bytes"]["answer_base64"]) == (None, "//4=")


async def test_a_callback_by_get_is_called_and_sent_nothing(service: Client, receiver: Receiver) -> None:
    await service.schedule(receiver.url, on_success={"webhook": f"{receiver.url}ping", "method": "GET"})
    await wait_until(lambda: came(receiver, "/ping"), "it is called")
    [arrival] = came(receiver, "/ping")
    assert (arrival.method, arrival.body) == ("GET", b"")


async def test_a_job_that_takes_long_starts_its_task_once_its_receiver_says_so(
    service: Client, receiver: Receiver
) -> None:
    callbacks: Any = {"on_success": {"webhook": f"{receiver.url}well"}, "on_failure": {"webhook": f"{receiver.url}ill"}}
    for verb, path in (("done", "/well"), ("fail", "/ill")):
        key = await service.schedule(f"{receiver.url}late", ack=True, retries=0, **callbacks)
        [arrival] = await wait_until(lambda: came(receiver, "/late"), "it is delivered")
        headers = {"Schedule-Ack": arrival.headers["Schedule-Ack"]}

        async def is_awaited(key: str = key) -> bool:
            return bool((await info(service, key))["state"] == "awaiting")

        await wait_until(is_awaited, "it waits")
        assert not came(receiver, path)
        assert (await service.call("POST", f"/schedule/{key}/{verb}", headers=headers))[0] == 200
        [found] = await told(receiver, path)
        assert (found["key"], found["attempts"], found["status"], found["answer"]) == (key, 1, 202, None)
        receiver.arrivals.clear()


async def test_a_task_that_comes_again_starts_its_task_only_at_its_end(service: Client, receiver: Receiver) -> None:
    await service.schedule(f"{receiver.url}again", again_most=2, on_success={"webhook": f"{receiver.url}well"})
    await service.drained()
    assert [one.path for one in receiver.arrivals] == ["/again"] * 3 + ["/well"]


async def test_each_occurrence_of_a_series_has_its_callbacks(service: Client, receiver: Receiver) -> None:
    callback = {"webhook": f"{receiver.url}well", "data": "mine"}
    body = {"webhook": receiver.url, "repeat": {"every": 60, "times": 2}, "ttl": 0, "on_success": callback}
    status, content = await service.call("POST", "/schedule", json=body)
    assert status == 200, content
    await told(receiver, "/well")
    assert (await service.call("POST", f"/schedule/{content['key']}/run"))[0] == 200
    found = await told(receiver, "/well", 2)
    occurrences = [one.key for one in receiver.arrivals if "Schedule-Occurrence" in one.headers]
    assert [one["key"] for one in found] == occurrences
    assert [one["data"] for one in found] == ["mine"] * 2
    stats = await service.drained()
    assert stats["ledger_balanced"]
    assert len(receiver.arrivals) == 4


async def test_a_task_that_is_cancelled_or_purged_tells_nobody(service: Client, receiver: Receiver) -> None:
    callbacks: Any = {"on_success": {"webhook": f"{receiver.url}well"}, "on_failure": {"webhook": f"{receiver.url}ill"}}
    keys = [await service.schedule(receiver.url, 600, **callbacks) for _ in range(3)]
    receiver.behaviour = None
    receiver.may_answer.clear()
    under_way = await service.schedule(receiver.url, **callbacks)
    await wait_until(lambda: receiver.in_flight, "it is delivered")
    for key in (keys[0], under_way):
        assert (await service.call("DELETE", f"/schedule/{key}"))[0] == 200
    receiver.may_answer.set()
    assert (await service.call("POST", "/purge"))[0] == 200
    await service.schedule(f"{receiver.url}last")
    await wait_until(lambda: came(receiver, "/last"), "what comes later is delivered")
    assert [one.path for one in receiver.arrivals] == ["/", "/last"]
    assert (await service.stats())["ledger_balanced"]


async def test_a_change_takes_callbacks_away_and_gives_others(service: Client, receiver: Receiver) -> None:
    given = {"webhook": f"{receiver.url}well", "ttl": 1.5, "data": {"b": [1, "ü"]}, "include_data": True}
    key = await service.schedule(receiver.url, 600, on_success=given, on_failure={"webhook": f"{receiver.url}ill"})
    shown = await info(service, key)
    assert (shown["on_success"], shown["on_failure"]) == (given, {"webhook": f"{receiver.url}ill"})

    async def etag() -> str:
        async with service.session.get(f"{service.url}/schedule/{key}", headers=service.headers) as answered:
            return answered.headers["ETag"]

    before = await etag()
    for change in ({"on_success": None}, {"on_failure": {"webhook": f"{receiver.url}other"}}):
        assert (await service.call("PATCH", f"/schedule/{key}", json=change))[0] == 200
    assert await etag() != before
    status, content = await service.call("DELETE", f"/schedule/{key}", headers={"If-Match": before})
    assert (status, content["code"]) == (412, "precondition-failed")
    shown = await info(service, key)
    assert "on_success" not in shown
    assert shown["on_failure"] == {"webhook": f"{receiver.url}other"}


async def test_tasks_of_a_batch_and_own_keys_have_callbacks(service: Client, receiver: Receiver) -> None:
    tasks = [{"webhook": receiver.url, "ttl": 0, "on_success": {"webhook": f"{receiver.url}{n}"}} for n in range(3)]
    status, content = await service.call("POST", "/schedules", json={"tasks": tasks})
    assert status == 200, content
    for number, key in enumerate(content["data"]):
        assert (await told(receiver, f"/{number}"))[0]["key"] == key
    body = {"webhook": receiver.url, "ttl": 0, "on_success": {"webhook": f"{receiver.url}own"}}
    assert (await service.call("PUT", "/schedule/order:17", json=body))[0] == 200
    assert (await told(receiver, "/own"))[0]["key"] == "order:17"


async def test_callbacks_come_over_in_an_export(
    service: Client, receiver: Receiver, redis_url: str, tmp_path: Path
) -> None:
    text = '{"webhook": "%s", "ttl": 600, "on_failure": {"webhook": "%swell", "data": {\n"a": [\r\n1.0]}, "ttl": 0}}'
    body = text % (receiver.url, receiver.url)
    headers = {"Content-Type": "application/json"}
    status, content = await service.call("POST", "/schedule", data=body, headers=headers)
    assert status == 200, content
    before = await info(service, content["key"])
    path = str(tmp_path / "tasks")
    assert run("export", path, REDIS_URL=redis_url).returncode == 0
    assert (await service.call("POST", "/purge"))[0] == 200
    imported = run("import", path, REDIS_URL=redis_url)
    assert imported.returncode == 0, imported
    assert await info(service, content["key"]) == before


HOOK = "http://127.0.0.1:9/"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_success": 1}, "on_success"),
    ({"on_failure": {"webhook": HOOK, "x\n": 1}}, "on_failure.x\n"),
    ({"on_failure": {"webhook": HOOK, "key": "mine"}}, "on_failure.key"),
    ({"on_failure": {"webhook": HOOK, "repeat": {"every": 1}}}, "on_failure.repeat"),
    ({"on_success": {"webhook": HOOK, "headers": {"X": "a\r\nHost: b"}}}, "on_success.headers"),
    ({"on_success": {"webhook": HOOK, "timeout": 901}}, "on_success.timeout"),
    (
        {"on_success": {"webhook": HOOK, "on_failure": {"webhook": HOOK, "timeout": 901}}},
        "on_success.on_failure.timeout",
    ),
    ({"include_data": True}, "include_data"),
    ({"on_failure": {"webhook": HOOK, "event": False, "include_data": True}}, "on_failure.event"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
async def test_a_wrong_callback_is_refused_wherever_it_is_given(
    api: Client, raw: redis.asyncio.Redis, fields: dict[str, Any], field: str
) -> None:
    task, shown = {"webhook": HOOK, "ttl": 60} | fields, json.dumps(field)[1:-1]
    for method, path in (("POST", "/schedule"), ("PUT", "/schedule/own:key")):
        status, error = await refused(api, raw, method, path, json=task)
        assert (status, error.startswith(f"{shown}: ")) == (400, True)
    status, content = await api.call("POST", "/schedules", json={"tasks": [GOOD, task]})
    assert (status, content["index"], content["field"]) == (400, 1, field)
    assert content["error"].startswith(f"tasks[1].{shown}: ")
    key = await api.schedule(HOOK, 60)
    assert (await api.stats())["counters"]["scheduled"] == 1
    status, error = await refused(api, raw, "PATCH", f"/schedule/{key}", json=fields)
    assert (status, error.startswith(f"{shown}: ")) == (400, True)


@pytest.mark.parametrize("depth", [9, 50, 150])
async def test_callbacks_in_callbacks_without_end_are_refused(api: Client, depth: int) -> None:
    inner = ',"on_success":{"webhook":"http://a/"' * depth
    body = f'{{"webhook":"{HOOK}","ttl":0{inner}{"}" * (depth + 1)}'
    status, content = await api.call("POST", "/schedule", data=body, headers={"Content-Type": "application/json"})
    assert (status, content["code"], content["field"]) == (400, "too-deep", ".".join(["on_success"] * 9))
    assert (await api.stats())["counters"]["scheduled"] == 0
