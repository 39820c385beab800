"""The history in Redis: numbers by the minute and the hour, each call counted once."""

import asyncio

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.history import History
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import ask
from tests.support.names import KEYS

MINUTE = 28_333_333
HOUR = MINUTE // 60


@pytest.fixture
def history(client: RedisClient) -> History:
    return History(client, "worker-a")


async def test_what_happened_in_a_minute_counts_for_its_hour_too(
    history: History, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await history.add(1, MINUTE, {"delivered": 3, "late:5": 2})
    await history.add(2, MINUTE + 1, {"delivered": 4})
    await History(client, "worker-b").add(1, MINUTE, {"delivered": 5})
    assert (await history.minutes([MINUTE]))[0] == {"delivered": 8, "late:5": 2}
    assert (await history.minutes([MINUTE + 1]))[0] == {"delivered": 4}
    assert (await history.minutes([MINUTE + 2]))[0] == {}
    assert (MINUTE + 1) // 60 == HOUR
    assert (await history.hours([HOUR]))[0] == {"delivered": 12, "late:5": 2}
    for key, ttl_ms in ((KEYS.minute(MINUTE), DEFAULT.minute_ttl_ms), (KEYS.hour(HOUR), DEFAULT.hour_ttl_ms)):
        assert ttl_ms - 60_000 < await ask(raw, "PTTL", key) <= ttl_ms


async def test_a_call_that_is_sent_again_counts_once(history: History, raw: redis.asyncio.Redis) -> None:
    await history.add(7, MINUTE, {"delivered": 3})
    before = await dump(raw)
    await history.add(7, MINUTE, {"delivered": 3})
    assert await dump(raw) == before
    await history.add(8, MINUTE, {"delivered": 3})
    assert (await history.minutes([MINUTE]))[0] == {"delivered": 6}


async def test_many_processes_count_at_once(client: RedisClient, history: History) -> None:
    others = [History(client, f"worker-{number}") for number in range(20)]
    await asyncio.gather(*(other.add(1, MINUTE, {"delivered": 1, "took:1": 1}) for other in others))
    assert (await history.minutes([MINUTE]))[0] == {"delivered": 20, "took:1": 20}


async def test_a_full_redis_takes_none_of_it_and_all_of_it_later(
    history: History, raw: redis.asyncio.Redis, full: Full
) -> None:
    before = await dump(raw)
    async with full():
        with pytest.raises(StoreFull):
            await history.add(1, MINUTE, {"delivered": 3, "died": 1})
    assert await dump(raw) == before
    await history.add(1, MINUTE, {"delivered": 3, "died": 1})
    assert (await history.minutes([MINUTE]))[0] == {"delivered": 3, "died": 1}


async def test_a_foreign_key_in_a_minutes_place_gets_nothing_and_stops_no_hour(
    history: History, raw: redis.asyncio.Redis
) -> None:
    await ask(raw, "SET", KEYS.minute(MINUTE), "foreign")
    await history.add(1, MINUTE, {"delivered": 3})
    assert await ask(raw, "GET", KEYS.minute(MINUTE)) == b"foreign"
    assert await ask(raw, "PTTL", KEYS.minute(MINUTE)) == -1
    assert (await history.hours([HOUR]))[0] == {"delivered": 3}


async def test_what_other_hands_wrote_in_a_number_is_none(history: History, raw: redis.asyncio.Redis) -> None:
    await ask(raw, "HSET", KEYS.minute(MINUTE), "delivered", "many", "died", "-3", b"\xff", "1")
    await history.add(1, MINUTE, {"delivered": 3, "expired": 1})
    assert (await history.minutes([MINUTE]))[0] == {"expired": 1, "\udcff": 1}
