"""One engine over two shards, of which one stalls or is away: it holds up nothing of the other."""

import asyncio
import contextlib
import os
import signal
import statistics
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.claiming import Claimed
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.integration.conftest import TIMING
from tests.integration.sides import both_sides, over
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.standing_still import standing_still
from tests.support.store import Store
from tests.support.waiting import wait_until


@pytest.fixture
async def stalling(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    async with redis_process(tmp_path) as process:
        yield process


async def test_a_claim_that_does_not_wait_ends_soon_while_redis_stalls(stalling: RedisProcess) -> None:
    async with Shard(stalling.url, Keys(tag_of())).connected(0.3) as client:
        await client.create_group()
        store = Store(client, "worker-a")
        assert await store.claim(1) == Claimed()
        async with standing_still(stalling.pid):
            async with asyncio.timeout(20):
                with pytest.raises(StoreUnavailable):
                    await store.claim(1)
        assert await store.claim(1) == Claimed()


async def test_a_lone_busy_shard_that_stalls_holds_no_slots_that_another_could_have(
    redis_url: str, stalling: RedisProcess, receiver: Receiver
) -> None:
    """Its claim under way asked for all of them, and has no answer for long."""
    concurrency, receiver.delay_s = 40, 0.02
    async with both_sides(redis_url, stalling.url, timeout_s=20) as sides:
        well, stalled = sides
        of_stalled = [*await stalled.schedule(receiver, 400), *await stalled.schedule(receiver, 400)]
        timing = replace(TIMING, block_ms=300, block_longest_ms=300)
        async with over(sides, concurrency, timing, sweeps=False) as engine:
            ring, holdings = engine.worker.ring, engine.consumers[1].holdings
            await wait_until(lambda: len(receiver.arrivals) > 100 and 1 in ring.busy, "it has a backlog")
            async with standing_still(stalling.pid):
                await wait_until(lambda: not receiver.in_flight, "what it had been given is delivered")
                await wait_until(lambda: not holdings.claim_limit, "nothing is expected of its claim any more")
                assert 1 in ring.busy, "it has had no answer yet"
                receiver.may_answer.clear()
                await well.schedule(receiver, 100)
                await wait_until(lambda: receiver.in_flight >= 0.85 * concurrency, "the other has almost all slots")
            receiver.may_answer.set()
            await wait_until(lambda: len(receiver.arrivals) >= 900, "all arrive", 30)
    assert set(of_stalled) <= set(receiver.times_by_key)


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
async def test_while_a_shard_is_away_or_stalls_the_tasks_of_others_are_as_punctual_as_before(
    fault: signal.Signals, redis_url: str, stalling: RedisProcess, receiver: Receiver
) -> None:
    """Both have a steady flow, and before the fault the one that fails a backlog."""
    async with both_sides(redis_url, stalling.url) as sides, over(sides, 50) as engine:
        well, failing = sides

        async def lateness(count: int = 60) -> float:
            """The median of so many tasks of the shard that is well."""
            due_ms = {}
            for number in range(count):
                new = NewTask(new_task_key(), 50, record_tail(receiver.url, 0.05, None, b"1"), None)
                [due_ms[new.key]] = await well.store.schedule([new])
                if number % 10 == 0 and not engine.consumers[1].intake._claims.client.outage.is_away:
                    with contextlib.suppress(StoreUnavailable, TimeoutError):
                        async with asyncio.timeout(0.1):
                            await failing.schedule(receiver)
                await asyncio.sleep(0.01)
            await wait_until(lambda: due_ms.keys() <= receiver.times_by_key.keys(), "all of it arrive", 10)
            arrived = {arrival.key: arrival.at * 1000 for arrival in receiver.arrivals}
            return statistics.median(arrived[key] - at_ms for key, at_ms in due_ms.items())

        before = await lateness()
        receiver.may_answer.clear()
        await failing.schedule(receiver, 200)
        await wait_until(lambda: receiver.in_flight >= 40, "it has a backlog")
        os.kill(stalling.pid, fault)
        receiver.may_answer.set()
        meanwhile = await lateness(120)
        assert engine.consumers[1].intake._claims.client.outage.is_away
        if fault == signal.SIGSTOP:
            os.kill(stalling.pid, signal.SIGCONT)
        else:
            await stalling.kill()  # it is dead; now it is waited for
            await stalling.start()
        assert meanwhile < before + 50, (before, meanwhile)


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
            async with standing_still(stalling.pid):
                await wait_until(lambda: not holdings.is_leased, "its leases may have run out")
                begun = list(receiver.times_by_key)
                of_well = await well.schedule(receiver, 60)
                receiver.may_answer.set()
                await wait_until(lambda: set(of_well) <= set(receiver.times_by_key), "all of the other arrive", 5)
                assert engine.consumers[0].holdings.is_leased
                assert {*receiver.times_by_key} == {*begun, *of_well}
                assert engine.slots.in_line, "what is held of the one that is stalled"
            await wait_until(lambda: set(of_stalled) <= set(receiver.times_by_key), "it goes on where it was", 30)
    assert receiver.times_by_key == dict.fromkeys(of_well + of_stalled, 1)
