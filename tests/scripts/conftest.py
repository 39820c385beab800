"""The script tests look at Redis' own answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from tests.scripts.states import ask
from tests.support.store import Store

Full = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def raw(raw: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """The library's client, its answers as they come."""
    raw.response_callbacks.clear()
    return raw


@pytest.fixture
def other(client: RedisClient) -> Store:
    """Another worker's transitions."""
    return Store(client, "worker-b")


@pytest.fixture
def full(raw: redis.asyncio.Redis) -> Full:
    """Within its block Redis refuses what grows."""

    @asynccontextmanager
    async def block() -> AsyncIterator[None]:
        await ask(raw, "CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            await ask(raw, "CONFIG", "SET", "maxmemory", 0)

    return block
