"""A window other than the default one reaches whatever counts by it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import aiohttp
import pytest

from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.support.api import api_here
from tests.support.service import Client
from tests.support.store import Store

TIMING = replace(DEFAULT, window_ms=20_000, batch_limit=2)


@pytest.fixture
def store(client: RedisClient) -> Store:
    return Store(client, "worker-a", TIMING)


@pytest.fixture
async def api(client: RedisClient) -> AsyncIterator[Client]:
    async with api_here(client, timing=TIMING) as port, aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{port}")


async def test_a_waiting_retry_is_shown_to_come_when_its_delay_is_over(api: Client, store: Store) -> None:
    earliest_ms = redis_ms(await store.client.command("TIME"))
    task = await states.waiting(store, delay_ms=15_000)
    latest_ms = redis_ms(await store.client.command("TIME"))
    _, shown = await api.call("GET", f"/schedule/{task.key}")
    expires_ms = datetime.fromisoformat(shown["data"]["info"]["expires"]).timestamp() * 1000
    assert shown["data"]["info"]["state"] == "waiting"
    # An idle time is told in whole ms, and Redis counts it by the clock of the command before.
    assert earliest_ms + 14_900 <= expires_ms <= latest_ms + 15_100


async def test_a_promotion_that_names_no_limit_moves_a_batch(store: Store) -> None:
    for _ in range(3):
        await states.overdue(store)
    assert [(await store.promote()).moved for _ in range(2)] == [2, 1]
