"""Which live workers are too old for a task's options: what Redis says of its consumers."""

import asyncio
import math
import time
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.process.process import process_name
from redis_scheduler.store import deployment, workers
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING
from redis_scheduler.task.options import RECORD_FORMAT
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import in_delivery, waiting
from tests.support.names import KEYS
from tests.support.redis_process import redis_process
from tests.support.standing_still import standing_still
from tests.support.store import Store
from tests.support.waiting import wait_until

OLD, NEW = "host-4711-0a1b2c3d", process_name()


async def see(raw: redis.asyncio.Redis, *names: str) -> None:
    """Let Redis see consumers of these names."""
    for name in names:
        await raw.xgroup_createconsumer(KEYS.queue, GROUP, name)


async def says_that_it_lives(client: RedisClient) -> None:
    """As a worker does with each join."""
    joined = deployment.Deployment()
    joined.consumer = NEW
    await joined.join(client)


async def is_gone(found: workers.Workers) -> bool:
    return await found.too_old(2) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), [None, None]),
        ((WAITING, NEW), [None, NEW]),
        ((OLD, NEW), [OLD, OLD]),
        ((f"{OLD}.r2", f"{OLD}.r3"), [None, f"{OLD}.r2"]),
        ((f"{OLD}.r12",), [None, None]),
        ((f"{OLD}.r", "x.r9.y"), [f"{OLD}.r", f"{OLD}.r"]),
    ],
)
async def test_a_consumers_name_says_up_to_which_record_format_it_reads(
    names: tuple[str, ...], expected: list[str | None], client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await client.create_group()
    await see(raw, *names)
    found = workers.Workers(client)
    assert [await found.too_old(RECORD_FORMAT), await found.too_old(3)] == expected


async def test_without_a_queue_there_is_no_worker(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await raw.delete(KEYS.queue)
    assert await workers.Workers(client).too_old(2) is None


async def test_a_worker_that_redis_has_not_seen_for_a_while_is_gone(
    client: RedisClient, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.create_group()
    await see(raw, OLD)
    for name, value in (("FRESH_S", 0), ("SEEN_MS", 300), ("SERVED_MS", 300)):
        monkeypatch.setattr(workers, name, value)
    found = workers.Workers(client)
    assert await found.too_old(2) == OLD
    await wait_until(lambda: is_gone(found), "the worker is gone", timeout_s=10)


async def test_a_worker_lives_from_its_first_word_to_fifteen_seconds_after_its_last(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await client.create_group()
    await says_that_it_lives(client)  # it has claimed nothing, so no server knows it as a consumer
    assert await workers.Workers(client).count() == 1
    seconds, _ = await raw.time()
    await see(raw, NEW)
    await raw.zadd(KEYS.workers, {NEW: 1000 * seconds - 14_000})
    assert await workers.Workers(client).count() == 1
    # It was given something lately, and died behind that: before 7.2 Redis knows no better for ten minutes.
    await raw.zadd(KEYS.workers, {NEW: 1000 * seconds - 16_000})
    assert await workers.Workers(client).count() == 0


async def test_a_worker_that_leaves_is_forgotten(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await client.create_group()
    claims = Claims(client, NEW)
    await says_that_it_lives(client)
    await see(raw, NEW)
    await claims.retire(0, NEW)
    assert await raw.zrange(KEYS.workers, 0, -1) == []


async def test_who_lives_is_remembered_for_a_time_and_up_to_a_number(
    client: RedisClient, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "WORKERS_MOST", 3)
    seconds, _ = await raw.time()
    now_ms = 1000 * seconds
    await raw.zadd(KEYS.workers, {"old": now_ms - 601_000, "ahead": now_ms + 700_000})
    await raw.zadd(KEYS.workers, {f"w{number}": now_ms - 1_000 + number for number in range(5)})
    await says_that_it_lives(client)
    assert await raw.zrange(KEYS.workers, 0, -1) == [b"w3", b"w4", NEW.encode()]


async def test_redis_is_asked_once_for_all_tasks_of_a_while(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await client.create_group()
    await client.command("PING")  # the first call checks all commands
    await raw.config_resetstat()
    found = workers.Workers(client)
    assert set(await asyncio.gather(*(found.too_old(2) for _ in range(50)))) == {None}
    stats = await raw.info("commandstats")
    assert sum(found["calls"] for name, found in stats.items() if name.startswith("cmdstat_xinfo")) == 1


async def test_that_there_is_none_holds_for_less_long(
    client: RedisClient, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.create_group()
    found = workers.Workers(client)
    assert found.is_any is None
    assert await found.found_any() is False
    monkeypatch.setattr(workers, "NONE_FRESH_S", 60)
    assert found.is_any is False
    await see(raw, NEW)
    monkeypatch.setattr(workers, "NONE_FRESH_S", 0)
    assert found.is_any is None
    assert await found.found_any() is True
    assert found.is_any is True
    monkeypatch.setattr(workers, "FRESH_S", 0)
    assert found.is_any is None


async def test_all_who_wait_for_a_redis_that_is_away_are_told_at_once(tmp_path: Path) -> None:
    async with redis_process(tmp_path) as server:
        client = RedisClient(server.url, 0.3, KEYS)
        found = workers.Workers(client)
        assert await found.too_old(2) is None
        async with standing_still(server.pid):
            found._asked_s = -math.inf
            started = time.monotonic()
            answers = await asyncio.gather(*(found.too_old(2) for _ in range(20)), return_exceptions=True)
            took_s = time.monotonic() - started
        await client.aclose()
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert took_s < 10 * 0.6, "each would wait for 0.6 s"


async def test_who_has_tasks_in_delivery_is_told_from_who_is_gone(store: Store, raw: redis.asyncio.Redis) -> None:
    assert await workers.holders(store.client, DEFAULT.window_ms) == []
    tasks = [await in_delivery(store) for _ in range(3)]
    other = await in_delivery(Store(store.client, "worker-b"))
    await waiting(store)
    for task, owner, more_ms in ((tasks[0], "worker-a", 0), (tasks[1], "worker-a", -5_000), (other, "worker-b", 1_000)):
        idle_ms = DEFAULT.window_ms + more_ms
        await raw.xclaim(KEYS.queue, GROUP, owner, 0, [task.claim.id], idle=idle_ms, justid=True)
    found = await workers.holders(store.client, DEFAULT.window_ms)
    assert found == [workers.Holder("worker-a", held=2, lost=1), workers.Holder("worker-b", held=0, lost=1)]
