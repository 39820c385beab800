"""One engine over two shards: one set of slots for the tasks of both, and each outcome goes to its own shard."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.store.tag import tag_of
from tests.integration.conftest import CONCURRENCY, TIMING, OneShard, schedule
from tests.integration.sides import Side, both_sides, over, sides_of
from tests.support.asked import asked
from tests.support.receiver import Receiver
from tests.support.store import SCRIPTS, Store
from tests.support.waiting import wait_until


@pytest.fixture
async def sides(redis_url: str) -> AsyncIterator[tuple[Side, Side]]:
    async with both_sides(redis_url, redis_url) as made:
        yield made


async def test_the_tasks_of_both_are_delivered_once_within_the_slots_of_one_worker(
    sides: tuple[Side, Side], receiver: Receiver
) -> None:
    receiver.delay_s = 0.02
    expected = [await side.schedule(receiver, 40) for side in sides]
    async with over(sides):
        await wait_until(lambda: len(receiver.arrivals) == 80, "all arrive")
        for side, one in zip(sides, expected, strict=True):

            async def are_settled(side: Side = side, count: int = len(one)) -> bool:
                return (await side.ledger()).counters.get("delivered") == count

            await wait_until(are_settled, "each shard has its own outcomes")
    assert receiver.times_by_key == dict.fromkeys(expected[0] + expected[1], 1)
    assert CONCURRENCY - 1 <= receiver.most_in_flight <= CONCURRENCY


async def test_a_shard_that_comes_is_served_or_has_its_part_of_limits_alone(
    sides: tuple[Side, Side], receiver: Receiver
) -> None:
    """Claims, and what they start, go by the numbers that shards have in all processes."""
    one, other = sides
    async with over([one]) as engine:
        engine.serve(1, None)  # others serve it
        engine.serve(2, ShardAccess.of_client(other.client, other.store.name, TIMING))
        parts = [consumer.limiting for consumer in engine.consumers]
        assert [(limiting.part, limiting.parts) for limiting in parts] == [(0, 3), (2, 3)]
        receiver.may_answer.clear()
        [key] = await other.schedule(receiver)
        await wait_until(lambda: receiver.in_flight, "the third is served")
        [claim] = engine.consumers[1].holdings.claims.values()
        assert (claim.key, claim.shard) == (key, 2)
        receiver.may_answer.set()


async def test_entries_with_one_id_in_two_shards_are_two(
    sides: tuple[Side, Side], raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    one, other = sides
    [other_key] = await other.schedule(receiver)
    [one_key] = await one.schedule(receiver)
    queue: Any = await raw.xrange(one.client.keys.queue)
    other_queue: Any = await raw.xrange(other.client.keys.queue)
    [(entry_id, _)], [(replaced, fields)] = queue, other_queue
    if replaced != entry_id:  # within one ms both have the same
        await raw.xdel(other.client.keys.queue, replaced)
        await raw.xadd(other.client.keys.queue, fields, entry_id)
        await raw.hset(other.client.keys.entries, other_key, entry_id)
    receiver.may_answer.clear()
    async with over(sides) as engine:
        await wait_until(lambda: receiver.in_flight == 2, "both are under way at once")
        assert [list(consumer.holdings.claims) for consumer in engine.consumers] == [[entry_id.decode()]] * 2
        [in_one], [in_other] = [consumer.holdings.claims.values() for consumer in engine.consumers]
        # Leases are renewed in both: what one has lost is still the other's.
        await raw.xclaim(one.client.keys.queue, GROUP, "another", 0, [entry_id], justid=True)
        for consumer in engine.consumers:
            await consumer.intake.renew()
        await raw.xclaim(one.client.keys.queue, GROUP, "worker-a", 0, [entry_id], justid=True)
        assert (in_one.key, in_other.key) == (one_key, other_key)
        receiver.statuses = [503]
        receiver.may_answer.set()

        async def have_ended() -> bool:
            return {*await fates()} == {(1, 0), (0, 1)}

        async def fates() -> list[tuple[int, int]]:
            ledgers = [await side.ledger() for side in sides]
            return [(ledger.counters.get("delivered", 0), ledger.waiting) for ledger in ledgers]

        await wait_until(have_ended, "one is delivered and the other waits, each in its shard")
    assert receiver.times_by_key == {one_key: 1, other_key: 1}


async def test_room_that_the_deliveries_of_one_leave_is_the_others_at_once(
    sides: tuple[Side, Side], raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    one, other = sides
    receiver.may_answer.clear()
    await one.schedule(receiver, 2 * CONCURRENCY)
    timing = replace(TIMING, block_ms=50, recovery_interval_s=600)
    async with over(sides, timing=timing, sweeps=False) as engine:

        async def claim_no_more() -> bool:
            is_blocked = (await raw.info("clients"))["blocked_clients"] > 0
            return engine.slots.in_line > 0 and not is_blocked and not engine.consumers[1].holdings.has_room.is_set()

        await wait_until(claim_no_more, "one has all the slots, and both wait for room")
        [key] = await other.schedule(receiver)
        receiver.may_answer.set()
        await wait_until(lambda: receiver.times_by_key[key], "the other's task is delivered")


@asynccontextmanager
async def eight_sides(redis_url: str) -> AsyncIterator[list[Side]]:
    """Eight shards on one server."""
    async with sides_of(Shard(redis_url, Keys(tag_of("", number), number)) for number in range(8)) as made:
        yield made


@pytest.mark.parametrize("concurrency", [8, 50, 400])
async def test_a_lone_busy_shard_of_many_has_almost_all_slots(
    concurrency: int, redis_url: str, receiver: Receiver
) -> None:
    """But for the ninth that is kept for retries: also where a claim brings fewer than there are slots."""
    count, receiver.delay_s = 4 * concurrency, 0.1
    async with eight_sides(redis_url) as made:
        for _ in range(4):
            await made[3].schedule(receiver, concurrency)
        async with over(made, concurrency, sweeps=False):
            await wait_until(lambda: len(receiver.arrivals) == count, "all arrive", 20)
    assert receiver.most_in_flight >= 0.85 * concurrency


@pytest.mark.one_server("what one server is asked is noted")
async def test_shards_with_a_backlog_claim_in_turn_and_in_large_batches(
    redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    """Together they hold no more than one would: all that the slots have room for, but for what waits in Redis."""
    concurrency, receiver.delay_s = 100, 0.02
    receiver.may_answer.clear()
    async with eight_sides(redis_url) as made:
        for side in made:
            await side.schedule(receiver, 100)
        async with asked(raw) as commands, over(made, concurrency, sweeps=False) as engine:

            def held() -> int:
                return sum(len(consumer.holdings.claims) for consumer in engine.consumers)

            await wait_until(lambda: held() >= 0.85 * concurrency, "it holds as much as it has slots for")
            await wait_until(lambda: not engine.worker.claim_limit, "it claims no more")
            assert held() <= concurrency * 9 / 8
            receiver.may_answer.set()
            await wait_until(lambda: len(receiver.arrivals) == 800, "all arrive", 20)
    # Of each its queue is named first.
    queues = [command[3] for command in commands if command[:2] == ["EVALSHA", SCRIPTS["claim"].sha]]
    assert 800 / len(queues) >= 5, f"{len(queues)} claims"
    turns = Counter(queues[:32])
    assert min(turns[side.client.keys.queue] for side in made) >= 2, turns


async def test_what_is_kept_for_retries_is_for_each_shard_in_turn(redis_url: str, receiver: Receiver) -> None:
    async with eight_sides(redis_url) as made, over(made, 90, sweeps=False) as engine:
        one, other = engine.consumers[:2]
        claims, may_answer, asked_for = made[0].store, asyncio.Event(), []
        assert one.intake.reclaimable == other.intake.reclaimable == 80

        async def stalls(limit: int) -> Sweep:
            asked_for.append(limit)
            await may_answer.wait()
            return await claims.look(0)

        one.intake._claims.look = stalls  # type: ignore[method-assign]
        sweeping = asyncio.create_task(one.intake.sweep())
        await wait_until(lambda: asked_for == [80], "it sweeps")
        assert other.intake.reclaimable == 1
        await wait_until(lambda: other.intake.reclaimable == 80, "one without an answer is waited for no more")
        assert not sweeping.done()
        may_answer.set()
        await sweeping
        assert one.intake.reclaimable == 80


async def test_a_stop_gives_back_what_is_held_of_both(
    sides: tuple[Side, Side], raw: redis.asyncio.Redis, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    for side in sides:
        await side.schedule(receiver, 10)
    async with over(sides, grace_s=0.1) as engine:
        await wait_until(lambda: receiver.in_flight == CONCURRENCY - 1, "it has all slots that a host may have")
        await wait_until(lambda: all(consumer.holdings.claims for consumer in engine.consumers), "of both shards")
    for side in sides:
        rows: Any = await raw.xpending_range(side.client.keys.queue, GROUP, "-", "+", 100)
        assert {(row["consumer"], row["times_delivered"]) for row in rows} == {(b"waiting", 0)}
        consumers: Any = await raw.xinfo_consumers(side.client.keys.queue, GROUP)
        assert [row["name"] for row in consumers] == [b"waiting"]


async def test_a_shard_that_finds_no_room_in_its_turn_does_not_wait_within_it(
    engine: OneShard, store: Store, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    ring = engine.worker.ring
    async with asyncio.TaskGroup() as tasks:
        while engine.intake._slots.claimable(engine.worker.loading):
            await schedule(store, receiver.url)
            await engine.claimer.claim_once()
        ring.busy.add(0)
        claiming = tasks.create_task(engine.claimer.claim_once())
        await asyncio.sleep(0.05)  # in which it has its turn; that it waits shows only with time
        assert not claiming.done()
        assert ring.current is None
        receiver.may_answer.set()
        await claiming
