"""POST /schedules: all tasks or none, in their order, 200 a call; and what is said where Redis fails in the middle."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.api.limits import Limits
from redis_scheduler.api.places import Places
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.writes import SCHEDULE
from redis_scheduler.task.key import has_made_form, is_task_key, new_task_key
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.support.api import api_here
from tests.support.asked import asked, calls_of
from tests.support.audit import audited
from tests.support.names import KEYS_OF_SHARDS
from tests.support.proxy import Proxy, proxying
from tests.support.redis_process import redis_process
from tests.support.routed import servers_of
from tests.support.service import Client
from tests.support.shards import clients_of
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"


def tasks(count: int, **more: Any) -> dict[str, Any]:
    return {"tasks": [{"webhook": WEBHOOK, "ttl": 600 + number, "data": number, **more} for number in range(count)]}


@pytest.fixture
async def api(clients: list[RedisClient]) -> AsyncIterator[Client]:
    """A client of an API in this process."""
    async with api_here(*clients) as port, aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{port}")


async def kept(raw: redis.asyncio.Redis) -> int:
    """How many tasks Redis has."""
    return sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS])


async def test_answers_come_in_the_order_of_the_tasks(api: Client) -> None:
    status, content = await api.call("POST", "/schedules", json=tasks(1000))
    assert status == 200
    assert content["data"] == [task["key"] for task in content["tasks"]]
    assert len(set(filter(is_task_key, content["data"]))) == 1000
    dues = [datetime.fromisoformat(task["due"]) for task in content["tasks"]]
    for number in (0, 1, 199, 200, 999):
        _, shown = await api.call("GET", f"/schedule/{content['data'][number]}")
        assert shown["data"]["data"] == number
        assert shown["data"]["info"]["due"] == content["tasks"][number]["due"]
        assert 0 <= (dues[number] - dues[0]).total_seconds() - number < 5
    assert (await api.stats())["counters"]["scheduled"] == 1000


async def test_so_many_tasks_take_a_call_for_every_200(api: Client, raw: redis.asyncio.Redis) -> None:
    await api.call("POST", "/schedules", json=tasks(1))  # the script is known to Redis
    async with asked(raw) as commands:
        assert (await api.call("POST", "/schedules", json=tasks(1000)))[0] == 200
    assert calls_of(SCHEDULE, commands) == 5


async def test_a_batch_of_series_asks_for_the_time_once(api: Client, raw: redis.asyncio.Redis) -> None:
    batch = {"tasks": [{"webhook": "http://127.0.0.1:9/", "repeat": {"every": 60}} for _ in range(50)]}
    await raw.config_resetstat()
    assert (await api.call("POST", "/schedules", json=batch))[0] == 200
    stats = [await server.info("commandstats") for server in servers_of(raw)]
    assert sum(one["cmdstat_time"]["calls"] for one in stats if "cmdstat_time" in one) < 10  # the scripts ask, too
    assert (await api.stats())["counters"]["scheduled"] == 50


async def test_a_task_may_name_its_type_and_the_query_that_of_the_others(api: Client, raw: redis.asyncio.Redis) -> None:
    given = tasks(3)
    given["tasks"][1]["type"] = "mail"
    given["tasks"][2]["type"] = "default"
    _, content = await api.call("POST", "/schedules?type=sms", json=given)
    found = [(await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]["type"] for key in content["data"]]
    assert found == ["sms", "mail", "default"]
    assert sum([await raw.zcard(keys.type_index("mail")) for keys in KEYS_OF_SHARDS]) == 1


async def test_a_task_may_have_options(api: Client) -> None:
    given = tasks(2)
    given["tasks"][1]["retries"] = 7
    _, content = await api.call("POST", "/schedules", json=given)
    found = [(await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"] for key in content["data"]]
    assert [info.get("retries") for info in found] == [None, 7]


async def test_a_task_may_have_an_own_key_and_takes_the_place_of_what_has_it(api: Client) -> None:
    given = tasks(450)
    for number in range(0, 450, 2):
        given["tasks"][number]["key"] = f"order:{number}"
    given["tasks"][0]["type"] = "mail"
    status, first = await api.call("POST", "/schedules", json=given)
    assert status == 200
    assert first["data"][::2] == [f"order:{number}" for number in range(0, 450, 2)]
    assert all(map(has_made_form, first["data"][1::2]))
    given["tasks"] = given["tasks"][::2]
    for task in given["tasks"]:
        task["data"] = "again"
    status, second = await api.call("POST", "/schedules", json=given)
    assert (status, second["data"]) == (200, first["data"][::2])
    _, shown = await api.call("GET", "/schedule/order:0")
    assert (shown["data"]["data"], shown["data"]["info"]["type"]) == ("again", "mail")
    assert shown["data"]["info"]["due"] == second["tasks"][0]["due"]
    assert (await api.stats())["running_schedules"] == 450


async def test_an_own_key_needs_no_idempotency_key(api: Client, raw: redis.asyncio.Redis) -> None:
    given = tasks(2)
    given["tasks"][1]["key"] = "order:1"
    status, content = await api.call("POST", "/schedules", json=given, headers={"Idempotency-Key": "a"})
    assert (status, content["code"], content["field"], content["index"]) == (400, "contradiction", "key", 1)
    assert await kept(raw) == 0


async def test_one_bad_task_keeps_all_from_being_written(api: Client, raw: redis.asyncio.Redis) -> None:
    given = tasks(1000)
    given["tasks"][999]["ttl"] = -1
    status, content = await api.call("POST", "/schedules", json=given)
    assert (status, content["index"]) == (400, 999)
    assert content["error"].startswith("tasks[999].ttl: must be")
    assert await kept(raw) == 0
    status, content = await api.call("POST", "/schedules", json=tasks(1001))
    assert (status, content["error"]) == (400, "tasks: must be a list of 1 to 1000 tasks, got 1001")
    assert await kept(raw) == 0


async def test_a_batch_larger_than_a_body_may_be_is_refused(api: Client, raw: redis.asyncio.Redis) -> None:
    body = io.BytesIO(json.dumps(tasks(1000, type="x" * 1_000)).encode())
    status, content = await api.call("POST", "/schedules", data=body, headers={"Content-Type": "application/json"})
    assert (status, content["error"]) == (413, "The body is larger than 1048576 bytes")
    assert await kept(raw) == 0


@dataclass
class Slow:
    """An API whose way to its Redis is slow, so that something can happen in the middle of a batch."""

    api: Client
    proxy: Proxy
    raw: redis.asyncio.Redis

    async def batch(self) -> "asyncio.Task[tuple[int, Any]]":
        """Begin a batch of 1,000, and return once its first part is written; the rest takes a while."""
        self.proxy.delay_s = 0.1
        batch = asyncio.create_task(self.api.call("POST", "/schedules", json=tasks(1000)))
        await wait_until(lambda: kept(self.raw), "the first part is written", every_s=0.005)
        return batch


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Slow]:
    async with (
        redis_process(tmp_path / "redis") as server,
        proxying(server.port) as proxy,
        audited(server.url) as raw,
        clients_of(proxy.url, 1) as clients,
        api_here(*clients) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Slow(Client(session, f"http://127.0.0.1:{port}"), proxy, raw)


async def _checked(api: Client, found: list[dict[str, Any]]) -> dict[str, int]:
    """Check that what was said of each task is so; return how often what was said."""
    for number, task in enumerate(found):
        if "key" in task and number % 50 == 0:
            status, shown = await api.call("GET", f"/schedule/{task['key']}")
            if task["outcome"] == "written":
                assert (status, shown["data"]["data"]) == (200, number)
                assert shown["data"]["info"]["due"] == task["due"]
            else:
                assert status in (200, 404)
    outcomes = [task["outcome"] for task in found]
    assert outcomes == sorted(outcomes, key=["written", "unknown", "not written"].index)
    assert all(("key" in task) == (task["outcome"] != "not written") for task in found)
    return {outcome: outcomes.count(outcome) for outcome in set(outcomes)}


async def test_a_redis_that_goes_away_in_the_middle(slow: Slow) -> None:
    api, proxy, raw = slow.api, slow.proxy, slow.raw
    batch = await slow.batch()
    await proxy.cut()
    status, content = await batch
    proxy.delay_s = 0
    await proxy.listen()
    assert status == 503
    counts = await _checked(api, content["tasks"])
    assert counts["unknown"] == 200
    written = counts.get("written", 0)
    assert counts["not written"] == 800 - written
    assert await kept(raw) in (written, written + 200)
    assert re.sub(r"^Shard [0-3]: ", "", content["error"]) == (
        f"Redis cannot be reached; of 1000 tasks: {written} written, 200 unknown, {800 - written} not written; `tasks` "
        "says which"
    )


async def test_a_redis_that_is_full_in_the_middle(slow: Slow) -> None:
    api, proxy, raw = slow.api, slow.proxy, slow.raw
    batch = await slow.batch()
    await raw.config_set("maxmemory", 1)
    try:
        status, content = await batch
    finally:
        await raw.config_set("maxmemory", 0)
    proxy.delay_s = 0
    assert status == 507
    counts = await _checked(api, content["tasks"])
    assert counts["written"] == await kept(raw) > 0
    assert counts == {"written": counts["written"], "not written": 1000 - counts["written"]}
    assert "Redis is out of memory; of 1000 tasks: " in content["error"]


async def test_others_are_served_between_the_parts_of_a_batch(slow: Slow) -> None:
    batch = await slow.batch()
    key = await slow.api.schedule(WEBHOOK, 600)
    assert not batch.done()
    assert (await batch)[0] == 200
    assert (await slow.api.call("GET", f"/schedule/{key}"))[0] == 200


async def test_tasks_with_labels_take_more_calls_since_each_is_listed_for_itself(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    options = Options(labels=dict.fromkeys(("a", "b", "c", "d"), "17"))
    places = Places([client], "writer", DEFAULT, Limits())
    for more, count in ((NONE, None), (NONE, 1), (options, 4)):  # the first time Redis learns the script
        many = [
            NewTask(new_task_key(), 600_000, record_tail(WEBHOOK, 600, None, b"1", more), listing_of(None, more))
            for _ in range(200)
        ]
        async with asked(raw) as commands:
            await asyncio.gather(*(places.schedule.submit(task) for task in many))
        assert count in (None, calls_of(SCHEDULE, commands))
