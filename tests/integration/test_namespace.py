"""NAMESPACE: deployments side by side on one Redis never meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.delivery.request import INSTANCE_HEADER
from redis_scheduler.store.audit import audit
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.store.writes import Writes
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.receiver import Receiver
from tests.support.service import Client, Process, client_of, run, serving
from tests.support.waiting import wait_until

NAMESPACES = ["", "a", "b"]
TASKS = 5


def shard_of(url: str, namespace: str) -> Shard:
    return Shard(url, Keys(tag_of(namespace)))


async def assert_is_sound(url: str, namespace: str) -> None:
    """No task of it is lost, stands twice or is unaccounted for."""
    async with shard_of(url, namespace).connected(3) as client:
        assert [finding.text async for finding in audit(client)] == []
        assert (await Views(client).ledger()).is_balanced


@dataclass
class Deployment:
    """A whole service in its namespace. Its token is its own, so deliveries tell whose they are."""

    namespace: str
    process: Process
    client: Client

    @property
    def token(self) -> str:
        return f"token-of-{self.namespace}"


@asynccontextmanager
async def side_by_side(folder: Path, url: str) -> AsyncIterator[list[Deployment]]:
    async with AsyncExitStack() as stack:
        found = []
        for namespace in NAMESPACES:
            token = f"token-of-{namespace}"
            variables = {"REDIS_URL": url, "HOST": "127.0.0.1", "API_AUTH": token, "NAMESPACE": namespace}
            process = await stack.enter_async_context(serving(folder, **variables))
            client = await stack.enter_async_context(client_of(process, token))
            found.append(Deployment(namespace, process, client))
        yield found


async def test_deployments_on_one_redis_never_meet(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    async with side_by_side(tmp_path, redis_url) as deployments:
        scheduled = {}
        for at in deployments:
            for number in range(TASKS):
                delay_s = 0 if number % 2 else 0.3
                key = await at.client.schedule(receiver.url, delay_s, f"/schedule?type={at.namespace or 'x'}", data=1)
                scheduled[key] = at.token
        for at in deployments:
            assert (await at.client.drained())["counters"]["delivered"] == TASKS

        assert receiver.times_by_key == dict.fromkeys(scheduled, 1)
        delivered_by = {arrival.key: arrival.headers["Authorization"] for arrival in receiver.arrivals}
        assert delivered_by == scheduled
        ids = {arrival.headers[INSTANCE_HEADER] for arrival in receiver.arrivals}
        assert len(ids) == len(NAMESPACES)
        hazards = [event["warning"] for at in deployments for event in at.process.events("hazard")]
        assert not [warning for warning in hazards if "another API_AUTH" in warning]

        waiting = [await at.client.schedule(receiver.url, 3_600, data=1) for at in deployments]
        status, content = await deployments[1].client.call("POST", "/purge")
        assert (status, content["data"]) == (200, 1)
        for at, key in zip(deployments, waiting, strict=True):
            for other in deployments:
                status, _ = await other.client.call("GET", f"/schedule/{key}")
                assert status == (200 if other is at and at.namespace != "a" else 404)
    for namespace in NAMESPACES:
        await assert_is_sound(redis_url, namespace)


async def test_a_bell_wakes_the_timers_of_its_own_deployment_only(redis_url: str, raw: redis.asyncio.Redis) -> None:
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(shard_of(redis_url, name).connected(3)) for name in NAMESPACES}
        rings = dict.fromkeys(NAMESPACES, 0)

        async def listen(name: str) -> None:
            def on_ring() -> None:
                rings[name] += 1

            await Bell(clients[name]).listen(on_ring)

        listening = [asyncio.create_task(listen(name)) for name in NAMESPACES]
        await wait_until(lambda: all(rings[name] for name in NAMESPACES), "all listen")
        before = dict(rings)

        def has_rung(name: str) -> bool:
            return rings[name] == before[name] + 1

        for expected, name in enumerate(("a", "b", "")):
            task = NewTask(new_task_key(), 60_000, record_tail("http://localhost/", 60, None, b"1"), None)
            await Writes(clients[name], "api").schedule([task])
            await wait_until(partial(has_rung, name), "it rings")
            assert sum(rings.values()) - sum(before.values()) == expected + 1
        for listener in listening:
            listener.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


async def test_the_doctor_sees_its_own_deployment_only(redis_url: str, raw: redis.asyncio.Redis) -> None:
    await raw.hset(Keys(tag_of("a")).failures, "stray", "1 {}")
    results = {}
    for name in NAMESPACES:
        ran = await asyncio.to_thread(run, "doctor", REDIS_URL=redis_url, NAMESPACE=name)
        results[name] = ran.returncode, "stray" in ran.stdout
    assert results == {"": (0, False), "a": (1, True), "b": (0, False)}


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a:b", "{a}", "a" * 33, "a.b", "é", "a b", "a\n"])
def test_a_name_that_a_key_or_a_pattern_would_misread_is_refused(name: str) -> None:
    ran = run("doctor", REDIS_URL="redis://127.0.0.1:1", NAMESPACE=name)
    assert ran.returncode == 2
    assert "NAMESPACE" in ran.stderr
    assert "small letters, digits and hyphens" in ran.stderr
