"""A lost consumer group, a flushed database, flushed scripts: every verb recovers by itself."""

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.client import RedisClient
from tests.scripts.states import DUE, MISSING, ask, claimed, in_delivery, queued, state_of
from tests.scripts.verbs import VERBS
from tests.support.names import KEYS
from tests.support.store import Store


async def assert_works(store: Store, raw: redis.asyncio.Redis) -> None:
    """A new task is delivered, behind all that is queued."""
    task = await queued(store)
    # Makes the group where no verb has needed it.
    await store.pending(1)
    claims = await claimed(store, await ask(raw, "XLEN", KEYS.queue) - len(await store.pending(10)))
    assert claims[-1].key == task.key
    assert await store.settle(claims) == [1] * len(claims)


@pytest.mark.parametrize("name", VERBS)
async def test_every_verb_goes_on_after_the_group_was_destroyed(
    name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    await ask(raw, "XGROUP", "DESTROY", KEYS.queue, keys.GROUP)
    await verb.call(store, task)
    await store.pending(1)
    assert await state_of(raw, task.key) == verb.after_destroy
    await assert_works(store, raw)


@pytest.mark.parametrize("name", VERBS)
async def test_every_verb_goes_on_after_flushall(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    await ask(raw, "FLUSHALL")
    await verb.call(store, task)
    await store.pending(1)
    entered = ("schedule", "schedule once", "restore")
    # A put reads first whether there is a task.
    is_entered = name in entered or name.startswith("put")
    assert await state_of(raw, task.key) == (DUE if is_entered else MISSING)
    await assert_works(store, raw)


@pytest.mark.parametrize("name", VERBS)
async def test_every_verb_goes_on_after_the_scripts_were_flushed(
    name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    await ask(raw, "SCRIPT", "FLUSH")
    await verb.call(store, task)
    assert await state_of(raw, task.key) == verb.after


@pytest.mark.parametrize("loss", [("XGROUP", "DESTROY", KEYS.queue, keys.GROUP), ("DEL", KEYS.queue)])
async def test_the_reader_makes_a_lost_group_and_passes_no_entry_over(
    loss: tuple[str, ...], store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    first = await in_delivery(store)
    second = await queued(store)
    if loss[0] == "DEL":
        await store.purge()
    await ask(raw, *loss)
    reader = QueueReader(client, store.name)
    assert await reader.claim(10) == []
    if loss[0] == "DEL":
        await queued(store)
        assert len(await reader.claim(10)) == 1
    else:
        assert [entry.key for entry in await reader.claim(10)] == [first.key, second.key]
    await reader.aclose()


async def test_a_success_counts_although_the_group_was_lost_meanwhile(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    await ask(raw, "XGROUP", "DESTROY", KEYS.queue, keys.GROUP)
    assert await store.settle([task.claim]) == [1]
    assert await store.pending(10) == []
    assert await ask(raw, "XLEN", KEYS.queue) == 0
