"""One engine over two shards: one set of slots for the tasks of both, and each outcome goes to its own shard."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.engine.engine import Engine
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, Keys, tag_of
from redis_scheduler.store.ledger import Ledger
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.views import Views
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.timing import Timing
from tests.integration.conftest import TIMING, schedule
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.store import Store
from tests.support.waiting import wait_until

CONCURRENCY = 5


@dataclass
class Side:
    """A shard, with what tests ask of it."""

    client: RedisClient
    store: Store

    async def schedule(self, receiver: Receiver, count: int = 1) -> list[str]:
        return await schedule(self.store, receiver.url, count)

    async def ledger(self) -> Ledger:
        return await Views(self.client).ledger()

    async def assert_is_sound(self) -> None:
        assert [finding.text async for finding in audit(self.client)] == []
        assert (await self.ledger()).is_balanced


@asynccontextmanager
async def both_sides(one_url: str, other_url: str) -> AsyncIterator[tuple[Side, Side]]:
    """Two shards under two tags, on one server or on two. Afterwards no task of either is lost or stands twice."""
    async with AsyncExitStack() as stack:
        sides = []
        for url, namespace in ((one_url, "one"), (other_url, "other")):
            client = await stack.enter_async_context(Shard(url, Keys(tag_of(namespace))).connected(1))
            await client.create_group()
            sides.append(Side(client, Store(client, "worker-a")))
        yield sides[0], sides[1]
        for side in sides:
            await side.assert_is_sound()


@pytest.fixture
async def sides(redis_url: str) -> AsyncIterator[tuple[Side, Side]]:
    async with both_sides(redis_url, redis_url) as made:
        yield made


@asynccontextmanager
async def over(
    sides: tuple[Side, Side],
    concurrency: int = CONCURRENCY,
    timing: Timing = TIMING,
    grace_s: float = 10,
    sweeps: bool = True,
) -> AsyncIterator[Engine]:
    """An engine that works over both shards within the block; if it `sweeps` not, only its claims bring anything."""
    stop = asyncio.Event()
    async with Deliverer("test-token", 5) as deliverer:
        shards = [ShardAccess.of_client(side.client, side.store.name, timing) for side in sides]
        engine = Engine(shards, deliverer, Policy(2, 60_000), concurrency, timing)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task((engine.run if sweeps else engine.deliver)(stop, asyncio.Event(), grace_s))
            try:
                yield engine
            finally:
                stop.set()


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
        await wait_until(lambda: receiver.times_by_key[key], "the other's task is delivered", 3)


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


@pytest.fixture
async def stalling(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    async with redis_process(tmp_path) as process:
        yield process


async def test_a_shard_that_answers_nothing_holds_up_no_other(
    redis_url: str, stalling: RedisProcess, receiver: Receiver
) -> None:
    """Of its claims none begins once their leases may have run out; those of the other shard go past them."""
    timing = replace(TIMING, lease_ms=1_500, renew_interval_s=0.3)
    async with both_sides(redis_url, stalling.url) as sides:
        well, stalled = sides
        receiver.may_answer.clear()
        of_stalled = await stalled.schedule(receiver, 40)
        async with over(sides, 20, timing) as engine:
            holdings = engine.consumers[1].holdings
            await wait_until(lambda: engine.slots.in_line, "some of its claims stand in line")
            os.kill(stalling.pid, signal.SIGSTOP)
            await wait_until(lambda: not holdings.is_leased, "its leases may have run out")
            begun = list(receiver.times_by_key)
            of_well = await well.schedule(receiver, 60)
            receiver.may_answer.set()
            await wait_until(lambda: set(of_well) <= set(receiver.times_by_key), "all of the other arrive", 5)
            assert engine.consumers[0].holdings.is_leased
            assert {*receiver.times_by_key} == {*begun, *of_well}
            assert engine.slots.in_line, "what is held of the one that is stalled"
            os.kill(stalling.pid, signal.SIGCONT)
            await wait_until(lambda: set(of_stalled) <= set(receiver.times_by_key), "it goes on where it was", 30)
    assert receiver.times_by_key == dict.fromkeys(of_well + of_stalled, 1)
