"""From one server to eight, a shard each, and then to four shards, while tasks wait."""

import asyncio
import itertools
import re
import time
from pathlib import Path

import pytest

from redis_scheduler.task.key import hashed_shard
from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures
from tests.chaos.several import checking, end, shard_of
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Process
from tests.support.several_redis import apart
from tests.support.waiting import wait_until

SHARDS, FEWER = 8, 4
WAITING = 400
"""Tasks that are there from the beginning to the end."""

OWN_KEYS = 40
HOLDS_WITHIN_S = 120
"""A number of shards holds a minute after it was announced."""

LOAD, LOAD_RATE = 2_000, 200


@pytest.mark.full
@pytest.mark.case(
    "42", "from one server to eight, a shard each, and then to four shards, with tasks waiting, under load"
)
async def test_servers_are_added_and_tasks_of_former_shards_come(
    tmp_path: Path, receiver: Receiver, figures: Figures
) -> None:
    async with (
        apart(tmp_path / "redis", SHARDS) as servers,
        checking(tmp_path, servers.url, [one.url for one in servers.servers], receiver, figures) as checker,
    ):
        urls = [one.url for one in servers.servers]
        old = [await checker.start(role, REDIS_URL=urls[0]) for role in ("worker", "api")]
        waiting = await checker.load(old[1], WAITING, 3_600)
        own: dict[str, Sent] = {}
        await put(checker, old[1], own, OWN_KEYS, 3_600)

        # The workers come first, then the API.
        load = asyncio.create_task(loaded(checker, old[1]))
        new = [await checker.start(role) for role in ("worker", "api")]
        await load
        announced = time.monotonic()
        await end(*old)
        before = await loaded(checker, new[1])
        assert {shard_of(task, SHARDS) for task in before} == {0}, "another process may look there alone still"
        await wait_until(lambda: until(checker, new[1], SHARDS - 1), "eight hold", HOLDS_WITHIN_S, every_s=1)
        figures.note(new_shards_used_after_s=time.monotonic() - announced)
        await put(checker, new[1], own, 2 * OWN_KEYS, 3_600)
        await refused(
            tmp_path, [urls[1], urls[0], *urls[2:]], r"this server holds shard \d, and REDIS_URL names it for"
        )
        await refused(tmp_path, urls[:FEWER], r"REDIS_URL (must list|lists 4: list) all")
        waiting += await checker.load(new[1], WAITING, 3_600)
        assert {shard_of(task, SHARDS) for task in waiting} == {*range(SHARDS)}

        # Fewer: all are served, and new tasks go to four.
        load = asyncio.create_task(loaded(checker, new[1]))
        fewer = [await checker.start(role, SHARDS=str(FEWER)) for role in ("worker", "api")]
        await load
        await end(*new)
        tasks = await loaded(checker, fewer[1])
        assert {shard_of(task, SHARDS) for task in tasks} == {*range(FEWER)}
        await put(checker, fewer[1], own, 2 * OWN_KEYS, 0)
        await wait_until(lambda: goes_by_four(checker, fewer[1], own), "four hold", HOLDS_WITHIN_S, every_s=5)
        await checker.resume(fewer[1], waiting, "run")
        await checker.drained()
        assert [process.process.poll() for process in fewer] == [None] * 2
        verdict = await checker.verdict()
        assert verdict.unknown == 0
        assert verdict.replaced >= 3 * OWN_KEYS


async def loaded(checker: Checker, api: Process) -> list[Sent]:
    return await checker.load(api, LOAD, lambda n: n % 5 / 10, rate=LOAD_RATE)


async def until(checker: Checker, api: Process, shard: int) -> bool:
    """Whether one of some new tasks stands in a shard."""
    tasks = await checker.load(api, 2 * SHARDS, clients=1)
    return any(shard_of(task, SHARDS) == shard for task in tasks)


async def put(checker: Checker, api: Process, own: dict[str, Sent], count: int, ttl: float) -> None:
    """Put so many tasks under keys of one's own, each in the place of the one before."""
    for number in range(count):
        key = f"order-{number}"
        own[key] = await checker.put(api, key, ttl, own.get(key))


async def goes_by_four(checker: Checker, api: Process, own: dict[str, Sent]) -> bool:
    """Whether a new key of one's own stands where its hash says among four shards, and not where it says among
    eight."""
    key = next(
        key
        for key in (f"late-{number}" for number in itertools.count())
        if key not in own and hashed_shard(key, FEWER) != hashed_shard(key, SHARDS)
    )
    own[key] = await checker.put(api, key, 3_600)
    raw, keys = checker.shards[hashed_shard(key, FEWER)]
    is_there = bool(await raw.hexists(keys.tasks, key))
    own[key] = await checker.put(api, key, 0, own[key])
    return is_there


async def refused(folder: Path, urls: list[str], said: str) -> None:
    """See that a process with these servers is refused by name, and says it in one line."""
    process = Process(folder, REDIS_URL=",".join(urls), API_AUTH=TOKEN)
    try:
        assert await process.ended() in (1, 2)
    finally:
        await process.stop()
    assert re.search(said, process.log)
    assert "Traceback" not in process.log
