"""The bell: rung for a new head of DUE, and where a shard of many must be looked at sooner; at no other time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.blocking import LOOK
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.written import OnceTask
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.scripts.states import (
    Task,
    ask,
    awaiting,
    change,
    dead,
    failed,
    in_delivery,
    in_due,
    kept,
    missing,
    new_task,
    overdue,
    plan_sweep,
    taken_on,
    waiting,
)
from tests.support.names import KEYS
from tests.support.routed import Routed
from tests.support.store import Store, letters

BETTER_MS, WORSE_MS = 1_000, 900_000


@asynccontextmanager
async def heard(raw: redis.asyncio.Redis) -> AsyncIterator[list[bytes]]:
    """The rings within the block; known when it has ended."""
    rings: list[bytes] = []
    of_shard = "S" if isinstance(raw, Routed) else ""  # in a cluster it is heard, and rung, in its slot alone
    async with raw.pubsub() as subscription:
        await subscription.execute_command(f"{of_shard}SUBSCRIBE", KEYS.bell)
        await subscription.parse_response()
        yield rings
        await ask(raw, f"{of_shard}PUBLISH", KEYS.bell, "end of the test")
        async with asyncio.timeout(5):
            while (message := (await subscription.parse_response())[2]) != b"end of the test":
                rings.append(message)


async def _schedule(store: Store, task: Task, delay_ms: int) -> None:
    await store.schedule([new_task(delay_ms)])


async def _schedule_once(store: Store, task: Task, delay_ms: int) -> None:
    await store.schedule_once([OnceTask("id", "mac", new_task(delay_ms))], 60_000, 10)


async def _update(store: Store, task: Task, delay_ms: int) -> None:
    assert letters((await store.update([await change(store, task, delay_ms)]))[1]) in "UD"


async def _replay(store: Store, task: Task, delay_ms: int) -> None:
    assert letters((await store.replay([await change(store, task, delay_ms)]))[1]) == "U"


async def _defer(store: Store, task: Task, delay_ms: int) -> None:
    assert await store.defer(failed(task, delay_ms=delay_ms)) == [1]


async def _resume(store: Store, task: Task, delay_ms: int) -> None:
    """A task of that delay comes back."""
    new = new_task(delay_ms)
    await store.schedule([new])
    await store.pause([new.key])
    assert letters(await store.resume([new.key])) == "P"


async def _restore(store: Store, task: Task, delay_ms: int) -> None:
    assert letters(await store.restore([kept(task, in_ms=delay_ms)])) == "U"


Ringer = Callable[[Store, Task, int], Awaitable[None]]

RINGERS: dict[str, tuple[Callable[[Store], Awaitable[Task]], Ringer]] = {
    "schedule": (in_due, _schedule),
    "schedule once": (in_due, _schedule_once),
    "update of a task in due": (in_due, _update),
    "update of a task in delivery": (in_delivery, _update),
    "update of a waiting task": (waiting, _update),
    "replay": (dead, _replay),
    "defer": (in_delivery, _defer),
    "restore": (missing, _restore),
}


@pytest.mark.parametrize("name", RINGERS)
async def test_a_new_head_rings_once(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, ring = RINGERS[name]
    task = await make(store)
    await in_due(store)
    async with heard(raw) as rings:
        await ring(store, task, BETTER_MS)
    assert rings == [b""]


MANY = DEFAULT.over(SHARDS_MOST)


async def _retry(store: Store, task: Task, delay_ms: int) -> None:
    assert await store.retry(failed(task, delay_ms=delay_ms)) == [1]


async def _release(store: Store, task: Task, delay_ms: int) -> None:
    assert await store.release([task.claim]) == [1]


async def _expect(store: Store, task: Task, delay_ms: int) -> None:
    assert await store.expect([taken_on(task, delay_ms)]) == [1]


@pytest.mark.parametrize(
    ("comes_again", "timing", "delay_ms", "next_in_ms", "rung"),
    [
        (_retry, MANY, 1_000, 60_000, True),
        (_release, MANY, 0, 60_000, True),
        (_expect, MANY, 1_000, 60_000, True),
        (_retry, MANY, 1_000, -60_000, True),  # nobody has room for a step
        (_release, MANY, 0, -60_000, True),
        (_retry, MANY, MANY.look_interval_ms, 60_000, False),
        (_expect, MANY, MANY.look_interval_ms, 60_000, False),
        (_retry, MANY, 1_000, 50, False),  # somebody makes steps all the time
        (_retry, DEFAULT.over(2), 1, 60_000, False),
        (_release, DEFAULT.over(2), 0, 60_000, False),
        (_expect, DEFAULT.over(2), 1, 60_000, False),
    ],
)
async def test_what_comes_before_the_next_look_at_one_shard_of_many_rings_for_a_look(
    comes_again: Ringer,
    timing: Timing,
    delay_ms: int,
    next_in_ms: int,
    rung: bool,
    client: RedisClient,
    raw: redis.asyncio.Redis,
) -> None:
    store = Store(client, "worker-a", timing)
    task = await in_delivery(store)
    await plan_sweep(store, next_in_ms)
    async with heard(raw) as rings:
        await comes_again(store, task, delay_ms)
    assert rings == [LOOK] * rung


@pytest.mark.parametrize("name", RINGERS)
async def test_what_is_due_behind_the_head_does_not_ring(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, ring = RINGERS[name]
    await in_due(store)
    task = await make(store)
    async with heard(raw) as rings:
        await ring(store, task, WORSE_MS)
    assert rings == []


@pytest.mark.parametrize("name", ["schedule", "update of a waiting task", "replay", "defer", "restore"])
async def test_the_first_task_of_an_empty_due_rings(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, ring = RINGERS[name]
    task = await make(store)
    await store.cancel([(key.decode(), None) for key in await ask(raw, "ZRANGE", KEYS.due, 0, -1)])
    async with heard(raw) as rings:
        await ring(store, task, WORSE_MS)
    assert rings == [b""]


async def test_a_batch_rings_once_for_all_its_tasks(store: Store, raw: redis.asyncio.Redis) -> None:
    async with heard(raw) as rings:
        await store.schedule([new_task(delay_ms) for delay_ms in (3_000, 1_000, 0, 2_000)])
    assert rings == [b""]


async def test_what_goes_straight_to_the_queue_or_keeps_its_time_does_not_ring(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_due(store)
    async with heard(raw) as rings:
        await store.schedule([new_task(0)])
        await store.update([await change(store, task)])
    assert rings == []


@pytest.mark.parametrize("later", [waiting, awaiting])
async def test_who_made_the_steps_and_is_full_rings_once_for_others(
    later: Callable[[Store], Awaitable[Task]], client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """What came while it made them has rung for nobody, and others over eight shards look after four seconds."""
    timing = replace(DEFAULT.over(8), sweep_waiting_interval_ms=500)  # on a slow machine, too, it comes within that
    stepping, asleep = (Store(client, name, timing) for name in ("worker-a", "worker-b"))
    assert (await asleep.look(10)).wait_s == 4
    await plan_sweep(stepping)
    await waiting(stepping)
    async with heard(raw) as rings:
        await stepping.look(10)
        await later(stepping)
    assert rings == [], "steps are made"
    async with heard(raw) as rings:
        for _ in range(5):
            await asyncio.sleep((await stepping.look(0)).wait_s)
    assert rings == [LOOK]
    assert (await asleep.look(10)).wait_s == 0.5, "it makes the steps now"


async def test_promote_and_cancel_do_not_ring(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_due(store)
    await overdue(store)
    async with heard(raw) as rings:
        assert (await store.promote()).moved == 1
        await store.cancel([(task.key, None)])
    assert rings == []


async def test_a_resend_does_not_ring_again(store: Store, raw: redis.asyncio.Redis) -> None:
    new = new_task(1_000)
    async with heard(raw) as rings:
        await store.schedule([new])
        store._batch_numbers["schedule"] -= 1
        await store.schedule([new])
    assert rings == [b""]
