"""Redis' memory: new tasks are refused before Redis refuses anything, what is kept of ended tasks gives way first, and
what was acknowledged goes on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.room import LOOK_S
from tests.support.audit import audited
from tests.support.names import KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, client_of, run, serving
from tests.support.waiting import wait_until

RESERVE = 0.1
MOST_BYTES = 16_000_000
DATA = "x" * 20_000


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """An empty Redis with little memory."""
    async with redis_process(tmp_path / "redis", "--maxmemory", str(MOST_BYTES)) as process:
        yield process


@pytest.fixture
async def raw(server: RedisProcess) -> AsyncIterator[redis.asyncio.Redis]:
    """The library's own client of it."""
    async with audited(server.url) as raw:
        yield raw


@pytest.fixture
async def api(server: RedisProcess, tmp_path: Path) -> AsyncIterator[Client]:
    """The all-in-one service; each task has one attempt."""
    reserve = f"{RESERVE * 100:g}"
    async with (
        serving(tmp_path, REDIS_URL=server.url, RETRIES="0", MEMORY_RESERVE=reserve, ANSWER_BYTES="16384") as process,
        client_of(process) as client,
    ):
        yield client
        log = process.log
    (tmp_path / "service.log").write_text(log)


async def used(raw: redis.asyncio.Redis) -> float:
    found: Any = await raw.info("memory")
    return float((found["used_memory"] - found["mem_not_counted_for_evict"]) / found["maxmemory"])


async def dead(raw: redis.asyncio.Redis) -> int:
    return sum([await raw.zcard(keys.dead) for keys in KEYS_OF_SHARDS])


async def schedule(api: Client, webhook: str, ttl: float, count: int = 20) -> tuple[int, Any]:
    tasks = [{"webhook": webhook, "ttl": ttl, "data": DATA}] * count
    return await api.call("POST", "/schedules", json={"tasks": tasks})


async def test_new_tasks_leave_a_reserve_and_the_dead_give_way_first(
    api: Client, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 500
    assert (await schedule(api, receiver.url, 0, 50))[0] == 200

    async def have_died() -> bool:
        return await dead(raw) == 50

    await wait_until(have_died, "all have died")
    receiver.status = 200

    acknowledged, status = 0, 200
    content: Any = None
    while status == 200:
        assert acknowledged < 2_000
        body = {"webhook": receiver.url, "ttl": 3_600, "data": DATA}
        status, content = await api.call("POST", "/schedule", json=body)
        acknowledged += status == 200
    assert (status, content["code"]) == (507, "redis-full")
    assert "MEMORY_RESERVE" in content["error"]
    assert await dead(raw) == 0, "dead letters gave way"
    assert sum([int(await raw.hget(keys.counters, "dead_dropped") or 0) for keys in KEYS_OF_SHARDS]) == 50
    assert 1 - RESERVE * 2 < await used(raw) < 1, "Redis itself has refused nothing"

    # What is there goes on: one that is acknowledged is delivered, and its room is free again.
    cursor: str | None = ""
    while cursor is not None:
        status, content = await api.call("POST", "/schedules/run" + (cursor and f"?cursor={cursor}"))
        assert status == 200, content
        cursor = content["next"]
    await api.drained(60)
    assert len(receiver.arrivals) == 50 + acknowledged

    async def is_taken() -> bool:
        return (await schedule(api, receiver.url, 3_600, 1))[0] == 200

    await wait_until(is_taken, "schedules are taken again")


async def test_a_change_that_brings_more_is_refused_like_a_task(api: Client, raw: redis.asyncio.Redis) -> None:
    key = await api.schedule("http://127.0.0.1:9/", 3_600)
    for _ in range(5):  # so much that buffers of connections are little beside it
        assert (await schedule(api, "http://127.0.0.1:9/", 3_600, 40))[0] == 200
    # What is new is refused, and Redis itself refuses nothing: half of the reserve is on either side.
    await raw.config_set("maxmemory", int((await raw.info("memory"))["used_memory"] / (1 - RESERVE / 2)))
    body = {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}

    async def is_refused() -> bool:
        return (await api.call("PATCH", f"/schedule/{key}", json={"data": "y"}))[0] == 507

    await wait_until(is_refused, "the service has looked at Redis' memory")
    for method, path, given in (("POST", "/schedule", body), ("PUT", "/schedule/own", body)):
        assert (await api.call(method, path, json=given))[0] == 507
    assert (await api.call("POST", f"/schedule/{key}/pause"))[0] == 200
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200


async def test_the_log_warns_once_four_fifths_are_used_and_says_when_it_is_well(
    server: RedisProcess, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    settings = {"REDIS_URL": server.url, "SHARDS": "4"}
    async with serving(tmp_path, "api", **settings) as process, client_of(process) as client:
        for _ in range(8):  # more than connections take
            assert (await schedule(client, "http://127.0.0.1:9/", 3_600, 40))[0] == 200

        async def told(name: str, share: float) -> list[dict[str, Any]]:
            """What the log says once so much of Redis' memory is used, and the service has looked."""
            await raw.config_set("maxmemory", int((await raw.info("memory"))["used_memory"] / share))
            await client.schedule("http://127.0.0.1:9/", 3_600)
            return process.events(name)

        for _ in range(2):
            await wait_until(lambda: told("redis-memory", 0.85), "it warns")
        await asyncio.sleep(LOOK_S)  # only time lets it look again
        for _ in range(8):  # so that each shard looks
            await client.schedule("http://127.0.0.1:9/", 3_600)
        await told("redis-memory", 0.85)
        warnings = process.events("redis-memory")
        assert len(warnings) == 1, "once, however many shards the server has"
        assert all(0.8 <= warned["used"] < 0.9 for warned in warnings)
        assert process.events("redis-memory-well") == []
        await wait_until(lambda: told("redis-memory-well", 0.5), "it is well")


def test_a_limit_of_the_private_redis_has_no_effect_on_another() -> None:
    ended = run("api", REDIS_URL="redis://127.0.0.1:1/0", API_AUTH="a-secret-token", MAX_MEMORY="100000000")
    assert ended.returncode == 2
    assert "MAX_MEMORY" in ended.stderr


@pytest.mark.parametrize("shards", ["1", "3"])
@pytest.mark.parametrize(
    ("most", "role", "is_told"), [("0", "api", True), ("0", "worker", False), (str(MOST_BYTES), "api", False)]
)
async def test_a_redis_without_a_limit_is_an_open_door_of_those_that_schedule_told_once(
    most: str, role: str, is_told: bool, shards: str, tmp_path: Path
) -> None:
    async with (
        redis_process(tmp_path / "redis", "--maxmemory", most, "--appendonly", "no") as server,
        serving(tmp_path, role, REDIS_URL=server.url, SHARDS=shards) as process,
    ):
        # Each shard's part of the start ends with its group, or a line or two behind it.
        await wait_until(lambda: len(process.events("group-created")) == int(shards), "each was looked at", 30)
        await wait_until(lambda: process.events("redis-configuration"), "and told of", 30)

        def doors() -> list[str]:
            return [event["door"] for event in process.events("open-door") if "maxmemory" in event["door"]]

        if is_told:
            await wait_until(doors, "the door is told", 30)
        await process.stop()
        assert len(process.events("redis-configuration")) == 1
        assert doors() == ["whoever may schedule may fill the memory of Redis' machine (maxmemory of Redis)"] * is_told
