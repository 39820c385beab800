"""pause_all: while it stands no promotion moves or claims anything."""

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.views import Views
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import DUE, IN_DELIVERY, ask, overdue, plan_sweep, state_of, swept, waiting
from tests.support.names import KEYS
from tests.support.store import Store


async def test_nothing_is_promoted_until_the_resume(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await overdue(store)
    since_ms = await store.pause_all(True)
    assert since_ms
    assert (await Views(store.client).ledger()).all_paused_since_ms == since_ms
    promotion = await store.promote(most_claims=1)
    assert (promotion.is_all_paused, promotion.moved, promotion.claims, promotion.wait_s) == (True, 0, [], None)
    assert await state_of(raw, task.key) == DUE
    assert await store.pause_all(False) is None
    promotion = await store.promote(most_claims=1)
    assert (promotion.is_all_paused, promotion.moved) == (False, 1)
    assert await state_of(raw, task.key) == IN_DELIVERY


async def test_no_sweep_takes_anything_until_the_resume(store: Store, raw: redis.asyncio.Redis) -> None:
    """Not even one whose worker does not know of the pause yet."""
    retried, other = await waiting(store, delay_ms=0), Store(store.client, "worker-b")
    await store.pause_all(True)
    await plan_sweep(store)
    assert (await other.look(10)).entries == []
    assert (await state_of(raw, retried.key)).place == "waiting"
    await store.pause_all(False)
    assert [entry.key for entry in (await swept(other, 10))[0]] == [retried.key]


async def test_a_task_that_is_read_meanwhile_says_so(store: Store, raw: redis.asyncio.Redis) -> None:
    task, views = await overdue(store), Views(store.client)
    found = [await views.task(task.key)]
    since_ms = await store.pause_all(True)
    found.append(await views.task(task.key))
    await ask(raw, "DEL", KEYS.pause_all)
    await ask(raw, "HSET", KEYS.pause_all, "x", "y")
    found.append(await views.task(task.key))
    await ask(raw, "DEL", KEYS.pause_all)
    assert [stored and stored.all_paused_since_ms for stored in found] == [None, since_ms, None]


@pytest.mark.parametrize("wanted", [True, False])
async def test_it_may_be_sent_twice(wanted: bool, store: Store, raw: redis.asyncio.Redis) -> None:
    await store.pause_all(not wanted)
    first = await store.pause_all(wanted)
    before = await dump(raw)
    assert await store.pause_all(wanted) == first
    assert await dump(raw) == before


async def test_a_full_redis_is_paused_and_resumed(full: Full, store: Store, raw: redis.asyncio.Redis) -> None:
    async with full():
        assert await store.pause_all(True)
        assert await store.pause_all(False) is None
    assert not await ask(raw, "EXISTS", KEYS.pause_all)


async def test_what_foreign_hands_put_there_pauses_or_is_refused(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await overdue(store)
    await ask(raw, "SET", KEYS.pause_all, "x")
    assert (await store.promote()).is_all_paused
    assert (await Views(store.client).ledger()).all_paused_since_ms == 0
    assert await store.pause_all(False) is None
    await ask(raw, "HSET", KEYS.pause_all, "x", "y")
    for call in (lambda: store.pause_all(True), lambda: store.pause_all(False), store.promote):
        with pytest.raises(StoreUnavailable):
            await call()
    assert await state_of(raw, task.key) == DUE
    await ask(raw, "DEL", KEYS.pause_all)
