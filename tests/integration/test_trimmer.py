"""The trimmer: dead letters stay within their time and their bytes, and it wakes as soon as there are more."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine import trimmer
from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.observer import Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.errors import StoreRefused
from redis_scheduler.store import writes
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.retention import Retention
from redis_scheduler.task.kept import DEFAULT, Kept
from redis_scheduler.task.policy import Policy
from tests.integration.conftest import TIMING, OneShard, schedule
from tests.scripts.states import ask, dead, new_task
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.store import Store
from tests.support.waiting import wait_until

SLEEPY = replace(TIMING, trim_interval_s=600)
"""Only what is told to it wakes the trimmer."""


class Dropped(Observer):
    """Adds up what was dropped."""

    letters = 0

    def letters_dropped(self, letters: int) -> None:
        self.letters += letters


async def run_until_kept(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, kept: Kept, left: int, ended: int
) -> Dropped:
    """Run an engine without retries until `ended` tasks have died and `left` dead letters are there."""

    async def is_kept() -> bool:
        died = int(await raw.hget(KEYS.counters, "died") or 0)
        return died == ended and int(await raw.zcard(KEYS.dead)) == left

    return await run_until(client, store, kept, is_kept, f"{left} dead letters")


async def run_until(
    client: RedisClient, store: Store, kept: Kept, is_so: Callable[[], Awaitable[bool]], what: str
) -> Dropped:
    """Run an engine without retries until something is so."""
    observer, stop = Dropped(), asyncio.Event()
    reader = QueueReader(client, store.name, SLEEPY)
    async with Deliverer("test-token", 5) as deliverer:
        access = ShardAccess(store, reader, Bell(client), Outage())
        engine = OneShard({0: access}, deliverer, Policy(0, 1000), 50, SLEEPY, observer, kept)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.run(stop, asyncio.Event(), 5))
            await wait_until(is_so, what)
            stop.set()
    await reader.aclose()
    return observer


async def test_tasks_that_die_push_the_oldest_out(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.status = 500
    await schedule(store, receiver.url, 20)
    kept = Kept(dead_bytes=0)
    observer = await run_until_kept(client, store, raw, kept, left=0, ended=20)
    assert observer.letters == 20
    assert await raw.hget(KEYS.counters, "dead_dropped") == b"20"
    assert await raw.hget(KEYS.dead_bytes, ".bytes") == b"0"


async def test_a_start_drops_in_many_steps_what_is_too_old(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    for _ in range(450):
        await dead(store)
    now_ms = redis_ms(await client.command("TIME"))
    await raw.hset(KEYS.dead_bytes, ".since_ms", now_ms - 3_600_000)
    keys: Any = await raw.zrange(KEYS.dead, 0, -1)
    await raw.zadd(KEYS.dead, dict.fromkeys(keys[:440], now_ms - 3600000))
    kept = replace(DEFAULT, dead_ttl_ms=1_800_000)
    observer = await run_until_kept(client, store, raw, kept, left=10, ended=450)
    assert observer.letters == 440


async def test_a_worker_cleans_what_remains_of_a_purge(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "PURGED_TYPES", 10)
    monkeypatch.setattr(trimmer, "CLEAN_S", 0)  # a call each
    for number in range(450):
        await store.schedule([new_task(type_name=f"type-{number}")])
    await store.purge()
    assert await raw.scard(KEYS.types) == 440

    async def is_clean() -> bool:
        return int(await raw.exists(KEYS.remains, KEYS.types)) == 0

    await run_until(client, store, DEFAULT, is_clean, "nothing remains")
    assert await raw.keys(KEYS.type_index("*")) == []


@pytest.mark.parametrize("missing", ["sscan", "zscan"])
async def test_what_a_user_may_not_clean_stays_until_it_may(
    missing: str, redis_url: str, store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "PURGED_TYPES", 10)
    for number in range(20):
        await store.schedule([new_task(type_name=f"type-{number}")])
    await store.purge()
    await dead(store)  # so that tasks are there, and each index is looked at
    await ask(raw, "ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", f"-{missing}")
    client = RedisClient(redis_url.replace("://", "://app:x@"), 3, KEYS)
    retention = Retention(client, DEFAULT)
    trims = trimmer.Trimmer(retention, Outcomes(store, Holdings(asyncio.Event())), Outage(), TIMING)
    try:
        with pytest.raises(StoreRefused, match=f"(?i){missing}.*needs it: see the smallest ACL"):
            await retention.clean(1)
        assert await trims.run_once() == TIMING.trim_s
        assert (await raw.exists(KEYS.remains), await raw.scard(KEYS.types)) == (1, 10)
        await ask(raw, "ACL", "SETUSER", "app", f"+{missing}")
        await trims.run_once()
        assert await raw.exists(KEYS.remains, KEYS.types) == 0
    finally:
        await client.aclose()
        await raw.acl_deluser("app")
