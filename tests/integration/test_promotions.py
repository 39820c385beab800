"""Promotions that bring claims: what comes due begins at once, once, and no answer that is lost or late changes that."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
import redis.asyncio

from redis_scheduler import keys
from redis_scheduler import store as store_module
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.store import LEASE_MS, Entry, Promotion, Store
from redis_scheduler.worker import Worker
from tests.integration.conftest import CONCURRENCY, schedule
from tests.integration.test_claims import pending, stopped
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _may_take_every_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_scheduler.worker.PROMOTED_SHARE", 1)


async def overdue(store: Store, webhook: str, count: int) -> list[str]:
    """Schedule tasks, and wait until they are due."""
    found = await schedule(store, webhook, count, ttl_ms=1)
    await asyncio.sleep(0.003)
    return found


async def test_what_comes_due_begins_without_a_claim_of_its_own(
    worker: Worker, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    expected = await overdue(store, receiver.url, 2)
    assert (await worker.promote()).moved == 2
    await wait_until(lambda: len(receiver.arrivals) == 2, "both arrive")
    await stopped(worker)
    assert receiver.times_by_key == dict.fromkeys(expected, 1)
    assert await pending(raw) == []


async def test_no_more_is_claimed_than_there_are_slots_and_none_by_one_that_stops_or_stood_still(
    worker: Worker, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.delay_s = 0.3
    await overdue(store, receiver.url, CONCURRENCY + 3)
    worker._renewed_at -= LEASE_MS / 1000
    assert len((await worker.promote()).claims) == 0
    await worker.renew()
    await overdue(store, receiver.url, CONCURRENCY + 3)
    # One slot is kept for retries.
    assert len((await worker.promote()).claims) == CONCURRENCY - 1
    await overdue(store, receiver.url, 1)
    promotion = await worker.promote()
    assert (promotion.moved, promotion.claims) == (1, [])
    await stopped(worker)
    await overdue(store, receiver.url, 1)
    promotion = await worker.promote()
    assert (promotion.moved, promotion.claims) == (1, [])


async def test_what_a_recovery_has_begun_is_not_begun_by_a_late_answer(
    worker: Worker, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote, may_answer = store.promote, asyncio.Event()

    async def slow_promote(limit: int, claims: int) -> Promotion:
        promotion = await promote(limit, claims)
        await may_answer.wait()
        return promotion

    await overdue(store, receiver.url, 3)
    with patch.object(store, "promote", slow_promote):
        promoting = asyncio.create_task(worker.promote())
        await wait_until(lambda: pending(raw), "the promotion was applied")
        await worker.renew()
        await wait_until(lambda: len(worker._delivered) == 3, "what was pending was delivered")
        await worker.write_outcomes()
        may_answer.set()
        assert len((await promoting).claims) == 3
    await stopped(worker)
    assert set(receiver.times_by_key.values()) == {1}
    assert len(receiver.arrivals) == 3


@pytest.mark.parametrize("loss", ["answer", "room"])
async def test_what_no_answer_told_of_is_delivered_long_before_the_next_renewal(
    loss: str, worker: Worker, client: RedisClient, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()
    execute_command: Any = client._redis.execute_command
    losses = 0

    async def lose_one_answer(*arguments: object) -> object:
        nonlocal losses
        answer = await execute_command(*arguments)
        if arguments[1] == store_module.SCRIPTS["promote"].sha and not losses:
            losses += 1
            raise ConnectionResetError
        return answer

    async def claim_nothing(limit: int) -> list[Entry]:
        await stop.wait()
        return []

    monkeypatch.setattr(worker._reader, "claim", claim_nothing)
    if loss == "room":
        monkeypatch.setattr(store_module, "LOAD_BYTES", 1)
    async with asyncio.timeout(4), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run(stop, asyncio.Event(), 10))
        await asyncio.sleep(0.05)
        await overdue(store, receiver.url, 3)
        if loss == "answer":
            monkeypatch.setattr(client._redis, "execute_command", lose_one_answer)
        await worker.promote()
        await wait_until(lambda: len(receiver.arrivals) == 3, "all arrive")
        stop.set()
        await running
    assert set(receiver.times_by_key.values()) == {1}
    assert losses == (loss == "answer")


async def test_a_stop_gives_back_what_a_promotion_under_way_brings(
    worker: Worker, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote, is_asked, may_ask = store.promote, asyncio.Event(), asyncio.Event()

    async def slow_promote(limit: int, claims: int) -> Promotion:
        is_asked.set()
        await may_ask.wait()
        return await promote(limit, claims)

    expected = await overdue(store, receiver.url, 3)
    with patch.object(store, "promote", slow_promote):
        promoting = asyncio.create_task(worker.promote())
        await is_asked.wait()
        stopping = asyncio.create_task(stopped(worker))
        await asyncio.sleep(0.05)
        may_ask.set()
        await asyncio.gather(promoting, stopping)
    rows = await pending(raw)
    assert [(row["consumer"], row["times_delivered"]) for row in rows] == [(b"waiting", 0)] * len(expected)
    assert receiver.arrivals == []
    assert await raw.hlen(keys.ENTRIES) == len(expected)
