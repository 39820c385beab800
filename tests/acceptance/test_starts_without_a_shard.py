"""Processes that start while a server of several is away, or silent: they serve what the others have."""

import os
import signal
import time
from pathlib import Path

import pytest

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.chaos.recovery import kill_between_syncs
from tests.support.audit import plain
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, client_of, serving
from tests.support.several_redis import asked
from tests.support.shards import scheduled_to_the_last
from tests.support.waiting import wait_until


async def take_away(server: RedisProcess, how: str) -> None:
    """Kill it, with all that it has answered in its file, or let it be silent."""
    if how == "killed":
        async with plain(server.url) as client:
            await kill_between_syncs(server, client)
    else:
        os.kill(server.pid, signal.SIGSTOP)


async def bring_back(server: RedisProcess, how: str) -> None:
    if how == "killed":
        await server.start()
    else:
        os.kill(server.pid, signal.SIGCONT)


def shard_of(key: str) -> int:
    return shards_of(key, (2,))[0]


async def spread(client: Client, webhook: str, ttl: float) -> dict[int, str]:
    """Schedule until each of two shards has a task; return one of each."""
    found = dict[int, str]()

    async def are_there() -> bool:
        key = await client.schedule(webhook, ttl)
        found.setdefault(shard_of(key), key)
        return len(found) == 2

    await wait_until(are_there, "each shard has one", 20)
    return found


@pytest.mark.parametrize("how", ["killed", "silent"])
@pytest.mark.parametrize("away", [0, 1])
async def test_what_starts_without_a_server_serves_the_other_and_takes_it_in_when_it_is_back(
    away: int, how: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        servers, there = [one, other], 1 - away
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, receiver.url, 2)
            await client.drained()
            later = await spread(client, receiver.url, 3_600)

            async def is_kept_twice() -> bool:
                return bool(await asked(other, "EXISTS", Keys(tag_of("", 1), 1).shards))

            await wait_until(is_kept_twice, "the second shard keeps the number, too")
        await take_away(servers[away], how)
        async with serving(tmp_path, REDIS_URL=url) as service, client_of(service) as client:
            await wait_until(lambda: client.accepts(receiver.url), "new tasks go to the other", 15)
            keys = [await client.schedule(receiver.url) for _ in range(5)]
            assert {shard_of(key) for key in keys} == {there}
            await wait_until(lambda: {*keys} <= {*receiver.times_by_key}, "they are delivered", 15)
            assert (await client.call("GET", f"/schedule/{later[there]}"))[0] == 200
            for path in (f"/schedule/{later[away]}", "/schedules"):
                status, content = await client.call("GET", path)
                assert (status, f"Shard {away}" in str(content)) == (503, True), content
            assert (await client.call("GET", f"/schedules?shard={there}"))[0] == 200
            assert (await client.call("DELETE", f"/schedule/{later[there]}"))[0] == 200
            await bring_back(servers[away], how)

            async def is_back() -> bool:
                return (await client.call("GET", "/schedules"))[0] == 200

            await wait_until(is_back, "it is back", 15)
            status, _ = await client.call("POST", f"/schedule/{later[away]}/run")
            assert status == 200
            await wait_until(lambda: receiver.times_by_key[later[away]], "its task is delivered", 15)
            assert (await client.drained())["ledger_balanced"]


@pytest.mark.parametrize(("away", "is_known"), [(0, True), (1, True), (1, False)])
async def test_a_stop_waits_for_no_silent_server(away: int, is_known: bool, receiver: Receiver, tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}") as service, client_of(service) as client:
            await scheduled_to_the_last(client, receiver.url, 2)
            await client.drained()
            silent = (one, other)[away]
            await take_away(silent, "silent")
            if is_known:
                await wait_until(lambda: service.events("redis-away"), "it is noticed", 20)
            receiver.may_answer.clear()

            async def is_under_way() -> bool:
                await client.call("POST", "/schedule", json={"webhook": receiver.url, "ttl": 0})
                return receiver.in_flight > 0

            await wait_until(is_under_way, "an attempt is under way", 20)
            service.signal(signal.SIGTERM)
            began = time.monotonic()
            await wait_until(lambda: service.events("draining"), "it stops to begin, and waits", 2)
            receiver.may_answer.set()
            assert await service.ended() == 0
            took_s = time.monotonic() - began
            assert took_s < (7 if is_known else 10), "3 s for the last writes, as long to notice it, and a busy machine"
        await bring_back(silent, "silent")
        async with serving(tmp_path, REDIS_URL=f"{one.url},{other.url}") as service, client_of(service) as client:
            assert (await client.drained())["ledger_balanced"]
    assert {*receiver.times_by_key.values()} == {1}


async def test_tasks_of_a_server_are_served_though_the_first_lost_what_tells_of_it(
    receiver: Receiver, tmp_path: Path
) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url, copy = f"{one.url},{other.url}", Keys(tag_of("", 1), 1).shards
        async with serving(tmp_path, REDIS_URL=url) as service, client_of(service) as client:
            await scheduled_to_the_last(client, receiver.url, 2)
            kept = (await spread(client, receiver.url, 3_600))[1]
        await asked(one, "FLUSHALL")
        await asked(other, "DEL", copy)  # as of a version that kept none
        async with serving(tmp_path, REDIS_URL=url, SHARDS="1") as service, client_of(service) as client:

            async def is_run() -> bool:
                return (await client.call("POST", f"/schedule/{kept}/run"))[0] == 200

            await wait_until(is_run, "it is found", 20)
            await wait_until(lambda: receiver.times_by_key[kept], "it is delivered", 20)
            assert shard_of(await client.schedule(receiver.url, 3_600)) == 0
