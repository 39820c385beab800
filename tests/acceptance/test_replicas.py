"""REPLICAS: a request is answered by 200 only once replicas have what it wrote."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.api.bodies import Written
from redis_scheduler.api.routes import ROUTES
from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.replicas import WAITED, ReplicatedClient
from tests.support.audit import audited
from tests.support.names import KEYS
from tests.support.redis_process import RedisProcess
from tests.support.service import Client, Process, client_of, serving
from tests.support.several_redis import asked, cluster_of, replicated, role_of
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

LATER: dict[str, Any] = {"webhook": "http://127.0.0.1:1/", "ttl": 3_600}


@asynccontextmanager
async def replicated_api(folder: Path) -> AsyncIterator[tuple[Client, Process, RedisProcess, RedisProcess]]:
    """An API with REPLICAS=1, the master, and its replica."""
    async with (
        replicated(folder / "redis") as (master, replica, _),
        audited(master.url),
        serving(folder, "api", REDIS_URL=master.url, REPLICAS="1") as process,
        client_of(process) as client,
    ):
        yield client, process, master, replica


async def writes_of(client: Client) -> dict[str, dict[str, Any]]:
    """What the API answers to a write of each kind."""
    found = {}

    async def call(method: str, path: str, **options: Any) -> dict[str, Any]:
        status, answer = await client.call(method, path, **options)
        assert status == 200, answer
        found[f"{method} {path.partition('?')[0]}"] = answer
        return dict(answer)

    key = (await call("POST", "/schedule", json=LATER))["key"]
    await call("POST", "/schedule", json=LATER, headers={"Idempotency-Key": "a"})
    await call("POST", "/schedules", json={"tasks": [LATER, LATER]})
    await call("PUT", "/schedule/own", json=LATER)
    await call("PATCH", f"/schedule/{key}", json={"data": 1})
    await call("POST", f"/schedule/{key}/pause")
    await call("POST", f"/schedule/{key}/resume")
    await call("DELETE", f"/schedule/{key}")
    await call("POST", "/schedules/cancel?operation=x&type=mail")
    await call("DELETE", "/schedules")
    return found


async def test_a_write_is_answered_once_a_replica_has_it_and_says_so(tmp_path: Path) -> None:
    async with replicated_api(tmp_path) as (client, process, master, replica):
        for name, answer in (await writes_of(client)).items():
            assert answer["replicas"] == 1, name
        status, answer = await client.call("GET", "/schedules")
        assert (status, "replicas" in answer) == (200, False)
        assert await asked(replica, "HLEN", KEYS.tasks) == await asked(master, "HLEN", KEYS.tasks)
        assert not process.events("redis-refused")


async def test_a_script_that_the_master_has_lost_is_sent_again_and_no_answer_is_taken_for_another(
    tmp_path: Path,
) -> None:
    async with replicated_api(tmp_path) as (client, _, master, _):
        for _ in range(3):
            await asked(master, "SCRIPT", "FLUSH")
            key = await client.schedule("http://127.0.0.1:1/", 3_600)
            assert (await client.call("GET", f"/schedule/{key}"))[0] == 200
            assert (await client.call("DELETE", f"/schedule/{key}"))[1]["data"] == "cancelled"
        assert (await client.stats())["running_schedules"] == 0


async def test_without_a_replica_in_time_it_is_503_and_said_once(tmp_path: Path) -> None:
    async with replicated_api(tmp_path) as (client, process, _, replica):
        await client.schedule("http://127.0.0.1:1/", 3_600)
        async with standing_still(replica.pid):
            for _ in range(3):
                status, answer = await client.call("POST", "/schedule", json=LATER)
                assert (status, answer["code"]) == (503, "redis-unavailable")
                assert answer["error"].startswith("Too few replicas of Redis have the write in time")
                assert (await client.call("GET", "/stats"))[0] == 200
        await wait_until(lambda: client.accepts(**LATER), "the replica is back", 20)
        [refused] = process.events("redis-refused")
        assert "0 of 1 replicas (REPLICAS)" in refused["error"]
        assert not process.events("redis-away")


async def test_what_is_sent_again_is_answered_once_a_replica_has_it(tmp_path: Path) -> None:
    """It writes nothing the second time; WAIT, from Redis 7.2 on, looks at what its connection has written."""
    async with replicated_api(tmp_path) as (client, _, master, replica):
        once = {"json": LATER, "headers": {"Idempotency-Key": "a"}}
        async with standing_still(replica.pid):
            assert (await client.call("POST", "/schedule", **once))[0] == 503
            async with (
                serving(tmp_path, "api", REDIS_URL=master.url, REPLICAS="1") as another,
                client_of(another) as other,
            ):
                assert (await other.call("POST", "/schedule", **once))[0] == 503

        async def is_answered() -> bool:
            return (await client.call("POST", "/schedule", **once))[0] == 200

        await wait_until(is_answered, "the replica is back", 20)
        assert await asked(replica, "HLEN", KEYS.tasks) == await asked(master, "HLEN", KEYS.tasks) == 1


async def test_a_user_who_may_not_wait_is_told_before_anything_is_written(tmp_path: Path) -> None:
    async with replicated(tmp_path / "redis") as (master, _, _):
        await asked(master, "ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all", "-wait")
        url = master.url.replace("://", "://app:x@")
        client = ReplicatedClient(url, 3, KEYS, Outage(), replicas=1)
        try:
            with pytest.raises(StoreRefused, match=r"NOPERM .*wait"):
                await client.ensure_checked()
        finally:
            await client.aclose()
        assert await asked(master, "DBSIZE") == 0


async def test_a_master_without_replicas_is_warned_of(tmp_path: Path) -> None:
    async with (
        replicated(tmp_path / "redis") as (master, _, _),
        serving(tmp_path, "api", REDIS_URL=master.url, REPLICAS="2") as process,
    ):
        await wait_until(lambda: process.events("redis-configuration"), "it is said")
        said = [event["warning"] for event in process.events("redis-configuration")]
        assert "REPLICAS=2, but the master has 1: what the API writes is answered by 503 until it has as many" in said


def test_each_answer_that_tells_of_replicas_is_of_a_script_that_waits() -> None:
    told = {(route.method, route.path) for route in ROUTES if issubclass(route.answer, Written)}
    assert ("POST", "/schedule") in told
    assert all(method != "GET" for method, _ in told)
    assert {"schedule", "update", "cancel", "replay", "purge"} <= WAITED


async def test_a_master_that_becomes_a_replica_is_left_for_the_new_one(tmp_path: Path) -> None:
    """It answers the script by MOVED, and WAIT by an error of its own."""
    async with (
        cluster_of(tmp_path / "cluster") as cluster,
        serving(tmp_path, "api", REDIS_URL=cluster.url, REPLICAS="1") as process,
        client_of(process) as client,
    ):
        await client.schedule("http://127.0.0.1:1/", 3_600)
        before, replica = await cluster.master(), await cluster.replica()
        await asked(replica, "CLUSTER", "FAILOVER")

        async def has_changed() -> bool:
            return await role_of(before) == "slave"

        await wait_until(has_changed, "the master has become a replica")

        async def is_scheduled() -> bool:
            return (await client.call("POST", "/schedule", json=LATER))[0] == 200

        await wait_until(is_scheduled, "writes go to the new master", 20, 0.1)
