"""Answers of Redis that are lost or late: what they brought is delivered soon, and once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.claiming import Claimed, Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.script import Argument
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.integration.conftest import TIMING, OneShard, schedule, working
from tests.integration.test_claims import claimed, pending, stopped
from tests.integration.test_promotions import CONCURRENCY, ONE_HOST_MOST, overdue
from tests.support.receiver import Receiver
from tests.support.store import SCRIPTS, Store
from tests.support.waiting import wait_until


@pytest.fixture
async def engine(client: RedisClient, store: Store, timing: Timing) -> AsyncIterator[OneShard]:
    """An engine of a hundred slots."""
    async with working(client, store, CONCURRENCY, timing) as made:
        yield made


async def test_what_a_recovery_has_begun_is_not_begun_by_a_late_answer(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote, may_answer = store.promote, asyncio.Event()

    async def slow_promote(most_claims: int, in_turn: bool) -> Promotion:
        promotion = await promote(most_claims=most_claims, in_turn=in_turn)
        await may_answer.wait()
        return promotion

    await overdue(store, receiver.url, 3)
    with patch.object(store, "promote", slow_promote):
        promoting = asyncio.create_task(engine.intake.promote())
        await wait_until(lambda: pending(raw), "the promotion was applied")
        await engine.intake.recover()
        await wait_until(lambda: len(engine.outcomes.to_settle) == 3, "what was pending was delivered")
        await engine.outcomes.write()
        await engine.intake.take_early()
        may_answer.set()
        assert len((await promoting).claims) == 3
    await stopped(engine)
    assert set(receiver.times_by_key.values()) == {1}
    assert len(receiver.arrivals) == 3


NO_INTERVAL = replace(TIMING, renew_interval_s=600, recovery_interval_s=600, lease_ms=3_600_000, window_ms=7_200_000)
"""The test is over before anything comes by a renewal, or by a recovery that nothing asked for."""


@pytest.mark.parametrize("timing", [NO_INTERVAL])
async def test_what_a_lost_answer_brought_is_delivered_long_before_the_next_renewal(
    engine: OneShard, client: RedisClient, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()
    execute = client._execute
    losses = 0

    async def lose_one_answer(*arguments: Argument) -> Any:
        nonlocal losses
        answer = await execute(*arguments)
        if arguments[1] == SCRIPTS["promote"].sha and not losses:
            losses += 1
            raise ConnectionResetError
        return answer

    async def claim_nothing(limit: int) -> list[Entry]:
        await stop.wait()
        return []

    monkeypatch.setattr(engine.claimer._reader, "claim", claim_nothing)
    await store.promote()  # the server knows the script from here on, whichever test it had first
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        await asyncio.sleep(0.05)
        await overdue(store, receiver.url, 3)
        monkeypatch.setattr(client, "_execute", lose_one_answer)
        await engine.intake.promote()
        await wait_until(lambda: len(receiver.arrivals) == 3, "all arrive")
        stop.set()
        await running
    assert set(receiver.times_by_key.values()) == {1}
    assert losses == 1


@pytest.mark.parametrize("timing", [NO_INTERVAL])
async def test_what_a_late_answer_told_of_while_a_recovery_found_something_is_recovered(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote = store.promote

    async def overtaken_promote(most_claims: int, in_turn: bool) -> Promotion:
        promotion = await promote(most_claims=most_claims, in_turn=in_turn)
        engine.intake.recoveries += 1
        return promotion

    stop = asyncio.Event()
    await overdue(store, receiver.url, 3)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        with patch.object(store, "promote", overtaken_promote):
            await engine.intake.promote()
        await wait_until(lambda: len(receiver.arrivals) == 3, "all arrive")
        stop.set()
    assert set(receiver.times_by_key.values()) == {1}


@pytest.mark.parametrize("timing", [replace(TIMING, lease_ms=90, renew_interval_s=0.03)])
async def test_an_answer_that_is_older_than_a_lease_begins_nothing(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    promote = store.promote

    async def late_promote(most_claims: int, in_turn: bool) -> Promotion:
        promotion = await promote(most_claims=most_claims, in_turn=in_turn)
        await asyncio.sleep(0.1)
        engine.holdings.renewed_at = asyncio.get_running_loop().time()
        return promotion

    await overdue(store, receiver.url, 3)
    # It is to ask for claims, however long that takes.
    engine.holdings.renewed_at = asyncio.get_running_loop().time() + 60
    with patch.object(store, "promote", late_promote):
        assert len((await engine.intake.promote()).claims) == 3
    assert engine.holdings.claims == {}
    assert engine.intake.must_recover.is_set()


async def test_after_a_claim_that_failed_no_more_is_claimed_until_a_recovery_has_seen_what_it_left(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """Nor does what the recovery then loads, for however long, leave room for more than there are slots."""
    load, pending_of, may_list, may_load = store.load, store.pending, asyncio.Event(), asyncio.Event()
    claim, is_broken = store.claim, True

    async def lost_claim(limit: int, waited: Entry | None) -> Claimed:
        found = await claim(limit, waited)
        if is_broken:
            raise StoreUnavailable
        return found

    async def slow_load(entries: list[Entry]) -> tuple[list[Claim], int]:
        await may_load.wait()
        return await load(entries)

    async def slow_pending(limit: int, known: Collection[str] = ()) -> list[Entry]:
        await may_list.wait()
        return await pending_of(limit, known)

    stop = asyncio.Event()
    await schedule(store, receiver.url, 3 * CONCURRENCY)
    with (
        patch.object(store, "claim", lost_claim),
        patch.object(store, "load", slow_load),
        patch.object(store, "pending", slow_pending),
    ):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
            await wait_until(lambda: not engine.intake.may_claim.is_set(), "a claim has failed")
            is_broken = False
            for may_go_on in (may_list, may_load):
                await asyncio.sleep(0.3)
                assert len(await pending(raw)) == ONE_HOST_MOST
                may_go_on.set()
            await wait_until(lambda: len(receiver.arrivals) == 3 * CONCURRENCY, "all arrive")
            stop.set()
    assert set(receiver.times_by_key.values()) == {1}


@pytest.mark.parametrize("timing", [replace(TIMING, renew_interval_s=0.05)])
async def test_leases_are_renewed_while_a_recovery_loads_for_long_those_of_what_it_loads_too(
    engine: OneShard, client: RedisClient, store: Store, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    load, renew, loading, renewals = store.load, store.renew, set[str](), 0

    async def slow_load(entries: list[Entry]) -> tuple[list[Claim], int]:
        loading.update(entry.id for entry in entries)
        await stop.wait()
        return await load(entries)

    async def counted_renew(ids: list[str]) -> set[str]:
        nonlocal renewals
        renewals += loading != set() and len(ids) == 2 and loading < set(ids)
        return await renew(ids)

    stop = asyncio.Event()
    await overdue(store, receiver.url, 1)
    await engine.intake.promote()
    await schedule(store, receiver.url, 1)
    await claimed(client, store.name, 1)
    engine.intake.must_recover.set()
    with patch.object(store, "load", slow_load), patch.object(store, "renew", counted_renew):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
            await wait_until(lambda: renewals > 3, "leases are renewed")
            receiver.may_answer.set()
            stop.set()


@pytest.mark.parametrize("timing", [NO_INTERVAL])
@pytest.mark.parametrize("every", [2, 7])
async def test_lost_answers_without_end_make_no_renewals_and_few_recoveries(
    every: int, engine: OneShard, client: RedisClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = client._execute
    calls = renewals = recoveries = promotions = 0
    recover, renew = engine.intake.recover, engine.intake.renew

    async def lose_some(*arguments: Argument) -> Any:
        nonlocal calls
        calls += 1
        answer = await execute(*arguments)
        if not calls % every:
            raise ConnectionResetError
        return answer

    async def counted_renew() -> None:
        nonlocal renewals
        renewals += 1
        await renew()

    async def counted_recover() -> None:
        nonlocal recoveries
        recoveries += 1
        await recover()

    monkeypatch.setattr(client, "_execute", lose_some)
    monkeypatch.setattr(engine.intake, "renew", counted_renew)
    monkeypatch.setattr(engine.intake, "recover", counted_recover)
    stop, started = asyncio.Event(), time.monotonic()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
        while promotions < 50 or recoveries < 3:
            promotions += 1
            with contextlib.suppress(StoreUnavailable):
                await engine.intake.promote()
            await asyncio.sleep(0.02)
        stop.set()
    assert renewals == 1
    assert recoveries <= (time.monotonic() - started) / DEFAULT.recovery_pause_s + 2


async def test_a_claim_that_cannot_be_unblocked_ends_before_its_connection_is_closed(
    engine: OneShard, client: RedisClient
) -> None:
    """As where Redis goes while a worker stops: a connection that is taken from under a claim raises a KeyError
    there."""
    stop, is_blocked = asyncio.Event(), asyncio.Event()
    check = client.ensure_checked

    async def tell() -> None:
        await check()
        asyncio.get_running_loop().call_later(0.2, is_blocked.set)

    async def lose_answer(*_: Argument) -> Any:
        raise StoreUnavailable

    with patch.object(client, "ensure_checked", tell), patch.object(client, "optional", lose_answer):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.deliver(stop, asyncio.Event(), 10))
            await is_blocked.wait()
            stop.set()


@pytest.mark.parametrize("timing", [replace(TIMING, recovery_interval_s=0)])
async def test_a_look_has_a_recovery_made_where_anything_is_pending_for_the_worker_and_only_there(
    engine: OneShard, client: RedisClient, store: Store, receiver: Receiver
) -> None:
    await engine.reclaimer.run_once()
    assert not engine.intake.must_recover.is_set()
    await schedule(store, receiver.url, 1)
    await claimed(client, store.name, 1)
    await engine.reclaimer.run_once()
    assert engine.intake.must_recover.is_set()
