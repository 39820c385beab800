"""Redis' clock was set back: what a sweep and a retry do about it."""

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.clock_steps import RETRY_DELAY_MS, SET_BACK_MS, rewound, set_back
from tests.scripts.contents import dump
from tests.scripts.states import (
    State,
    ask,
    claimed,
    deferred,
    failed,
    in_delivery,
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
