"""A task that says how it is sent: what the API answers, what Redis holds, and what arrives."""

from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store.keys import GROUP
from tests.support.names import KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.shards import have_groups
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/hook"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = TRACE.replace("00-", "01-")
OLD = "host-4711-0a1b2c3d"


async def records(raw: redis.asyncio.Redis) -> dict[Any, Any]:
    """Those of all tasks, by their keys."""
    return {key: record for keys in KEYS_OF_SHARDS for key, record in (await raw.hgetall(keys.tasks)).items()}


async def test_a_task_is_shown_as_it_was_given(api: Client, raw: redis.asyncio.Redis) -> None:
    options: dict[str, Any] = {"method": "PUT", "headers": {"X-A": "1"}, "timeout": 0.5}
    key = await api.schedule(WEBHOOK, 60, body="a text", **options)
    _, content = await api.call("GET", f"/schedule/{key}")
    assert content["data"]["body"] == "a text"
    assert content["data"]["data"] is None
    assert {name: content["data"]["info"][name] for name in options} == options
    _, listed = await api.call("GET", "/schedules")
    [task] = listed["data"]
    assert (task["body"], task["data"]) == ("a text", None)
    assert {name: task["info"][name] for name in options} == options
    assert b',"head":' in (await records(raw))[key.encode()]


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"headers": {"X\r\nEvil": "1"}}, "invalid-value", "headers"),
        ({"headers": {"X": "1\r\nEvil: 1"}}, "invalid-value", "headers"),
        ({"headers": {"Host": "elsewhere"}}, "invalid-value", "headers"),
        ({"method": "TRACE"}, "invalid-value", "method"),
        ({"timeout": 900.5}, "invalid-value", "timeout"),
        ({"data": 1, "body": "1"}, "contradiction", "body"),
        ({"data": 1, "method": "GET"}, "contradiction", "method"),
        ({"body_base64": "no"}, "invalid-value", "body_base64"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_writes_nothing(
    api: Client, raw: redis.asyncio.Redis, change: dict[str, Any], code: str, field: str
) -> None:
    keys = await raw.keys()
    status, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 60, **change})
    assert (status, content["code"], content["field"]) == (400, code, field)
    assert await raw.keys() == keys
    key = await api.schedule(WEBHOOK, 60, data=1)
    before = await records(raw)
    status, content = await api.call("PATCH", f"/schedule/{key}", json=change)
    assert (status, content["code"], content["field"]) == (400, code, field)
    assert await records(raw) == before


@pytest.mark.parametrize(
    ("given", "fields", "shown"),
    [
        (TRACE, {}, TRACE),
        (TRACE, {"method": "PUT"}, TRACE),
        (TRACE, {"traceparent": OTHER_TRACE}, OTHER_TRACE),
        ("00-0-0-00", {}, None),
    ],
)
async def test_the_trace_of_the_request_is_kept(
    api: Client, given: str, fields: dict[str, Any], shown: str | None
) -> None:
    body = {"webhook": WEBHOOK, "ttl": 60, **fields}
    status, content = await api.call("POST", "/schedule", json=body, headers={"traceparent": given})
    assert status == 200
    several = {"tasks": [body, body]}
    status, batch = await api.call("POST", "/schedules", json=several, headers={"traceparent": given})
    assert status == 200
    for key in (content["key"], *batch["data"]):
        _, found = await api.call("GET", f"/schedule/{key}")
        assert found["data"]["info"].get("traceparent") == shown


async def test_the_longest_time_out_is_told(api: Client) -> None:
    _, content = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 60, "timeout": 901})
    said = "timeout: must be at most MAX_TIMEOUT, which is 900, got 901"
    assert content["error"] == said


