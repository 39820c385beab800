"""Tasks that are paused, resumed and run: as a user and the receiver see it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store.keys import GROUP
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.shards import scheduled_in_the_first
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """The all-in-one service, whose one retry comes after a minute."""
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "60"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


async def moved(api: Client, key: str, verb: str) -> str:
    """Pause, resume or run a task; the state that it was found in."""
    status, content = await api.call("POST", f"/schedule/{key}/{verb}")
    assert (status, content["data"], content["key"]) == (200, key, key), content
    found: str = content["found"]
    return found


async def info(api: Client, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    return found


async def test_a_queued_task_says_how_many_are_before_it(api: Client, raw: redis.asyncio.Redis) -> None:
    keys = [await scheduled_in_the_first(api, WEBHOOK) for _ in range(4)]
    told = [(await info(api, key))["waits_for"].partition(", behind ")[2] for key in keys]
    assert told == ["", "1 in the queue", "2 in the queue", "3 in the queue"]
    # What a worker has claimed is not before it.
    await raw.xreadgroup(GROUP, "worker-a", {KEYS.queue: ">"}, count=2)
    assert (await info(api, keys[2]))["waits_for"].endswith("a free slot of a worker")
    assert (await info(api, keys[3]))["waits_for"].endswith("a free slot of a worker, behind 1 in the queue")
    await raw.xgroup_destroy(KEYS.queue, GROUP)
    assert (await info(api, keys[3]))["waits_for"].endswith("a free slot of a worker, behind 3 in the queue")


async def test_a_paused_task_is_listed_and_counted_and_has_no_time(api: Client) -> None:
    key, other = await api.schedule(WEBHOOK, 60, "/schedule?type=mail"), await api.schedule(WEBHOOK, 600)
    before = await info(api, key)
    assert await moved(api, key, "pause") == "scheduled"
    assert await moved(api, key, "pause") == "paused"
    paused = {"state": "paused", "expires": None, "waits_for": "a resume: it is paused"}
    assert await info(api, key) == before | paused
    for query, keys in (("", [other, key]), ("?type=mail", [key])):
        listed = (await api.call("GET", f"/schedules{query}"))[1]["data"]
        assert [task["info"]["key"] for task in listed] == keys
    stats = await api.stats()
    assert (stats["running_schedules"], stats["states"]["paused"], stats["ledger_balanced"]) == (2, 1, True)
    assert await moved(api, key, "resume") == "paused"
    assert await moved(api, key, "resume") == "scheduled"
    assert await info(api, key) == before


async def test_a_paused_task_can_be_changed_and_deleted(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 60, data=1)
    await moved(api, key, "pause")
    for change in ({"data": 2}, {"ttl": 0}):
        status, content = await api.call("PATCH", f"/schedule/{key}", json=change)
        assert (status, content["found"]) == (200, "updated")
        assert (await info(api, key))["state"] == "paused"
    assert (await api.call("DELETE", f"/schedule/{key}"))[1]["data"] == "cancelled"
    for verb in ("pause", "resume", "run"):
        status, content = await api.call("POST", f"/schedule/{key}/{verb}")
        assert (status, content["code"]) == (404, "task-not-found")
    assert (await api.call("POST", "/schedule/no.key/run"))[0] == 404


async def test_a_purge_takes_what_is_paused(api: Client) -> None:
    await moved(api, await api.schedule(WEBHOOK, 60), "pause")
    assert await api.call("POST", "/purge") == (200, {"status": 200, "data": 1})
    assert (await api.stats())["running_schedules"] == 0


async def test_a_paused_task_comes_once_it_is_resumed_and_not_before(service: Client, receiver: Receiver) -> None:
    key, ahead = [await service.schedule(receiver.url, 0.3, data=number) for number in range(2)]
    assert await moved(service, key, "pause") == "scheduled"
    await wait_until(lambda: receiver.arrivals, "the other one arrived")
    later = await service.schedule(receiver.url, 0, data=2)
    await wait_until(lambda: len(receiver.arrivals) == 2, "one behind it arrived")
    assert [arrival.key for arrival in receiver.arrivals] == [ahead, later]
    assert await moved(service, key, "resume") == "paused"
    await wait_until(lambda: receiver.arrivals[-1].key == key, "it arrived")
    await service.drained()


async def test_what_is_run_comes_now_and_its_attempts_go_on(service: Client, receiver: Receiver) -> None:
    receiver.status = 500
    key, paused = [await service.schedule(receiver.url, 3600, data=number) for number in range(2)]
    due = (await info(service, key))["due"]
    await moved(service, paused, "pause")
    assert [await moved(service, each, "run") for each in (key, paused)] == ["scheduled", "paused"]

    async def states() -> list[str]:
        return [(await info(service, each))["state"] for each in (key, paused)]

    async def wait() -> bool:
        return await states() == ["waiting"] * 2

    await wait_until(wait, "both have failed once")
    assert await moved(service, paused, "pause") == "waiting"
    assert ((await info(service, paused))["retry"], (await info(service, key))["due"]) == (1, due)
    receiver.may_answer.clear()
    assert [await moved(service, each, "run") for each in (key, paused)] == ["waiting", "paused"]
    await wait_until(lambda: receiver.in_flight == 2, "both are tried again")
    for verb in ("pause", "run"):
        status, content = await service.call("POST", f"/schedule/{key}/{verb}")
        assert (status, content["code"]) == (409, "in-delivery")
    assert await moved(service, key, "resume") == "in delivery"
    receiver.may_answer.set()
    await service.drained()
    assert await states() == ["dead"] * 2
    for verb in ("pause", "resume", "run"):
        status, content = await service.call("POST", f"/schedule/{key}/{verb}")
        assert (status, content["code"]) == (409, "task-dead")
    attempts = sorted((arrival.key, arrival.attempt) for arrival in receiver.arrivals)
    assert attempts == sorted((each, attempt) for each in (key, paused) for attempt in (1, 2))
