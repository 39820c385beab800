"""The checker itself: a run is not over while a task is on its way from one place to another."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess


async def test_a_task_that_goes_to_and_fro_is_left_to_deliver(
    tmp_path: Path, server: RedisProcess, raw: redis.asyncio.Redis
) -> None:
    checker = Checker(tmp_path, server.url, raw, Receiver(), Figures())

    async def move(there: str, back: str) -> None:
        async with raw.pipeline(transaction=True) as moment:
            moment.execute_command(*there.split())
            moment.execute_command(*back.split())
            await moment.execute()

    async def move_always() -> None:
        while not is_over.is_set():
            await move(f"ZREM {KEYS.due} key", f"HSET {KEYS.entries} key 1-0")
            await move(f"HDEL {KEYS.entries} key", f"ZADD {KEYS.due} 1 key")

    await raw.zadd(KEYS.due, {"key": 1})
    is_over = asyncio.Event()
    moving = asyncio.create_task(move_always())
    try:
        with pytest.raises(AssertionError, match="all tasks delivered"):
            await checker.drained(2)
    finally:
        is_over.set()
        await moving
        await raw.delete(KEYS.due, KEYS.entries)
    await checker.drained(2)
