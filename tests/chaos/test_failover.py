"""A master that goes, under load: in a Redis Cluster, and behind Sentinels."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.key import shards_of
from tests.chaos.accounts import Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, fault_under_load
from tests.support.audit import assert_whole, plain
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, migrates_at_once
from tests.support.service import client_of, run
from tests.support.several_redis import (
    NAME,
    Cluster,
    Servers,
    asked,
    behind_sentinels,
    cluster_of,
    moved_key_by_key,
    replicated,
)
from tests.support.waiting import wait_until

RATE = 200
"""Tasks a second."""

LINK_S = 0.5
"""What a master acknowledged longer ago has reached its replica, on one machine."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Servers]:
    async with cluster_of(tmp_path / "cluster") as servers:
        yield servers


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Servers]:
    async with behind_sentinels(tmp_path / "watched") as servers:
        yield servers


async def fail_over(
    servers: Servers,
    folder: Path,
    receiver: Receiver,
    figures: Figures,
    fault: Callable[[Servers], Awaitable[None]],
    may_be_lost: Callable[[Sent, float], bool] = lambda _, __: False,
    replicas: str = "",
    has_replica: bool = True,
) -> None:
    """Schedule, deliver and retry; do that to the servers meanwhile; see all delivered, each process back in time, and
    none that has ended."""
    receiver.behaviour = Attempts(failures=lambda n: int(n % 4 == 0), seconds=lambda n: n % 7 / 50)
    checker = Checker(folder, servers.url, plain((await servers.master()).url), receiver, figures)
    moments: list[float] = []

    async def once() -> float:
        before = await servers.master()
        if has_replica:
            await servers.replica()
        moments.append(time.time())
        await fault(servers)

        async def is_promoted() -> bool:
            return (await servers.master()).port != before.port

        await wait_until(is_promoted, "another master is there", 30)
        moments.append(time.time())
        return moments[-1]

    try:
        processes = [
            checker.launch(role, LOG_LEVEL="debug", RETRY_TIME="1", REPLICAS=replicas)
            for role in ("api", "worker", "worker")
        ]
        await asyncio.gather(*(process.started() for process in processes))
        recoveries = await fault_under_load(checker, processes[0], processes[1:], lambda n: n % 5 / 10, RATE, once)
        await checker.look_at((await servers.master()).url)
        await checker.drained()
        assert [process.process.poll() for process in processes] == [None] * 3
        assert not [event for process in processes for event in process.events("fault")]
        figures.note(promoted_s=moments[1] - moments[0], every_process_back_s=Spread.of(recoveries))
        await checker.verdict(lambda task: may_be_lost(task, moments[0]))
        assert max(recoveries) < BACK_WITHIN_S
        client = RedisClient(servers.url, 3, KEYS)
        try:
            await assert_whole(client)
        finally:
            await client.aclose()
    finally:
        await checker.stop()
        await checker._raw.aclose()


def was_on_its_way(task: Sent, at: float) -> bool:
    """Whether a task was acknowledged so shortly before that the replica may not have got it."""
    accepted_at = task.due_at - task.number % 5 / 10
    return at - LINK_S <= accepted_at <= at + LINK_S


async def kill(servers: Servers) -> None:
    await (await servers.master()).kill()


async def hand_over(servers: Servers) -> None:
    await asked(await servers.replica(), "CLUSTER", "FAILOVER")


async def hand_over_by_sentinels(servers: Servers) -> None:
    await asked(servers.sentinels[0], "SENTINEL", "FAILOVER", NAME)