async def test_while_an_old_worker_lives_a_task_that_it_cannot_deliver_is_refused(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    plain, special = await api.schedule(WEBHOOK, 60), await api.schedule(WEBHOOK, 60, body="1")
    await have_groups(raw)
    for keys in KEYS_OF_SHARDS:
        await raw.xgroup_createconsumer(keys.queue, GROUP, OLD)

    async def refused(verb: str, path: str, **fields: Any) -> bool:
        status, content = await api.call(verb, path, json=fields)
        if status == 200:
            return False
        assert (status, content["code"]) == (409, "older-worker")
        assert OLD in content["error"]
        return True

    # What Redis said before holds for two seconds.
    await wait_until(lambda: refused("PATCH", f"/schedule/{special}", body="2"), "it is refused", every_s=0.1)
    tasks = await records(raw)
    needing: list[dict[str, Any]] = [{"method": "PUT"}, {"body": "1"}, {"headers": {"X": "1"}}, {"timeout": 1}]
    for fields in needing:
        assert await refused("POST", "/schedule", webhook=WEBHOOK, ttl=60, **fields)
        assert await refused("PATCH", f"/schedule/{plain}", **fields)
    assert await records(raw) == tasks
    assert await api.schedule(WEBHOOK, 60, data=1)
    # Nobody asked for the trace: without it the old worker can deliver the task.
    traced = await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 60}, headers={"traceparent": TRACE})
    assert traced[0] == 200
    assert b"traceparent" not in (await records(raw))[traced[1]["key"].encode()]
    assert (await api.call("PATCH", f"/schedule/{plain}", json={"ttl": 70}))[0] == 200
    for keys in KEYS_OF_SHARDS:
        await raw.xgroup_delconsumer(keys.queue, GROUP, OLD)

    async def taken() -> bool:
        return not await refused("POST", "/schedule", webhook=WEBHOOK, ttl=60, method="PUT")

    await wait_until(taken, "it is taken", every_s=0.1)


async def test_each_retry_is_sent_as_the_task_says_and_ends_in_its_time(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRY_TIME="0.1", TIMEOUT="5", MAX_TIMEOUT="5") as process,
        client_of(process) as user,
    ):
        status, _ = await user.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0, "timeout": 5.1})
        assert status == 400
        receiver.may_answer.clear()
        key = await user.schedule(receiver.url, 0, method="DELETE", body="é", timeout=0.3, headers={"X-A": "é"})
        await wait_until(lambda: len(receiver.arrivals) >= 2, "a second attempt")
        receiver.may_answer.set()
        await user.drained()
    for arrival in receiver.arrivals:
        assert (arrival.method, arrival.key, arrival.body) == ("DELETE", key, "é".encode())
        assert arrival.headers["X-A"].encode(errors="surrogateescape") in (b"\xe9", "é".encode())
    assert {event["error"] for event in process.events("retry")} == {"no answer within 0.3 s"}


async def test_an_older_worker_gives_a_task_back_and_a_newer_one_delivers_it(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN}
    async with serving(tmp_path, "api", **settings) as process, client_of(process) as user:
        special = await user.schedule(receiver.url, 0, method="PUT")
        plain = await user.schedule(receiver.url, 0)
        older = Process(tmp_path, "worker", module="tests.support.older", prefix=["env"], **settings)
        try:
            given_back = await wait_until(lambda: older.events("left-to-newer"), "it is given back", timeout_s=30)
            await wait_until(lambda: receiver.arrivals, "the other task is delivered")

            async def is_taken() -> bool:
                status, content = await user.call("PATCH", f"/schedule/{special}", json={"ttl": 600, "method": "PUT"})
                assert (status, content.get("code")) in ((200, None), (409, "older-worker"))
                return status == 200

            async def is_refused() -> bool:
                return not await is_taken()

            await wait_until(is_refused, "it is refused", every_s=0.1)
        finally:
            await older.stop()
        assert [event["key"] for event in given_back] == [special]
        assert "method" in given_back[0]["error"]
        assert receiver.times_by_key == {plain: 1}
        await wait_until(is_taken, "it is taken again", every_s=0.1)
        assert (await user.call("PATCH", f"/schedule/{special}", json={"ttl": 0}))[0] == 200
        async with serving(tmp_path, "worker", **settings):
            await wait_until(lambda: receiver.times_by_key == {plain: 1, special: 1}, "it is delivered", timeout_s=20)
        assert receiver.arrivals[-1].method == "PUT"
