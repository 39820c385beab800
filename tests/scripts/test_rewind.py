"""The rewind after Redis' clock was set back: which deferred tasks are moved, each once, and the timer is told."""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.written import Standing
from redis_scheduler.task.claim import Unsettled
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.clock_steps import RETRY_DELAY_MS, SET_BACK_MS, as_due, at_ms, rewound, set_back
from tests.scripts.states import (
    Task,
    ask,
    claimed,
    deferred,
    due_ms,
    failed,
    in_delivery,
    in_due,
    waiting,
)
from tests.scripts.test_bell import heard
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until


async def test_what_was_deferred_comes_by_the_step_earlier_and_what_was_scheduled_does_not(
    store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    retried = await deferred(store)
    surplus = await in_delivery(store)
    await store.defer([Unsettled(surplus.claim, b"", 40_000, counts=False)])
    expected = await in_delivery(store)
    await store.expect([Unsettled(expected.claim, b"", 300_000, counts=False)])
    before_its_time = await deferred(store)
    await ask(raw, "ZADD", KEYS.due, await at_ms(raw, 3_600_000), before_its_time.key)
    await as_due(raw, before_its_time)
    assert await store.run([before_its_time.key]) == [Standing.DEFERRED]

    async def is_promoted() -> bool:
        return (await store.promote()).moved == 1

    await wait_until(is_promoted, "what is run is due")
    [claim] = await claimed(store, 1)
    await store.defer(failed(Task(claim.key, claim), delay_ms=RETRY_DELAY_MS))
    scheduled = await in_due(store)
    await ask(raw, "ZADD", KEYS.due, await at_ms(raw, 45_000), scheduled.key)
    await as_due(raw, scheduled)
    tasks = (retried, surplus, before_its_time, scheduled)
    before = [*[await due_ms(raw, task.key) for task in tasks], await awaited_ms(raw, expected)]
    await set_back(store)
    await other.look(10)
    set_back_ms, moved = await rewound(other)
    assert set_back_ms == pytest.approx(SET_BACK_MS, abs=1_000)
    assert moved == 4
    after = [*[await due_ms(raw, task.key) for task in tasks], await awaited_ms(raw, expected)]
    moves = [was - now for was, now in zip(before, after, strict=True) if was and now]
    # Up to 2 ms later: these tell what was deferred since from what was before.
    assert [(set_back_ms - move) in range(3) for move in moves] == [True, True, True, False, True]
    assert moves[3] == 0


async def test_what_was_deferred_since_the_step_is_left(store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    """Also before a sweep has noticed the step, and though its delay is longer than any before."""
    before_step = await deferred(store)
    since, noticed, resumed, taken_on = [await in_delivery(store) for _ in range(4)]
    await store.defer(failed(resumed, delay_ms=RETRY_DELAY_MS))
    assert await store.pause([resumed.key]) == [Standing.DEFERRED]
    await set_back(store)
    await store.defer(failed(since, delay_ms=300_000))
    await store.expect([Unsettled(taken_on.claim, b"", 300_000, counts=False)])
    assert await store.resume([resumed.key]) == [Standing.PAUSED]
    await other.look(10)
    await store.defer(failed(noticed, delay_ms=3_600_000))
    tasks = (since, noticed, resumed)
    before = [*[await due_ms(raw, task.key) for task in tasks], await awaited_ms(raw, taken_on)]
    assert (await rewound(other))[1] == 1
    assert [*[await due_ms(raw, task.key) for task in tasks], await awaited_ms(raw, taken_on)] == before
    assert await ask(raw, "ZSCORE", KEYS.due, before_step.key) is not None


async def test_what_is_moved_is_moved_again_when_the_clock_is_set_back_again(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await deferred(store)
    before_ms = await due_ms(raw, task.key)
    moves = []
    for _ in range(3):
        await set_back(store, 5_000)
        await store.look(10)
        set_back_ms, moved = await rewound(store)
        assert moved == 1
        moves.append(set_back_ms)
    after_ms = await due_ms(raw, task.key)
    assert before_ms is not None
    assert after_ms is not None
    assert 0 <= after_ms - (before_ms - sum(moves)) <= 6


@pytest.mark.parametrize("calls", range(6))
async def test_what_was_deferred_comes_by_both_steps_though_the_rewind_between_them_did_not_end(
    calls: int, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """Whether the second comes before the rewind, or when that has moved some tasks."""
    store = Store(client, "worker-a", replace(DEFAULT, batch_limit=1))
    expected_ms: dict[str, float] = {}

    async def stands_ms(key: str) -> float:
        in_due, in_awaiting = [await ask(raw, "ZSCORE", place, key) for place in (KEYS.due, KEYS.awaiting)]
        return float(in_due or in_awaiting)

    for _ in range(2):
        awaited = await in_delivery(store)
        await store.expect([Unsettled(awaited.claim, b"", 40_000, counts=False)])
        for task in (await deferred(store), awaited, await deferred(store)):
            expected_ms[task.key] = await stands_ms(task.key)
        await set_back(store, 4_000)
        before_ms = int(await ask(raw, "HGET", KEYS.sweep, "clock_ms"))
        assert (await store.look(0)).must_rewind
        step_ms = before_ms - int(await ask(raw, "HGET", KEYS.sweep, "clock_ms"))
        expected_ms = {key: at_ms - step_ms for key, at_ms in expected_ms.items()}
        made = [await store.rewind() for _ in range(calls)]
        assert [by_ms for by_ms, _ in made] == [step_ms, 0, 0, 0, 0, 0][:calls]
    if not calls:
        assert await store.rewind() == (step_ms, 0)
    while await ask(raw, "HEXISTS", KEYS.sweep, "step_ms"):
        await store.rewind()
    late_ms = [await stands_ms(key) - at_ms for key, at_ms in expected_ms.items()]
    assert min(late_ms) >= 0
    assert max(late_ms) <= 2 * 2, "2 ms for each step"


async def test_what_was_deferred_before_three_steps_within_one_rewind_is_late_by_all_of_them(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    """The limit: its time says the same as one of what was deferred since. Nothing else is late, and nothing early."""
    expected_ms: dict[str, float] = {}
    oldest, steps_ms = "", 0
    for _ in range(3):
        task = await deferred(store)
        expected_ms[task.key] = float(await due_ms(raw, task.key) or 0)
        oldest = oldest or task.key
        await set_back(store, 4_000)
        before_ms = int(await ask(raw, "HGET", KEYS.sweep, "clock_ms"))
        assert (await store.look(0)).must_rewind
        step_ms = before_ms - int(await ask(raw, "HGET", KEYS.sweep, "clock_ms"))
        expected_ms = {key: at_ms - step_ms for key, at_ms in expected_ms.items()}
        steps_ms += step_ms
    since = await deferred(store)
    expected_ms[since.key] = float(await due_ms(raw, since.key) or 0)
    await rewound(store)
    late_ms = {key: float(await due_ms(raw, key) or 0) - at_ms for key, at_ms in expected_ms.items()}
    assert late_ms.pop(oldest) == steps_ms
    assert min(late_ms.values()) >= 0
    assert max(late_ms.values()) <= 2 * 2, "2 ms for each step"


async def test_a_step_too_small_to_be_noticed_moves_nothing_that_was_deferred_since(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    """Neither by it nor by the step before, while the rewind of that goes on."""
    await deferred(store)
    await set_back(store)
    await store.look(0)
    await ask(raw, "HINCRBY", KEYS.sweep, "clock_ms", DEFAULT.clock_set_least_ms - 20)
    task = await deferred(store)
    before_ms = await due_ms(raw, task.key)
    assert (await rewound(store))[1] == 1
    assert await due_ms(raw, task.key) == before_ms


@pytest.mark.parametrize("counts", [False, True])
async def test_what_was_paused_while_the_clock_was_set_back_is_moved_the_next_time(
    counts: bool, store: Store, raw: redis.asyncio.Redis
) -> None:
    """Also where no attempt had failed: it keeps the rest of its delay, not a time of the old clock."""
    task = await in_delivery(store)
    await store.defer([Unsettled(task.claim, b"", 40_000, counts)])
    before_ms = await due_ms(raw, task.key) or 0
    await store.pause([task.key])
    moves = []
    for is_paused in (True, False):
        await set_back(store)
        await store.look(10)
        by_ms, moved = await rewound(store)
        assert moved == (not is_paused)
        moves.append(by_ms)
        await store.resume([task.key])
    # Paused for a moment, it waited that much longer; the first step left what is left of a delay.
    assert 0 <= (await due_ms(raw, task.key) or 0) - (before_ms - moves[1]) < 5_000


async def test_the_longest_delays_are_kept_and_shorter_ones_write_nothing(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    for delay_ms, kept_ms in ((70_000, 70_000), (90_000, 90_000), (80_000, 90_000)):
        await store.defer(failed(await in_delivery(store), delay_ms=delay_ms))
        assert abs(int(await ask(raw, "HGET", KEYS.sweep, "deferred_ms")) - kept_ms) <= 1
    for delay_ms, kept_ms in ((3_000, 3_000), (40_000, 40_000), (2_000, 40_000)):
        await waiting(store, delay_ms=delay_ms)
        assert int(await ask(raw, "HGET", KEYS.sweep, "parked_ms")) == kept_ms


async def test_what_is_due_later_than_anything_is_deferred_for_is_not_looked_at(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    store = Store(client, "worker-a", replace(DEFAULT, batch_limit=2))
    await deferred(store)
    for _ in range(6):
        await in_due(store)
    for key in await scheduled(raw):
        await ask(raw, "ZADD", KEYS.due, await at_ms(raw, 3_600_000), key)
    await set_back(store)
    await store.look(10)
    calls = 0
    while await ask(raw, "HEXISTS", KEYS.sweep, "step_ms"):
        await store.rewind()
        calls += 1
    # The leases, `due`, and what is awaited.
    assert calls == 3


async def awaited_ms(raw: redis.asyncio.Redis, task: Task) -> int | None:
    score = await ask(raw, "ZSCORE", KEYS.awaiting, task.key)
    return None if score is None else int(float(score))


async def scheduled(raw: redis.asyncio.Redis) -> list[bytes]:
    """The keys of tasks that never failed."""
    failed_keys = await ask(raw, "HKEYS", KEYS.failures)
    return [key for key in await ask(raw, "HKEYS", KEYS.tasks) if key not in failed_keys]


@pytest.mark.parametrize("set_back_ms", [8_000, 20_000])
@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_each_is_moved_once_however_the_rewind_is_parted(
    limit: int, set_back_ms: int, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    """Whether what is moved stays behind the time from which the rewind looks, or not."""
    store = Store(client, "worker-a", replace(DEFAULT, batch_limit=limit))
    tasks = [await in_delivery(store) for _ in range(7)]
    at_21_s_ms = await at_ms(raw, 21_000) // 3 * 3
    for number, task in enumerate(tasks):
        # Two of them at the same time.
        await store.defer(failed(task, delay_ms=21_000 + 6_000 * (number // 2)))
        await ask(raw, "ZADD", KEYS.due, at_21_s_ms + 6_000 * (number // 2), task.key)
    kept = [await in_due(store) for _ in range(3)]
    for number, task in enumerate(kept):
        await ask(raw, "ZADD", KEYS.due, await at_ms(raw, 24_000 + 9_000 * number), task.key)
        await as_due(raw, task)
    before = [await due_ms(raw, task.key) for task in (*tasks, *kept)]
    await set_back(store, set_back_ms)
    await store.look(10)
    by_ms, moved = await rewound(store)
    assert moved == 7
    after = [await due_ms(raw, task.key) for task in (*tasks, *kept)]
    moves = [was - now for was, now in zip(before, after, strict=True) if was and now]
    assert {by_ms - move for move in moves[:7]} <= set(range(3))
    assert moves[7:] == [0] * 3


async def test_a_rewind_reads_about_as_many_bytes_as_it_may(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    store = Store(client, "worker-a", replace(DEFAULT, load_bytes=1))
    for _ in range(3):
        await deferred(store)
    await set_back(store)
    await store.look(10)
    assert [(await store.rewind())[1] for _ in range(5)] == [0, 1, 1, 1, 0]


async def test_the_bell_is_rung_when_what_was_moved_is_next(store: Store, raw: redis.asyncio.Redis) -> None:
    await in_due(store)
    await deferred(store)
    await set_back(store)
    await store.look(10)
    async with heard(raw) as rings:
        assert (await rewound(store))[1] == 1
    assert len(rings) == 1
