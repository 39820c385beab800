"""Every verb under another hash tag than the default: it touches no key outside, and does the same."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from tests.scripts.states import ask, state_of
from tests.scripts.verbs import VERBS
from tests.support.names import KEYS
from tests.support.store import Store

TAG = tag_of("staging")


@pytest.fixture
def other_tag() -> Iterator[None]:
    """All that tests name by KEYS has the other tag meanwhile."""
    before = KEYS.tag
    KEYS.__init__(TAG)  # type: ignore[misc]
    yield
    KEYS.__init__(before)  # type: ignore[misc]


@pytest.fixture
async def confined(other_tag: None, redis_url: str, raw: redis.asyncio.Redis) -> AsyncIterator[Store]:
    async with confined_to(redis_url, raw, KEYS) as store:
        yield store


@asynccontextmanager
async def confined_to(redis_url: str, raw: redis.asyncio.Redis, keys: Keys) -> AsyncIterator[Store]:
    """A store whose user in Redis may touch nothing outside the tag, as a tenant's."""
    rules = ["on", "nopass", f"~{TAG}:*", "resetchannels", f"&{TAG}:bell", "+@all"]
    await raw.execute_command("ACL", "SETUSER", "staging", *rules)
    client = RedisClient(redis_url.replace("://", "://staging:x@"), 3, keys)
    await client.create_group()
    yield Store(client, "worker-a")
    await client.aclose()
    await raw.execute_command("ACL", "DELUSER", "staging")


@pytest.mark.parametrize("name", VERBS)
async def test_every_verb_keeps_to_the_keys_of_its_tag(name: str, confined: Store, raw: redis.asyncio.Redis) -> None:
    verb = VERBS[name]
    task = await verb.make(confined)
    await verb.call(confined, task)
    assert await state_of(raw, task.key) == verb.after
    assert not [key for key in await ask(raw, "KEYS", "*") if not key.startswith(f"{TAG}:".encode())]