@pytest.mark.case("35a", "a master of a cluster killed under load")
async def test_a_master_of_a_cluster_is_killed(
    cluster: Servers, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    await fail_over(cluster, tmp_path, receiver, figures, kill, was_on_its_way)


@pytest.mark.case("35b", "CLUSTER FAILOVER under load")
async def test_a_master_of_a_cluster_hands_over(
    cluster: Servers, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    await fail_over(cluster, tmp_path, receiver, figures, hand_over)


@pytest.mark.full
@pytest.mark.case("35c", "a master of a cluster with two replicas killed under load, REPLICAS=1")
async def test_a_master_of_a_cluster_is_killed_and_nothing_is_lost(
    tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=2) as cluster:
        await fail_over(cluster, tmp_path, receiver, figures, kill, replicas="1")


@pytest.mark.case("36a", "a master behind three Sentinels killed under load, one Sentinel dead")
async def test_a_master_behind_sentinels_is_killed(
    watched: Servers, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    await watched.sentinels[0].kill()
    await fail_over(watched, tmp_path, receiver, figures, kill, was_on_its_way)


@pytest.mark.full
@pytest.mark.case("36b", "SENTINEL FAILOVER under load, REPLICAS=1")
async def test_a_master_behind_sentinels_hands_over(
    watched: Servers, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    await fail_over(watched, tmp_path, receiver, figures, hand_over_by_sentinels, replicas="1")


@pytest.mark.full
@pytest.mark.case("36c", "a master with two replicas behind Sentinels killed under load, REPLICAS=1")
async def test_a_master_behind_sentinels_is_killed_and_nothing_is_lost(
    tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with behind_sentinels(tmp_path / "watched", replicas=2) as watched:
        await fail_over(watched, tmp_path, receiver, figures, kill, replicas="1")


@pytest.mark.parametrize(
    ("options", "replicas"),
    [
        pytest.param((), "", marks=pytest.mark.case("37a", "a master killed 1 s after its replica's link stalled")),
        pytest.param(
            ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"),
            "",
            marks=pytest.mark.case("37b", "the same with min-replicas-to-write 1, min-replicas-max-lag 2"),
        ),
        pytest.param((), "1", marks=pytest.mark.case("37c", "the same with REPLICAS=1")),
    ],
)
async def test_what_a_stalled_link_loses(
    options: tuple[str, ...], replicas: str, tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with replicated(tmp_path / "redis", *options) as (master, replica, link):
        checker = Checker(tmp_path, master.url, plain(replica.url), receiver, figures)
        try:
            api = await checker.start("api", REPLICAS=replicas)
            load = asyncio.create_task(checker.load(api, scaled(6_000, 1_500), 3_600, clients=16, rate=1_000))
            await wait_until(lambda: sum(one.is_acknowledged for one in checker.sent.values()) > 500, "under load")
            link.flowing.clear()
            await asyncio.sleep(1)  # in which the load goes on, and the replica gets nothing of it
            await master.kill()
            await load
            await asked(replica, "REPLICAOF", "NO", "ONE")
            kept = {key.decode() for key in await asked(replica, "HKEYS", KEYS.tasks)}
            acknowledged = [one for one in checker.sent.values() if one.is_acknowledged]
            lost = [one for one in acknowledged if one.key not in kept]
            figures.note(acknowledged=len(acknowledged), lost=len(lost))
            assert len(acknowledged) > 500
            assert (len(lost) == 0) == bool(replicas)
        finally:
            await checker.stop()
            await checker._raw.aclose()


SLOT = 12_872


async def _another_master(servers: Servers) -> RedisProcess:
    source = await servers.master()
    return next(one for one in servers.servers[:3] if one.port != source.port)


async def migrate_at_once(servers: Servers) -> None:
    source, target = await servers.master(), await _another_master(servers)
    node = (await asked(target, "CLUSTER", "MYID")).decode()
    await asked(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", node)


async def migrate_key_by_key(servers: Servers) -> None:
    assert isinstance(servers, Cluster)
    async with moved_key_by_key(servers, KEYS.tasks):
        await asyncio.sleep(1)  # in which the load goes on, with the slot in both places


@pytest.mark.case("38a", "a slot moved key by key under load")
async def test_a_slot_is_moved_key_by_key(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        await fail_over(cluster, tmp_path, receiver, figures, migrate_key_by_key, has_replica=False)


@pytest.mark.skipif(not migrates_at_once(), reason="the server moves no slot at once")
@pytest.mark.case("38b", "a slot moved at once (Valkey 9) under load")
async def test_a_slot_is_moved_at_once(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    async with cluster_of(tmp_path / "cluster", replicas=0) as cluster:
        await fail_over(cluster, tmp_path, receiver, figures, migrate_at_once, has_replica=False)


@pytest.mark.full
@pytest.mark.long
@pytest.mark.case("35d", "20,000 tasks over 8 shards of a cluster of three, REPLICAS=1, a master killed in the middle")
async def test_a_master_of_several_shards_is_killed(tmp_path: Path, receiver: Receiver, figures: Figures) -> None:
    count, shards = 20_000, 8
    async with cluster_of(tmp_path / "cluster", replicas=2) as cluster:
        checker = Checker(tmp_path, cluster.url, plain((await cluster.master()).url), receiver, figures)
        try:
            for role in ("worker", "worker", "api"):
                await checker.start(role, SHARDS=str(shards), REPLICAS="1")
            async with client_of(checker.processes[-1]) as client:
                seen: set[int] = set()

                async def has_all_shards() -> bool:
                    key = await client.schedule(receiver.url, data={"n": -1})
                    seen.add(shards_of(key, (shards,))[0])
                    return len(seen) == shards

                await wait_until(has_all_shards, "all shards are scheduled to", 90, every_s=0.05)
                await client.drained()
                receiver.arrivals.clear()
                load = asyncio.create_task(
                    checker.load(checker.processes[-1], count, lambda n: n % 50 / 10, clients=32, rate=600)
                )
                await wait_until(lambda: len(checker.sent) > count // 2, "half is sent", 60)
                await (await cluster.master()).kill()
                await load

                async def is_drained() -> bool:
                    status, answer = await client.call("GET", "/stats")
                    if status != 200:
                        return False
                    data = answer["data"]
                    return bool(data["ledger_balanced"]) and not any(data["states"].values())

                await wait_until(is_drained, "all are delivered, and each ledger balances", 120, every_s=0.2)
            assert [process.process.poll() for process in checker.processes] == [None] * 3
            await checker.look_at((await cluster.master()).url)
            verdict = await checker.verdict()
            assert verdict.unknown < count / 10
            done = await asyncio.to_thread(run, "doctor", REDIS_URL=cluster.url, SHARDS=str(shards))
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            await checker.stop()
            await checker._raw.aclose()
