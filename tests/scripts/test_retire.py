"""retire: deletes consumers that are gone, and none that still holds an entry."""

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.client import RedisClient
from tests.scripts.contents import dump
from tests.scripts.states import IN_DELIVERY, ask, in_delivery, reclaimed, retriable, state_of
from tests.support.names import KEYS
from tests.support.store import Store
from tests.support.waiting import wait_until


async def consumers(raw: redis.asyncio.Redis) -> set[str]:
    rows = await ask(raw, "XINFO", "CONSUMERS", KEYS.queue, keys.GROUP)
    return {row[1].decode() for row in rows}


async def finished(client: RedisClient, *names: str) -> None:
    """Workers of these names deliver a task each, and are gone."""
    for name in names:
        store = Store(client, name)
        assert await store.settle([(await in_delivery(store)).claim]) == [1]


async def test_only_consumers_with_nothing_pending_are_deleted_and_waiting_stays(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await finished(client, "worker-b", "worker-c")
    emptied = Store(client, "worker-d")
    await retriable(store)
    await emptied.settle(await reclaimed(emptied, limit=1))
    holding = await in_delivery(store)
    assert await consumers(raw) == {"worker-a", "worker-b", "worker-c", "worker-d", keys.WAITING}
    assert await store.retire(0) == 3
    assert await consumers(raw) == {"worker-a", keys.WAITING}
    assert await state_of(raw, holding.key) == IN_DELIVERY


async def test_a_consumer_is_kept_until_it_was_idle_for_the_time(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await finished(client, "worker-b")
    assert await store.retire(3_600_000) == 0
    assert await consumers(raw) == {"worker-b"}

    async def is_retired() -> bool:
        return await store.retire(20) == 1

    await wait_until(is_retired, "the consumer is idle for 20 ms")
    assert await consumers(raw) == set()


async def test_only_the_consumer_that_is_named_is_deleted(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await finished(client, "worker-b", "worker-c")
    assert await store.retire(0, "worker-c") == 1
    assert await consumers(raw) == {"worker-b"}


@pytest.mark.parametrize("only", ["worker-a", "waiting"])
async def test_naming_a_consumer_does_not_loosen_the_rules(only: str, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await retriable(store)
    [claim] = (await store.look(1)).entries
    assert (claim.key, await consumers(raw)) == (task.key, {"worker-a", "waiting"})
    before = await dump(raw)
    assert await store.retire(0, only) == 0
    assert await dump(raw) == before
