"""The script tests look at Redis' own answers."""

import pytest
import redis.asyncio


@pytest.fixture
def raw(raw: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """The library's client, its answers as they come."""
    raw.response_callbacks.clear()
    return raw
