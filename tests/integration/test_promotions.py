"""Promotions that bring claims: what comes due begins at once, once, and no answer that is lost or late changes
that."""

import asyncio
import time
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store import keys
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.integration.conftest import OneShard, schedule, working
from tests.integration.test_claims import claimed, pending, stopped
from tests.scripts.states import ask
from tests.support.names import KEYS
from tests.support.receiver import Receiver, receiving
from tests.support.store import Store
from tests.support.waiting import wait_until

CONCURRENCY = 100
SHARE = 10
ONE_HOST_MOST = CONCURRENCY - CONCURRENCY // 9
SLOW_ONES = 83


@pytest.fixture
async def engine(client: RedisClient, store: Store, timing: Timing) -> AsyncIterator[OneShard]:
    """An engine that may take ten of its hundred slots with promotions."""
    async with working(client, store, CONCURRENCY, timing) as made:
        yield made


async def overdue(store: Store, webhook: str, count: int) -> list[str]:
    """Schedule tasks, and wait until they are due."""
    found = await schedule(store, webhook, count, ttl_ms=1)
    await asyncio.sleep(0.003)
    return found


async def test_what_comes_due_begins_without_a_claim_of_its_own(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    expected = await overdue(store, receiver.url, 2)
    assert (await engine.intake.promote()).moved == 2
    await wait_until(lambda: len(receiver.arrivals) == 2, "both arrive")
    await stopped(engine)
    assert receiver.times_by_key == dict.fromkeys(expected, 1)
    assert await pending(raw) == []


async def count_claimed(engine: OneShard, store: Store, webhook: str) -> int:
    """Promote a task that is due; return how many were claimed with it."""
    await overdue(store, webhook, 1)
    promotion = await engine.intake.promote()
    assert promotion.moved == 1
    return len(promotion.claims)


async def test_one_that_stops_or_stood_still_claims_nothing(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    engine.holdings.renewed_at -= DEFAULT.lease_ms / 1000
    assert await count_claimed(engine, store, receiver.url) == 0
    await engine.intake.renew()
    assert await count_claimed(engine, store, receiver.url) == 1
    await stopped(engine)
    assert await count_claimed(engine, store, receiver.url) == 0


async def test_on_a_link_that_takes_one_record_at_a_time_they_claim_nothing_until_a_load_has_come_through(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    with patch.object(store, "promote", side_effect=StoreUnavailable):
        for _ in range(4):
            with pytest.raises(StoreUnavailable):
                await engine.intake.promote()
    assert await count_claimed(engine, store, receiver.url) == 0
    await engine.intake.take(await claimed(client, store.name, 1))
    assert await count_claimed(engine, store, receiver.url) == 1
    await stopped(engine)


async def waits(raw: redis.asyncio.Redis) -> bool:
    """Whether a claim waits for work."""
    return bool((await raw.info("clients"))["blocked_clients"])


async def test_promotions_take_a_tenth_beyond_what_the_claim_under_way_may_bring(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await wait_until(lambda: waits(raw), "the claim waits, for all slots")
        for _ in range(3):
            await overdue(store, receiver.url, SHARE - 1)
            # What there is no share for comes to the claim that waits.
            await engine.intake.promote()
        await wait_until(lambda: receiver.in_flight == 3 * (SHARE - 1), "all are under way")
        await overdue(store, receiver.url, 2 * CONCURRENCY)
        await engine.intake.promote()
        await asyncio.sleep(0.1)
        assert len(engine.holdings.claims) <= CONCURRENCY + SHARE
        receiver.may_answer.set()
        stop.set()


async def test_without_a_claim_under_way_they_take_no_more_than_the_free_slots(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    began = 0
    for _ in range(CONCURRENCY // SHARE + 2):
        await overdue(store, receiver.url, SHARE + 1)
        began += len((await engine.intake.promote()).claims)
    # The others are kept for retries.
    assert began == ONE_HOST_MOST
    receiver.may_answer.set()
    await stopped(engine)


async def count_reads(raw: redis.asyncio.Redis) -> int:
    """How often the queue was read, since ever."""
    return int((await raw.info("commandstats"))["cmdstat_xreadgroup"]["calls"])


async def test_while_a_slow_host_crowds_the_slots_others_come_first_and_what_they_leave_is_taken(
    client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    may_answer = asyncio.Semaphore(0)

    async def hang(_: web.Request) -> web.Response:
        await may_answer.acquire()
        return web.Response()

    async def end_one() -> None:
        held = receiver.in_flight
        may_answer.release()
        await wait_until(lambda: receiver.in_flight < held, "one has ended")

    receiver.behaviour = hang
    stop = asyncio.Event()
    read = ("XREADGROUP", "GROUP", keys.GROUP, "worker-b", "COUNT", CONCURRENCY, "BLOCK", 5_000)
    async with (
        working(client, store, CONCURRENCY, timeout_s=60) as engine,
        receiving() as quick,
        asyncio.TaskGroup() as tasks,
    ):
        # Few enough that none of them goes back, and so many that less than a fifth is free when three have ended.
        await schedule(store, receiver.url, SLOW_ONES)
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 0))
        await wait_until(lambda: receiver.in_flight == SLOW_ONES and engine.slots.is_crowded, "it is found to be slow")

        async def waits_no_more() -> bool:
            return not await waits(raw)

        await wait_until(waits_no_more, "what waited in Redis before that has come to its end")
        for _ in range(3):
            # What ends makes room for one, which others may have too.
            await end_one()
            await overdue(store, receiver.url, 1)
            other = tasks.create_task(ask(raw, *read, "STREAMS", KEYS.queue, ">"))
            await wait_until(lambda: waits(raw), "another waits for work")
            promotion = await engine.intake.promote()
            assert (promotion.moved > 0, promotion.claims) == (True, [])
            ((_, entries),) = await other
            assert len(entries) == promotion.moved
        await overdue(store, quick.url, 1)
        await engine.intake.promote()
        await wait_until(lambda: quick.arrivals, "what no other takes arrives")
        looks, started = await count_reads(raw), time.monotonic()
        await asyncio.sleep(0.2)

        async def looks_on() -> bool:
            return await count_reads(raw) > looks

        await wait_until(looks_on, "it looks on")
        assert await count_reads(raw) - looks <= (time.monotonic() - started) / DEFAULT.courtesy_s + 1
        stop.set()


async def test_the_sweep_counts_as_what_may_bring_claims(engine: OneShard, store: Store) -> None:
    look = store.look

    async def watched_look(limit: int) -> Sweep:
        assert not engine.intake.no_claims_coming.is_set()
        return await look(limit)

    with patch.object(store, "look", watched_look):
        await engine.reclaimer.run_once()
    assert engine.intake.no_claims_coming.is_set()


async def test_what_comes_after_the_stop_is_given_back_while_deliveries_are_under_way(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    promote, is_asked, may_answer = store.promote, asyncio.Event(), asyncio.Event()

    async def slow_promote(most_claims: int, in_turn: bool) -> Promotion:
        is_asked.set()
        promotion = await promote(most_claims=most_claims, in_turn=in_turn)
        await may_answer.wait()
        return promotion

    async def are_given_back() -> bool:
        return [row["consumer"] for row in await pending(raw)].count(b"waiting") == 3

    await overdue(store, receiver.url, 1)
    await engine.intake.promote()
    await wait_until(lambda: receiver.in_flight, "one is under way")
    await overdue(store, receiver.url, 3)
    with patch.object(store, "promote", slow_promote):
        promoting = asyncio.create_task(engine.intake.promote())
        await is_asked.wait()
        stopping = asyncio.create_task(stopped(engine))
        await asyncio.sleep(0.05)
        may_answer.set()
        await wait_until(are_given_back, "they are given back")
        assert receiver.in_flight == 1
        receiver.may_answer.set()
        await asyncio.gather(promoting, stopping)
    assert len(receiver.arrivals) == 1


async def test_a_stop_gives_back_what_a_promotion_under_way_brings(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote, is_asked, may_ask = store.promote, asyncio.Event(), asyncio.Event()

    async def slow_promote(most_claims: int, in_turn: bool) -> Promotion:
        is_asked.set()
        await may_ask.wait()
        return await promote(most_claims=most_claims, in_turn=in_turn)

    expected = await overdue(store, receiver.url, 3)
    with patch.object(store, "promote", slow_promote):
        promoting = asyncio.create_task(engine.intake.promote())
        await is_asked.wait()
        stopping = asyncio.create_task(stopped(engine))
        await asyncio.sleep(0.05)
        may_ask.set()
        await asyncio.gather(promoting, stopping)
    rows = await pending(raw)
    assert [(row["consumer"], row["times_delivered"]) for row in rows] == [(b"waiting", 0)] * len(expected)
    assert receiver.arrivals == []
    assert await raw.hlen(KEYS.entries) == len(expected)
