"""A task that no worker delivers says so: none runs, or none serves its shard."""

from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.task.key import shards_of
from tests.acceptance.test_pause import info
from tests.support.names import KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.shards import scheduled_to_the_last
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"
NOBODY = "`redis-scheduler worker`: no worker runs; "


async def says(api: Client, key: str, beginning: str) -> None:
    async def is_so() -> bool:
        return bool((await info(api, key))["waits_for"].startswith(beginning))

    await wait_until(is_so, f"{key} waits for: {beginning}", 20)


async def test_a_task_says_that_no_worker_runs_until_one_does(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": "1"}
    async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
        due, later = await client.schedule(receiver.url, 0), await client.schedule(receiver.url, 600)
        large = await client.schedule(receiver.url, 600, data="x" * 70_000)
        assert (await info(client, due))["waits_for"] == f"{NOBODY}then a free slot of a worker"
        for key in (later, large):
            assert (await info(client, key))["waits_for"].startswith(f"{NOBODY}then its time, ")
        async with serving(tmp_path, "worker", **there):
            await wait_until(lambda: receiver.arrivals, "it arrived")
            for key in (later, large):
                await says(client, key, "its time, ")
        await says(client, later, f"{NOBODY}then its time, ")


@pytest.mark.long
async def test_a_task_whose_worker_was_killed_says_that_no_other_runs(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": "1"}
    receiver.may_answer.clear()
    async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
        worker = Process(tmp_path, "worker", API_AUTH=TOKEN, **there)
        await worker.started()
        key = await client.schedule(receiver.url, 0)
        await wait_until(lambda: receiver.arrivals, "its attempt is under way")
        assert (await info(client, key))["waits_for"] == "the answer to its attempt 1"
        worker.process.kill()
        await worker.ended()
        receiver.may_answer.set()
        await says(client, key, f"{NOBODY}that of its attempt 1 is gone")


@pytest.mark.long
async def test_a_task_says_that_no_worker_serves_its_shard(redis_url: str, tmp_path: Path) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": "2"}
    async with (
        serving(tmp_path, "worker", WORKER_SHARDS="0", **there),
        serving(tmp_path, "api", **there) as api,
        client_of(api) as client,
    ):
        async with serving(tmp_path, "worker", WORKER_SHARDS="1", **there):
            keys = await scheduled_to_the_last(client, WEBHOOK, 2, 600)
            keys.append(await client.schedule(WEBHOOK, 600))
            for key in keys:
                await says(client, key, "its time, ")
        by_shard = {shards_of(key, (2,))[0]: key for key in keys}
        await says(client, by_shard[1], "`redis-scheduler worker`: no worker serves shard 1; then its time, ")
        assert (await info(client, by_shard[0]))["waits_for"].startswith("its time, ")


async def test_a_task_is_shown_also_where_nobody_can_say_whether_a_worker_lives(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    key = await api.schedule(WEBHOOK, 600)
    for keys in KEYS_OF_SHARDS:
        await raw.set(keys.workers, "foreign")
    assert (await info(api, key))["waits_for"].startswith("its time, ")
