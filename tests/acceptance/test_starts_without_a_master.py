"""Processes that start while a master of a Redis Cluster is away, or silent, and nothing takes its place."""

from pathlib import Path

import pytest

from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.acceptance.test_starts_without_a_shard import bring_back, take_away
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.several_redis import Cluster, asked, cluster_of
from tests.support.waiting import wait_until

SHARDS = 4
"""One master has two of them."""


def shard_of(key: str) -> int:
    return shards_of(key, (SHARDS,))[0]


async def some_in(client: Client, webhook: str, ttl: float, shards: set[int]) -> list[str]:
    """Schedule until each of these shards has a task, and no other; return all keys. A shard that is away fails what
    meets it first."""
    keys = list[str]()

    async def are_there() -> bool:
        status, content = await client.call("POST", "/schedule", json={"webhook": webhook, "ttl": ttl})
        if status == 200:
            keys.append(content["key"])
        return {shard_of(key) for key in keys} >= shards

    await wait_until(are_there, "each shard has one", 20)
    assert {shard_of(key) for key in keys} == shards
    return keys


async def is_shown(client: Client, key: str, away: set[int]) -> bool:
    """Whether a task of a shard that is there is shown, and is waited for where its node hears too late of the only
    other that is left: it serves nothing then. A task of a shard that is away must be refused for that."""
    status, content = await client.call("GET", f"/schedule/{key}")
    shard = shard_of(key)
    if shard in away or status != 200:
        assert (status, f"Shard {shard}: " in str(content)) == (503, True), content
    return status == (503 if shard in away else 200)


async def lists_all(client: Client) -> bool:
    return (await client.call("GET", "/schedules"))[0] == 200


async def are_kept_in_each(cluster: Cluster) -> bool:
    """Whether each shard has the number of shards, the others as a copy."""
    names = [Keys(tag_of("", number), number).shards for number in range(SHARDS)]
    return all([await asked(await cluster.node_of(name), "EXISTS", name) for name in names])


@pytest.mark.parametrize("how", ["killed", "silent"])
@pytest.mark.parametrize("first_away", [0, 1])
async def test_what_starts_without_a_master_serves_the_others_and_takes_it_in_when_it_is_back(
    first_away: int, how: str, receiver: Receiver, tmp_path: Path
) -> None:
    partly = ("--cluster-require-full-coverage", "no")
    async with cluster_of(tmp_path / "node", *partly, replicas=0) as cluster:
        there = {"REDIS_URL": cluster.url, "SHARDS": str(SHARDS)}
        async with serving(tmp_path, **there) as service, client_of(service) as client:
            later = await some_in(client, receiver.url, 3_600, {*range(SHARDS)})
            await wait_until(lambda: are_kept_in_each(cluster), "each shard keeps the number", 20)
        nodes = [await cluster.node_of(Keys(tag_of("", number), number).tasks) for number in range(SHARDS)]
        lost = nodes[first_away]
        away = {number for number, node in enumerate(nodes) if node is lost}
        assert away == ({0} if first_away == 0 else {1, 2})
        await take_away(lost, how)
        async with (
            serving(tmp_path, "api", **there) as api,
            serving(tmp_path, "worker", **there),
            client_of(api) as client,
        ):
            keys = await some_in(client, receiver.url, 0, {*range(SHARDS)} - away)
            await wait_until(lambda: {*keys} <= {*receiver.times_by_key}, "they are delivered", 20)
            for key in later:
                await wait_until(lambda: is_shown(client, key, away), "what is there is shown", 20)  # noqa: B023
            await bring_back(lost, how)
            await wait_until(lambda: lists_all(client), "it is back", 20)
            for key in later:
                assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
            await wait_until(lambda: {*later} <= {*receiver.times_by_key}, "all are delivered", 20)
            assert (await client.drained())["ledger_balanced"]
    assert {*receiver.times_by_key.values()} == {1}


async def test_a_cluster_that_serves_only_whole_is_waited_for(receiver: Receiver, tmp_path: Path) -> None:
    """As clusters do unless they are told otherwise: no slot is served while another has no master."""
    async with cluster_of(tmp_path / "node", replicas=0) as cluster:
        there = {"REDIS_URL": cluster.url, "SHARDS": str(SHARDS)}
        async with serving(tmp_path, **there) as service, client_of(service) as client:
            later = await some_in(client, receiver.url, 3_600, {*range(SHARDS)})
        lost = await cluster.node_of(Keys(tag_of("", 0), 0).tasks)
        await take_away(lost, "killed")
        async with (
            serving(tmp_path, "api", **there) as api,
            serving(tmp_path, "worker", **there),
            client_of(api) as client,
        ):

            async def is_refused() -> bool:
                return not await client.accepts(receiver.url, 3_600)

            await wait_until(is_refused, "the others have noticed it", 20)
            status, content = await client.call("GET", f"/schedule/{later[0]}")
            assert (status, content["code"]) == (503, "redis-unavailable"), content
            await bring_back(lost, "killed")

            await wait_until(lambda: lists_all(client), "it is whole again", 30)
            for key in later:
                assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
            await wait_until(lambda: {*later} <= {*receiver.times_by_key}, "all are delivered", 20)
