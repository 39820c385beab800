"""Limits over several shards, with three worker processes: what all of them together let begin."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.acceptance.test_limits_of_all_workers import Fleet, assert_rate, fleet, host, name_of, schedule
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Process, client_of, serving
from tests.support.shards import hold_at_once, two_servers
from tests.support.waiting import wait_until

__all__ = ["fleet"]

SHARDS = 4
SHARED = {"SHARDS": str(SHARDS)}
PART = 25
"""Tasks of one request, which go to one shard."""


def shards_among(keys: list[str]) -> set[int]:
    return {shards_of(key, (SHARDS,))[0] for key in keys}


def came(receiver: Receiver) -> int:
    """How many requests came for the limited path."""
    return [one.path for one in receiver.arrivals].count("/limited")


async def spread(fleet: Fleet, url: str, count: int) -> list[str]:
    """Schedule so many tasks, as many in each shard, once new ones go to all of them."""

    async def is_spread() -> bool:
        keys = [key for _ in range(SHARDS) for key in await schedule(fleet.client, url, 1, ttl=600)]
        for key in keys:
            await fleet.client.call("DELETE", f"/schedule/{key}")
        return len(shards_among(keys)) == SHARDS

    await wait_until(is_spread, "new tasks go to all shards", timeout_s=30, every_s=0.2)
    keys = [key for _ in range(count // PART) for key in await schedule(fleet.client, url, PART)]
    assert len(shards_among(keys)) == SHARDS
    return keys


@pytest.mark.long
@pytest.mark.parametrize("fleet", [{**SHARED, "HOST_RATE": "100"}], indirect=True)
async def test_a_rate_is_kept_by_all_shards_together(fleet: Fleet, receiver: Receiver) -> None:
    counted = 800
    keys = await spread(fleet, receiver.url, 1_200)
    await wait_until(lambda: len(receiver.arrivals) > 100, "deliveries go on")
    before = len(receiver.arrivals)
    await assert_rate(receiver, before, counted, 100)
    await wait_until(lambda: len(receiver.arrivals) == len(keys), "all arrived", timeout_s=30)
    assert sorted(receiver.times_by_key) == sorted(keys)


@pytest.mark.parametrize("fleet", [{**SHARED, "HOST_CONCURRENCY": "8"}], indirect=True)
async def test_a_concurrency_is_kept_and_used(fleet: Fleet, receiver: Receiver) -> None:
    receiver.delay_s = 0.05
    keys = await spread(fleet, receiver.url, 300)
    await wait_until(lambda: len(receiver.arrivals) == 300, "all arrived", timeout_s=30)
    assert receiver.most_in_flight == 8
    assert sorted(receiver.times_by_key) == sorted(keys)


@pytest.mark.parametrize(
    ("fleet", "most"), [({**SHARED, "HOST_CONCURRENCY": str(most)}, most) for most in (1, 3)], indirect=["fleet"]
)
async def test_a_concurrency_below_the_number_of_shards_is_kept_by_all_together(
    most: int, fleet: Fleet, receiver: Receiver
) -> None:
    receiver.delay_s = 0.02
    keys = await spread(fleet, receiver.url, 100)
    await wait_until(lambda: len(receiver.arrivals) == 100, "all arrived", timeout_s=60)
    assert receiver.most_in_flight == most
    assert sorted(receiver.times_by_key) == sorted(keys)


@pytest.mark.long
@pytest.mark.parametrize("fleet", [SHARED], indirect=True)
async def test_what_waits_under_such_a_concurrency_goes_by_what_is_set_then(fleet: Fleet, receiver: Receiver) -> None:
    api, name = fleet.client, name_of(receiver)
    assert (await api.call("PUT", f"/hosts/{name}", json={"concurrency": 1}))[0] == 200
    receiver.delay_s = 0.05
    keys = await spread(fleet, receiver.url, 300)

    async def have_noticed(most: int) -> bool:
        receiver.most_in_flight, arrived = 0, len(receiver.arrivals)
        await wait_until(lambda: len(receiver.arrivals) >= arrived + 20, "deliveries go on", timeout_s=30)
        return receiver.most_in_flight == most

    await wait_until(lambda: have_noticed(1), "all workers have noticed it", timeout_s=30)
    assert (await host(api, name))["running"] == 1
    assert [one["host"] for one in (await api.call("GET", "/hosts"))[1]["data"]] == [name]
    assert (await api.call("PUT", f"/hosts/{name}", json={"paused": True}))[0] == 200

    async def are_all_held() -> bool:
        found = await host(api, name)
        return found["running"] == 0 and bool(found["held"] == (await api.stats())["running_schedules"])

    await wait_until(are_all_held, "all are held", timeout_s=30)
    receiver.delay_s = 0.2
    assert (await api.call("PUT", f"/hosts/{name}", json={"concurrency": 2}))[0] == 200
    await wait_until(lambda: have_noticed(2), "all workers have noticed it", timeout_s=30)
    assert len(receiver.arrivals) < 280
    receiver.delay_s = 0.02
    await wait_until(lambda: len(receiver.arrivals) == 300, "all arrived", timeout_s=60)
    assert receiver.most_in_flight == 2
    assert sorted(receiver.times_by_key) == sorted(keys)
    await api.call("DELETE", f"/hosts/{name}")


@pytest.mark.long
@pytest.mark.parametrize("fleet", [{**SHARED, "HOST_CONCURRENCY": "1"}], indirect=True)
async def test_a_worker_that_is_killed_keeps_such_a_limit_no_longer_than_its_leases(
    fleet: Fleet, receiver: Receiver
) -> None:
    receiver.delay_s = 0.02
    keys = await spread(fleet, receiver.url, 100)
    await wait_until(lambda: len(receiver.arrivals) > 10, "deliveries go on")
    fleet.workers[0].process.kill()
    await wait_until(lambda: {*receiver.times_by_key} == {*keys}, "all arrived", timeout_s=120)
    assert receiver.most_in_flight == 1


async def test_workers_of_different_shards_keep_such_a_limit_together(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    variables = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "HOST_CONCURRENCY": "1", **SHARED}
    async with AsyncExitStack() as stack:
        processes = [Process(tmp_path, "api", **variables)]
        processes += [Process(tmp_path, "worker", **variables, WORKER_SHARDS=shards) for shards in ("0", "1,2", "3")]
        for process in processes:
            stack.push_async_callback(process.stop)
        for process in processes:
            await process.started()
        client = await stack.enter_async_context(client_of(processes[0]))
        receiver.delay_s = 0.02
        keys = await spread(Fleet(client, processes[1:]), receiver.url, 100)
        await wait_until(lambda: len(receiver.arrivals) == 100, "all arrived", timeout_s=60)
        assert receiver.most_in_flight == 1
        assert sorted(receiver.times_by_key) == sorted(keys)


async def test_while_the_first_shard_is_away_nothing_begins_under_such_a_limit_and_all_else_does(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with two_servers(tmp_path, receiver.url, ttl=0) as (one, _, _, client):
        name = f"localhost:{receiver.port}"
        limited = f"http://{name}/limited"
        assert (await client.call("PUT", f"/hosts/{name}", json={"concurrency": 1}))[0] == 200
        receiver.delay_s = 0.05

        async def is_kept() -> bool:
            receiver.most_in_flight, before = 0, came(receiver)
            for _ in range(8):
                await client.schedule(limited)
            await wait_until(lambda: came(receiver) == before + 8, "they came", timeout_s=20)
            return receiver.most_in_flight == 1

        await wait_until(is_kept, "each shard knows the limit", timeout_s=30)
        receiver.arrivals.clear()
        await one.kill()
        await wait_until(lambda: client.accepts(receiver.url), "new tasks pass over it")
        for _ in range(3):
            await client.schedule(limited)
        keys = [await client.schedule(receiver.url) for _ in range(5)]
        await wait_until(lambda: {*keys} <= {*receiver.times_by_key}, "all else comes", 10)
        assert came(receiver) == 0
        await one.start()
        await wait_until(lambda: came(receiver) == 3, "they come once it is back", 30)


@pytest.mark.parametrize("served", ["0-1", "1"])
async def test_a_later_shard_that_loses_its_limits_is_given_them_again(tmp_path: Path, served: str) -> None:
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        serving(tmp_path, REDIS_URL=f"{one.url},{other.url}", WORKER_SHARDS=served) as service,
        client_of(service) as client,
        redis.asyncio.from_url(other.url) as raw,
    ):
        assert (await client.call("PUT", "/hosts/one.example:80", json={"paused": True}))[0] == 200
        keys, sweeps = Keys(tag_of("", 1)), set[bytes | str | None]()

        async def is_copied() -> bool:
            return bool(await raw.hget(keys.limits, "one.example:80") == b"- - 1000 1")

        async def have_told() -> bool:
            sweeps.add(await raw.hget(keys.sweep, "seen_ms"))
            return len(sweeps) > 3

        await wait_until(is_copied, "it has the limit", timeout_s=20)
        await wait_until(have_told, "sweeps have told of it", timeout_s=20)
        await raw.flushall()
        await wait_until(is_copied, "it has the limit again", timeout_s=12)


@pytest.mark.parametrize("fleet", [SHARED], indirect=True)
async def test_a_limit_that_is_set_holds_in_all_shards_and_is_shown_as_one(fleet: Fleet, receiver: Receiver) -> None:
    api, name = fleet.client, name_of(receiver)
    await spread(fleet, receiver.url, PART * SHARDS)
    await wait_until(lambda: len(receiver.arrivals) == PART * SHARDS, "all arrived")

    async def put(**limit: Any) -> tuple[int, Any]:
        return await api.call("PUT", f"/hosts/{name}", json=limit)

    assert (await put(paused=True))[0] == 200

    async def are_all_held() -> bool:
        """Of one more spread; while a worker has not noticed the pause in one shard, some arrive."""
        before = len(receiver.arrivals)
        await spread(fleet, receiver.url, PART * SHARDS)

        async def have_moved() -> bool:
            return bool((await host(api, name))["held"] == (await api.stats())["running_schedules"])

        await wait_until(have_moved, "they are held, or were delivered")
        return len(receiver.arrivals) == before

    await wait_until(are_all_held, "all are held, in all shards", timeout_s=30)
    held = (await host(api, name))["held"]
    listed = (await api.call("GET", "/hosts"))[1]["data"]
    assert [(one["host"], one["held"], one["paused"]) for one in listed] == [(name, held, True)]
    receiver.arrivals.clear()
    assert (await api.call("DELETE", f"/hosts/{name}"))[0] == 200
    await wait_until(lambda: len(receiver.arrivals) == held, "all arrived", timeout_s=30)
    assert max(receiver.times_by_key.values()) == 1


@pytest.mark.long
async def test_a_limit_that_was_set_before_shards_came_holds_in_these_too(
    redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path, receiver: Receiver
) -> None:
    name = name_of(receiver)
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        assert (await client.call("PUT", f"/hosts/{name}", json={"paused": True}))[0] == 200
    async with serving(tmp_path, REDIS_URL=redis_url, **SHARED) as process, client_of(process) as client:
        kept = [Keys(tag_of("", shard)).limits for shard in range(SHARDS)]

        async def are_copied() -> bool:
            return {*[await raw.hget(key, name) for key in kept]} == {b"- - 1000 1"}

        await hold_at_once(raw, SHARDS)
        await wait_until(are_copied, "each shard has the limit", timeout_s=30)
        keys = list[str]()

        async def is_spread() -> bool:
            keys.append(await client.schedule(receiver.url, 3_600))
            return shards_among(keys) == set(range(SHARDS))

        await wait_until(is_spread, "new tasks go to all shards", timeout_s=30)
        for key in keys:
            assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200

        async def are_held() -> bool:
            return bool((await host(client, name))["held"] == len(keys))

        await wait_until(are_held, "all are held")
        assert not receiver.arrivals
        await client.call("DELETE", f"/hosts/{name}")
        await wait_until(lambda: len(receiver.arrivals) == len(keys), "all arrived", timeout_s=30)
