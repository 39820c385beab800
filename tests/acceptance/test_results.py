"""What became of a task can be asked for a while after its end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.history import History
from redis_scheduler.store.keys import GROUP
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.waiting import wait_until


@pytest.fixture
def variables() -> dict[str, str]:
    """Settings of the service; a test may give others."""
    return {}


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, variables: dict[str, str]) -> AsyncIterator[Client]:
    given = {"REDIS_URL": redis_url, "RETRIES": "3", "RETRY_TIME": "0.1"} | variables
    async with serving(tmp_path, **given) as process, client_of(process) as client:
        yield client


async def test_a_delivered_task_says_how_it_went(service: Client, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    receiver.status = 204
    key = await service.schedule(receiver.url, 0, "/schedule?type=mail", data={"n": 1})
    await service.drained()
    status, content = await service.call("GET", f"/schedule/{key}")
    assert status == 200
    info = content["data"].pop("info")
    assert content["data"] == {"data": None}
    assert info.pop("ended") > info.pop("due") > "2020"
    assert 200 <= info.pop("late_ms") < 20_000
    assert info == {
        "key": key,
        "ttl": None,
        "retry": 3,
        "expires": None,
        "state": "delivered",
        "type": "mail",
        "last_status": 204,
    }
    for method in ("PATCH", "DELETE"):
        body = {"json": {"ttl": 1}} if method == "PATCH" else {}
        assert (await service.call(method, f"/schedule/{key}", **body))[0] == 404


async def test_a_cancelled_task_says_so(service: Client) -> None:
    key = await service.schedule("http://127.0.0.1:9/", 60)
    await service.call("DELETE", f"/schedule/{key}")
    status, content = await service.call("GET", f"/schedule/{key}")
    assert (status, content["data"]["info"]["state"], content["data"]["info"]["retry"]) == (200, "cancelled", 0)
    assert (await service.call("DELETE", f"/schedule/{key}"))[0] == 404


async def test_tasks_cancelled_by_a_filter_say_so(service: Client) -> None:
    key = await service.schedule("http://127.0.0.1:9/", 60)
    status, content = await service.call("POST", "/schedules/cancel?state=scheduled")
    assert (status, content["touched"]) == (200, 1)
    assert (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == "cancelled"


async def test_a_task_that_expired_says_so(service: Client, receiver: Receiver) -> None:
    receiver.status = 503
    body = {"webhook": receiver.url, "ttl": 0, "expire": 1, "retry_time": 0.4}
    key = (await service.call("POST", "/schedule", json=body))[1]["key"]
    await service.drained()
    status, content = await service.call("GET", f"/schedule/{key}")
    info = content["data"]["info"]
    assert (status, info["state"], info["last_status"]) == (200, "expired", 503)
    assert info["retry"] == len(receiver.arrivals) < 4
    assert info["late_ms"] < 20_000


async def test_a_series_that_is_cancelled_says_what_it_made(service: Client, receiver: Receiver) -> None:
    body = {"webhook": receiver.url, "ttl": 0, "repeat": {"every": 3600}}
    key = (await service.call("POST", "/schedule", json=body))[1]["key"]
    await wait_until(lambda: len(receiver.arrivals) == 1, "its first occurrence came")
    await service.call("DELETE", f"/schedule/{key}")
    await service.drained()
    info = (await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    assert info["state"] == "cancelled"
    assert info["series"] == {"made": 1, "skipped": 0, "last": {"key": receiver.arrivals[0].key, "state": "delivered"}}


@pytest.mark.parametrize("variables", [{"RESULT_TTL": "0"}])
async def test_with_a_time_of_0_nothing_is_kept(service: Client, receiver: Receiver) -> None:
    key, other = await service.schedule(receiver.url), await service.schedule(receiver.url, 60)
    await service.call("DELETE", f"/schedule/{other}")

    await service.drained()
    for absent in (key, other):
        assert (await service.call("GET", f"/schedule/{absent}"))[0] == 404


async def busy(_: web.Request) -> web.Response:
    return web.Response(status=503, body=b"come back later")


async def test_failed_attempts_are_shown_with_what_was_answered(service: Client, receiver: Receiver) -> None:
    receiver.behaviour = busy
    key = await service.schedule(receiver.url)
    await service.drained()
    for path in (f"/dead/{key}", f"/schedule/{key}"):
        info = (await service.call("GET", path))[1]["data"]["info"]
        assert info["last_failure"] == {
            "error": "answered 503",
            "elapsed_ms": info["attempts"][-1]["elapsed_ms"],
            "status": 503,
        }
        assert [attempt["status"] for attempt in info["attempts"]] == [503] * 4
        assert {attempt["answer"] for attempt in info["attempts"]} == {"come back later"}
        assert all(attempt["worker"] for attempt in info["attempts"])
        assert info["attempts"][0]["due"] == info["due"]
        begins = [attempt["began"] for attempt in info["attempts"]]
        dues = [attempt["due"] for attempt in info["attempts"]]
        assert sorted(begins) == begins
        assert dues == sorted(dues)
        assert len(set(dues)) == 4


@pytest.mark.parametrize("variables", [{"ANSWER_BYTES": "4", "RETRIES": "0"}])
async def test_so_much_is_kept_of_an_answer(service: Client, receiver: Receiver) -> None:
    receiver.behaviour = busy
    key = await service.schedule(receiver.url)
    await service.drained()
    [attempt] = (await service.call("GET", f"/dead/{key}"))[1]["data"]["info"]["attempts"]
    assert attempt["answer"] == "come"


LONG_STORY = "a long story, " * 2_000


async def long_story(_: web.Request) -> web.Response:
    await asyncio.sleep(0.02)  # so that the first byte takes a while to show
    return web.Response(status=503, text=LONG_STORY)


@pytest.mark.parametrize("variables", [{"ANSWER_BYTES": "16384", "RETRIES": "1"}])
async def test_a_long_answer_is_kept_where_it_is_asked_for(service: Client, receiver: Receiver) -> None:
    receiver.behaviour = long_story
    key = await service.schedule(receiver.url)
    await service.drained()
    attempts = (await service.call("GET", f"/dead/{key}"))[1]["data"]["info"]["attempts"]
    assert [attempt["answer"] for attempt in attempts] == [LONG_STORY[:16_384]] * 2
    assert all(20 <= attempt["first_byte_ms"] <= attempt["elapsed_ms"] for attempt in attempts)


@pytest.mark.parametrize("variables", [{"ANSWER_BYTES": "16384", "RETRY_TIME": "30"}])
async def test_a_long_answer_is_still_kept_of_a_task_that_dies_with_its_workers(
    service: Client, receiver: Receiver, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    receiver.behaviour = long_story
    key = await service.schedule(receiver.url)

    async def is_waiting() -> bool:
        return bool((await service.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["state"] == "waiting")

    await wait_until(is_waiting, "the first attempt has failed")
    [row] = await raw.xpending_range(KEYS.queue, GROUP, "-", "+", 1)
    entry = ("XCLAIM", KEYS.queue, GROUP, "host-1-gone", 0, row["message_id"])
    await client.command(*entry, "IDLE", DEFAULT.window_ms, "RETRYCOUNT", DEFAULT.lost_workers_most, "JUSTID")
    await raw.hdel(KEYS.sweep, "next_ms")
    await service.drained()
    *answered, lost = (await service.call("GET", f"/dead/{key}"))[1]["data"]["info"]["attempts"]
    assert ("worker" in lost["error"], "answer" in lost) == (True, False)
    assert [attempt["answer"] for attempt in answered] == [LONG_STORY[:16_384]]


async def test_what_happened_is_told_by_the_minute_once_the_worker_has_stopped(
    redis_url: str, tmp_path: Path, receiver: Receiver, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process, client_of(process) as api:
        await api.schedule(receiver.url)
        await api.drained()
        receiver.status = 404
        await api.schedule(receiver.url)
        await api.drained()
    found = Counter[str]()
    for name in await raw.execute_command("KEYS", f"{KEYS.tag}:history:minute:*"):
        found.update((await History(client, "reader").minutes([int(name.rpartition(b":")[2])]))[0])
    assert (found["delivered"], found["died"], found["failed:4xx"]) == (1, 1, 1)
