"""Redis' clock was set back: what a sweep and a retry do about it, and the rewind of what was deferred.

The greatest time seen is set ahead instead: to the scripts a clock that was set back looks the same.
"""

from dataclasses import replace

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.written import Standing
from redis_scheduler.task.claim import Unsettled
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import dump
from tests.scripts.states import (
    State,
    Task,
    ask,
    claimed,
    deferred,
    due_ms,
    failed,
    in_delivery,
    in_due,
    new_task,
    plan_sweep,
    reclaimed,
    set_idle,
    state_of,
    swept,
    waiting,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until

SET_BACK_MS = 20_000
RETRY_DELAY_MS = 35_000
"""By both the idle time of a retry is below the window when it is parked, and also before the clock was set back."""


async def set_back(store: Store, set_back_ms: int = SET_BACK_MS) -> int:
    """Have a sweep, and the clock set back after it; return Redis' ms."""
    await reclaimed(store)
    now_ms = redis_ms(await store.client.command("TIME"))
    await store.client.command("HSET", KEYS.sweep, "clock_ms", now_ms + set_back_ms)
    return now_ms


async def rewound(store: Store) -> tuple[int, int]:
    """Rewind to the end; return by how much, which only the first call tells, and how many were moved."""
    set_back_ms, moved = await store.rewind()
    while await ask(store.client._redis, "HEXISTS", KEYS.sweep, "step_ms"):
        again_ms, more = await store.rewind()
        assert again_ms == 0
        moved += more
    assert await store.rewind() == (0, 0)
    return set_back_ms, moved


@pytest.mark.parametrize("by", ["look", "look without a slot", "retry"])
async def test_a_retry_goes_on_where_it_was(by: str, store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    parked, soon = await waiting(store, delay_ms=RETRY_DELAY_MS), await waiting(store, delay_ms=10_000)
    failing = await in_delivery(other)
    await set_back(store)
    if by == "retry":
        assert await other.retry(failed(failing, delay_ms=5_000)) == [1]
        # By the clock as it is.
        assert 4_000 < await waits_ms(raw, failing.claim) <= 5_000
    else:
        await other.look(0 if by == "look without a slot" else 10)
    assert 13_000 < await waits_ms(raw, parked.claim) <= 15_000
    assert await state_of(raw, parked.key) == State("waiting", attempts=1, owner=keys.WAITING)
    if by != "look":
        assert await waits_ms(raw, soon.claim) <= 0
        assert [claim.key for claim in await reclaimed(other)] == [soon.key]
    else:
        assert (await state_of(raw, soon.key)).owner == other.name, "its delay was over, so the same step took it"


@pytest.mark.parametrize(
    ("set_back_ms", "delay_ms", "shown_idle_ms", "waits_after_ms"),
    [
        (SET_BACK_MS, 40_000, 20_000, 20_000),  # what was parked before is known
        (SET_BACK_MS, 41_000, 20_000, 40_000),  # the server may have started since
        (SET_BACK_MS, 60_000, 10_000, 50_000),
        (600_000, 2_000, 0, 2_000),
        (600_000, 2_000, 59_000, 1_000),
        (600_000, 0, 0, 0),
        (600_000, 60_000, 0, 60_000),
    ],
)
async def test_where_the_server_may_have_started_since_a_retry_waits_for_another_delay_at_most(
    set_back_ms: int, delay_ms: int, shown_idle_ms: int, waits_after_ms: int, store: Store, raw: redis.asyncio.Redis
) -> None:
    """A server that starts reads delivery times in the future as its own present; of such nothing may come early."""
    parked = await waiting(store)
    await set_back(store, set_back_ms)
    await set_idle(raw, shown_idle_ms, parked.claim, owner=keys.WAITING)
    await ask(raw, "HSET", KEYS.sweep, "parked_ms", delay_ms)
    await store.look(0)
    # The last sweep tells by how much, so it is too little by the time since.
    assert waits_after_ms - 1_000 < await waits_ms(raw, parked.claim) <= waits_after_ms + 200


async def test_a_user_who_may_not_ask_for_delivery_times_waits_for_another_delay_at_most(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    parked = await waiting(store)
    await set_back(store)
    await set_idle(raw, 0, parked.claim, owner=keys.WAITING)
    await ask(raw, "HSET", KEYS.sweep, "parked_ms", RETRY_DELAY_MS)
    await ask(raw, "ACL", "SETUSER", "limited", "on", ">password", "~*", "&*", "+@all", "-xinfo", "+xinfo|consumers")
    limited = RedisClient(client.url.replace("://", "://limited:password@"), 3, KEYS)
    try:
        await Store(limited, store.name).look(0)
    finally:
        await limited.aclose()
        await ask(raw, "ACL", "DELUSER", "limited")
    assert RETRY_DELAY_MS - 1_000 < await waits_ms(raw, parked.claim) <= RETRY_DELAY_MS


async def test_a_retry_keeps_the_greatest_time_where_no_sweep_has_seen_it(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    before_ms = redis_ms(await ask(raw, "TIME"))
    await waiting(store)
    first_ms = int(await ask(raw, "HGET", KEYS.sweep, "clock_ms"))
    assert before_ms <= first_ms <= redis_ms(await ask(raw, "TIME"))
    # One that was set back by too little to be noticed does not lower it.
    ahead_ms = redis_ms(await ask(raw, "TIME")) + DEFAULT.clock_set_least_ms - 10
    await ask(raw, "HSET", KEYS.sweep, "clock_ms", ahead_ms)
    await waiting(store)
    assert int(await ask(raw, "HGET", KEYS.sweep, "clock_ms")) >= ahead_ms


async def test_a_worker_without_a_slot_rewinds_too(store: Store, raw: redis.asyncio.Redis) -> None:
    await deferred(store)
    await set_back(store)
    assert [(await store.look(0)).must_rewind for _ in range(2)] == [True, True]
    assert (await rewound(store))[1] == 1
    assert not (await store.look(0)).must_rewind


async def test_leases_start_again_whoever_holds_them(
    store: Store, other: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others, just_claimed = await in_delivery(store), await in_delivery(other), await in_delivery(other)
    await set_idle(raw, DEFAULT.window_ms - DEFAULT.lease_ms - SET_BACK_MS, mine.claim)
    await set_idle(raw, 0, others.claim, just_claimed.claim, owner=other.name)
    await set_back(store)
    await store.look(10)
    assert (await rewound(store))[1] == 3
    for task, owner in ((mine, store), (others, other), (just_claimed, other)):
        assert DEFAULT.lease_ms - 1_000 < await waits_ms(raw, task.claim) <= DEFAULT.lease_ms
        assert await state_of(raw, task.key) == State("in delivery", owner=owner.name, tries=1)


async def test_leases_start_again_in_parts_and_what_is_leased_is_left(store: Store, raw: redis.asyncio.Redis) -> None:
    for _ in range(3):
        await store.schedule([new_task(0) for _ in range(200)])
    claims = [claim for _ in range(3) for claim in await claimed(store, 200)]
    leased = claims.pop(250)
    await set_idle(raw, 0, *claims)
    await set_idle(raw, DEFAULT.window_ms - 2_000, leased)
    await set_back(store)
    await store.look(0)
    assert [(await store.rewind())[1] for _ in range(4)] == [200, 199, 200, 0]
    rows = await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 10_000)
    assert min(row[2] for row in rows) >= DEFAULT.window_ms - DEFAULT.lease_ms
    assert await waits_ms(raw, leased) <= 2_000


async def test_more_than_are_told_of_wait_for_another_delay_at_most(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = 2_200
    for _ in range(tasks // 200):
        await store.schedule([new_task(0) for _ in range(200)])
    claims = [claim for _ in range(tasks // 200) for claim in await claimed(store, 200)]
    await set_idle(raw, 10_000, *claims, owner=keys.WAITING)
    await set_back(store)
    await ask(raw, "HSET", KEYS.sweep, "parked_ms", RETRY_DELAY_MS)
    await store.look(0)
    rows = await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 10_000)
    assert {row[1] for row in rows} == {keys.WAITING.encode()}
    idle_ms = [row[2] for row in rows]
    assert min(idle_ms[:2_000]) > 29_000
    assert all(25_000 <= idle < 29_000 for idle in idle_ms[2_000:])


async def test_the_step_is_met_once_and_sweeps_go_on(store: Store, other: Store, raw: redis.asyncio.Redis) -> None:
    parked = await waiting(store, delay_ms=RETRY_DELAY_MS)
    now_ms = await set_back(store)
    assert (await store.look(10)).must_rewind
    assert now_ms <= int(await ask(raw, "HGET", KEYS.sweep, "clock_ms")) < now_ms + 5_000
    set_back_ms, moved = await rewound(store)
    assert set_back_ms == pytest.approx(SET_BACK_MS, abs=1_000)
    assert moved == 0
    before = await dump(raw)
    await plan_sweep(store)
    sweep = await other.look(10)
    assert (sweep.entries, sweep.must_rewind) == ([], False)
    assert 13_000 < await waits_ms(raw, parked.claim) <= 15_000
    assert (await dump(raw)).keys() == before.keys()


async def test_what_two_sweeps_may_differ_by_is_no_step(store: Store, raw: redis.asyncio.Redis) -> None:
    parked = await waiting(store, delay_ms=50_000)
    now_ms = await set_back(store, DEFAULT.clock_set_least_ms - 20)
    await plan_sweep(store)
    assert not (await store.look(10)).must_rewind
    assert await waits_ms(raw, parked.claim) > 49_000
    # The greatest time stays, so that many small ones are told as what they come to.
    assert int(await ask(raw, "HGET", KEYS.sweep, "clock_ms")) >= now_ms + DEFAULT.clock_set_least_ms - 20


@pytest.mark.parametrize("set_back_ms", [2_000, SET_BACK_MS])
async def test_after_a_step_back_nothing_is_held_by_a_gap_in_the_sweeps(
    set_back_ms: int, store: Store, other: Store, raw: redis.asyncio.Redis
) -> None:
    released = await in_delivery(other)
    await in_delivery(store)
    now_ms = await set_back(store, set_back_ms)
    await ask(raw, "HSET", KEYS.sweep, "held_until_ms", now_ms + set_back_ms, "next_ms", now_ms + set_back_ms)
    await other.release([released.claim])
    assert [entry.key for entry in (await swept(other, 10))[0]] == [released.key]


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
    # Some ms later, by which what was deferred since is told from what was before.
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


async def at_ms(raw: redis.asyncio.Redis, in_ms: int) -> int:
    return redis_ms(await ask(raw, "TIME")) + in_ms


async def as_due(raw: redis.asyncio.Redis, task: Task) -> None:
    """Make the record's due time that of the place."""
    record = await ask(raw, "HGET", KEYS.tasks, task.key)
    _, _, rest = record.partition(b",")
    await ask(raw, "HSET", KEYS.tasks, task.key, b'{"due":%d,' % (await due_ms(raw, task.key) or 0) + rest)
