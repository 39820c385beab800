"""`redis-scheduler pause-all` and `resume-all`: nothing is delivered in between, whichever way a task would have come,
and everything says so."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.timing import DEFAULT
from tests.acceptance.test_moving import command
from tests.scripts.states import ask
from tests.support.engine import MODULE
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Process, client_of, serving
from tests.support.shards import are_announced
from tests.support.waiting import wait_until


async def test_between_pause_and_resume_nothing_is_delivered(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.statuses = [500]
    there = {"REDIS_URL": redis_url}
    async with serving(tmp_path, RETRY_TIME="0.5", **there) as service, client_of(service) as client:
        assert (await client.stats())["all_paused_since"] is None
        receiver.may_answer.clear()
        under_way = await client.schedule(receiver.url)
        await wait_until(lambda: receiver.arrivals, "the attempt is under way")

        pausing = asyncio.create_task(command(0, "pause-all", **there))
        await wait_until(lambda: service.events("all-paused"), "the worker has seen it")
        receiver.may_answer.set()  # and fails, for a retry that is due long before the resume
        assert "No attempt is under way." in (await pausing).stdout
        later = [await client.schedule(receiver.url, ttl) for ttl in (0, 0.05)]

        async def all_are_due() -> bool:
            until_ms = int((await raw.time())[0]) * 1000 - 1000
            return sum([await raw.zcount(keys.due, "-inf", until_ms) for keys in KEYS_OF_SHARDS]) == 1

        await wait_until(all_are_due, "what is paused is long due")
        assert {arrival.key for arrival in receiver.arrivals} == {under_way}
        assert len(receiver.arrivals) == 1
        shown = (await client.call("GET", f"/schedule/{later[0]}"))[1]["data"]["info"]
        assert shown["waits_for"].startswith("`redis-scheduler resume-all`: all is paused since ")
        stats = await client.stats()
        assert stats["all_paused_since"] is not None
        assert stats["running_schedules"] == 3
        status, ready = await client.call("GET", "/readyz")
        assert (status, ready["all_paused_since"]) == (200, stats["all_paused_since"])
        assert "Paused since" in (await command(0, "doctor", **there)).stdout

        await command(0, "resume-all", **there)
        await client.drained()
        assert service.events("all-resumed")
        assert receiver.times_by_key == {under_way: 2, later[0]: 1, later[1]: 1}

        async def is_ready_and_says_no_more() -> bool:
            status, ready = await client.call("GET", "/readyz")
            return status == 200 and "all_paused_since" not in ready

        await wait_until(is_ready_and_says_no_more, "what Redis said last time is asked anew")


async def test_what_a_killed_worker_had_in_hand_is_told_of_and_comes_after_the_resume(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url}
    receiver.may_answer.clear()
    async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
        worker = Process(tmp_path, "worker", API_AUTH=TOKEN, **there)
        await worker.started()
        keys = [await client.schedule(receiver.url) for _ in range(3)]
        await wait_until(lambda: len(receiver.arrivals) == 3, "all are under way")
        worker.process.kill()
        await worker.ended()
        for queue in [of_shard.queue for of_shard in KEYS_OF_SHARDS if await raw.exists(of_shard.queue)]:
            for entry in await raw.xpending_range(queue, GROUP, "-", "+", 10):
                # As if its lease were over.
                owner, entry_id = entry["consumer"], entry["message_id"]
                await ask(raw, "XCLAIM", queue, GROUP, owner, 0, entry_id, "IDLE", DEFAULT.window_ms)
        receiver.may_answer.set()
        said = (await command(0, "pause-all", **there)).stdout
        assert re.search(r"^The worker \S+ is gone; 3 of its tasks come again after the resume\.$", said, re.MULTILINE)
        async with serving(tmp_path, "worker", **there) as other:
            await wait_until(lambda: other.events("all-paused"), "it has seen it")
            await command(0, "resume-all", **there)
            await client.drained()
    assert receiver.times_by_key == dict.fromkeys(keys, 2)


async def test_while_a_worker_lives_that_is_too_old_it_is_refused_unless_forced(
    redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url}
    async with serving(tmp_path, "worker", **there):
        await wait_until(lambda: raw.exists(KEYS.queue), "the worker has made the group")
        await raw.xgroup_createconsumer(KEYS.queue, GROUP, "host-4711-0a1b2c3d")
        said = (await command(1, "pause-all", **there)).stdout
        assert "The worker host-4711-0a1b2c3d is too old to see a pause" in said
        assert not await raw.exists(KEYS.pause_all)
        assert "Paused since" in (await command(0, "pause-all", "--force", **there)).stdout
        assert await raw.exists(KEYS.pause_all)
    await command(0, "resume-all", **there)


async def test_no_shard_comes_while_all_is_paused(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    """Nobody has paused it."""
    one = {"REDIS_URL": redis_url, "SHARDS": "1"}
    four = {"REDIS_URL": redis_url, "SHARDS": "4", "module": MODULE, "REJOIN_INTERVAL_S": "0.5"}
    async with serving(tmp_path, **one) as service, client_of(service) as client:
        await client.schedule(receiver.url, 3_600)
    await command(0, "pause-all", **one)
    async with serving(tmp_path, "worker", **four), serving(tmp_path, "api", **four) as api, client_of(api) as client:

        async def are_served() -> bool:
            return all([await raw.exists(Keys(tag_of("", number)).workers) for number in range(4)])

        await wait_until(are_served, "a worker was seen in each", 20)
        said = set[bytes]()

        async def has_joined_since() -> bool:
            told: Any = await raw.hvals(KEYS.processes)
            said.update(text for text in told if b'"role":"api"' in text)
            return len(said) == 3

        await wait_until(has_joined_since, "the API has joined twice since", 20)
        keys = [await client.schedule(receiver.url) for _ in range(4)]
        assert not await raw.exists(KEYS.shards)
        assert receiver.arrivals == []
        await command(0, "resume-all", **one)
        await are_announced(raw, 4)
        await wait_until(lambda: {*keys} <= {*receiver.times_by_key}, "all are delivered")


@pytest.mark.parametrize(("shards", "told"), [("3", {0, 1, 2}), ("1", {None})])
async def test_of_several_shards_the_log_says_which_is_paused_and_goes_on(
    shards: str, told: set[int | None], redis_url: str, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": shards}
    async with serving(tmp_path, "worker", **there) as worker:

        def shards_of(event: str) -> list[int | None]:
            return [one.get("shard") for one in worker.events(event)]

        await command(0, "pause-all", **there)
        await wait_until(lambda: len(shards_of("all-paused")) == len(told), "the pause is told")
        await command(0, "resume-all", **there)
        await wait_until(lambda: len(shards_of("all-resumed")) == len(told), "the resume is told")
        assert {*shards_of("all-paused")} == {*shards_of("all-resumed")} == told


async def claims_nothing(raw: redis.asyncio.Redis) -> bool:
    clients = await raw.info("clients")
    return bool(clients["blocked_clients"] == 0)


async def test_a_worker_that_stops_while_all_is_paused_takes_nothing(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}  # a pause before the first start hears of no other
    await command(0, "pause-all", **there)
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await wait_until(lambda: service.events("all-paused"), "the worker has seen it")
        # A claim that was made before that ends by itself.
        await wait_until(lambda: claims_nothing(raw), "no claim waits in Redis")
        await client.schedule(receiver.url)
        assert (await client.stats())["states"]["queued"] == 1
    assert receiver.arrivals == []
    # Another deployment is not paused; and it goes on after a resume by a new worker.
    await command(0, "resume-all", **there)
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await client.drained()
    assert len(receiver.arrivals) == 1


async def test_a_pause_before_a_first_start_is_of_all_shards_that_come(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Whatever number that has: others come only after the resume."""
    there = {"REDIS_URL": redis_url}
    await command(0, "pause-all", **there)
    async with serving(tmp_path, **there, SHARDS="3") as service, client_of(service) as client:
        await wait_until(lambda: service.events("all-paused"), "the worker has seen it")
        keys = [await client.schedule(receiver.url) for _ in range(9)]
        states = (await client.stats())["states"]
        assert states["queued"] + states["due"] == len(keys)
        await asyncio.sleep(1)  # that nothing is delivered shows only with time
        assert receiver.arrivals == []
        await command(0, "resume-all", **there)
        await client.drained()
    assert receiver.times_by_key == dict.fromkeys(keys, 1)


async def test_a_worker_that_starts_while_all_is_paused_takes_nothing(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    there = {"REDIS_URL": redis_url, "SHARDS": str(SHARDS)}
    async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
        await command(0, "pause-all", **there)
        keys = [await client.schedule(receiver.url) for _ in range(20)]
        for _ in range(3):
            async with serving(tmp_path, "worker", **there) as worker:
                await wait_until(lambda: worker.events("all-paused"), "it has seen it")
                assert (await client.stats())["states"]["queued"] == len(keys)
        assert receiver.arrivals == []
        await command(0, "resume-all", **there)
        async with serving(tmp_path, "worker", **there):
            await client.drained()
    assert receiver.times_by_key == dict.fromkeys(keys, 1)
