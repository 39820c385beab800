"""Scripts that are given records or failures, on a store that seals them: the same tests, and all comes to the same."""

import inspect
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import SealedKeys
from tests.scripts import (
    test_acknowledge,
    test_fire,
    test_follow_ups,
    test_foreign_values,
    test_full,
    test_outcomes,
    test_records,
    test_replay,
    test_restore,
    test_schedule,
    test_shift,
    test_states,
    test_tag,
    test_trim,
    test_twice,
    test_types,
    test_update,
)
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.test_tag import TAG, confined_to, other_tag
from tests.scripts.verbs import VERBS
from tests.support.names import KEYS, VAULT
from tests.support.store import Store

__all__ = ["other_tag"]  # a fixture

Redis = redis.asyncio.Redis

WHOLE = (
    *(test_acknowledge, test_fire, test_follow_ups, test_outcomes, test_records, test_replay, test_restore),
    *(test_schedule, test_shift, test_states, test_trim, test_types, test_update),
)
"""All of these: their scripts write records or failures, or move what has some."""

globals().update(
    {
        f"{name}_in_{module.__name__.rpartition('.')[2]}": found
        for module in WHOLE
        for name, found in vars(module).items()
        if name.startswith("test_") and inspect.iscoroutinefunction(found)
    }
)

SEALING = [
    *("schedule", "schedule once", "update", "replay", "restore", "rekey", "retry", "defer", "bury", "fire", "again"),
    *(name for name in VERBS if name.startswith("put")),
]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_url, 3, SealedKeys(KEYS.tag, VAULT))
    await client.ensure_checked()
    await client.create_group()
    yield client
    await client.aclose()


@pytest.mark.parametrize("name", SEALING)
async def test_what_a_verb_leaves_in_redis_is_sealed(name: str, store: Store, raw: Redis) -> None:
    task = await VERBS[name].make(store)
    await VERBS[name].call(store, task)
    found = await dump(raw)
    for place in (KEYS.tasks, KEYS.failures):
        for content in found.get(place.encode(), {}).values():
            assert b'"sealed":"' in content
    assert b"localhost" not in repr(found).encode()
    assert b"HTTP 500" not in repr(found).encode()


@pytest.mark.parametrize("name", SEALING)
async def test_a_full_redis(name: str, full: Full, store: Store, raw: Redis) -> None:
    is_refused = name in test_full.REFUSED
    tried = (
        test_full.test_what_enters_is_refused_and_writes_nothing if is_refused else test_full.test_what_drains_goes_on
    )
    await tried(name, full, store, raw)


@pytest.mark.parametrize("name", test_twice.WRITES)
async def test_a_resent_write(name: str, store: Store, raw: Redis) -> None:
    await test_twice.test_a_resent_write_answers_as_the_first_did_and_changes_nothing(name, store, raw)


@pytest.mark.parametrize(
    "name",
    ["retry", "defer", "bury", "fire", "again", "load", "promote and claim", "promote into a line", "claim", "page"],
)
async def test_a_resent_call(name: str, store: Store, raw: Redis) -> None:
    await test_twice.test_a_resent_call_of_a_worker_does_nothing(name, store, raw)


@pytest.mark.parametrize("place", [KEYS.tasks, KEYS.failures, KEYS.dead_bytes])
@pytest.mark.parametrize("name", SEALING)
async def test_a_foreign_key(name: str, place: str, full: Full, store: Store, raw: Redis) -> None:
    await test_foreign_values.test_a_foreign_key_leaves_nothing_half_done_and_is_left_alone(
        name, place, full, store, raw
    )


@pytest.mark.parametrize("name", SEALING)
async def test_every_verb_keeps_to_its_tag(name: str, other_tag: None, redis_url: str, raw: Redis) -> None:
    async with confined_to(redis_url, raw, SealedKeys(TAG, VAULT)) as confined:
        await test_tag.test_every_verb_keeps_to_the_keys_of_its_tag(name, confined, raw)
