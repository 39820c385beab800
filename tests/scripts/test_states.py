"""The states that the tables start from are what they say."""

import pytest
import redis.asyncio

from tests.scripts.states import MAKERS, state_of
from tests.support.store import Store


@pytest.mark.parametrize("state", MAKERS)
async def test_a_made_task_stands_where_its_state_says(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, expected = MAKERS[state]
    task = await make(store)
    assert await state_of(raw, task.key) == expected
