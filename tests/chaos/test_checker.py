"""The checker itself: a run is not over while a task is on its way from one place to another."""

import asyncio
import json
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.checker import Checker, Sent
from tests.chaos.figures import Figures
from tests.support.names import KEYS
from tests.support.receiver import Arrival, Receiver
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


def arrival(number: int, at: float, attempt: int = 1) -> Arrival:
    headers = {"Schedule-Key": f"key-{number}", "Schedule-Attempt": str(attempt)}
    return Arrival(at, "POST", "/", headers, json.dumps({"n": number}).encode())


SENT = [
    Sent(0, 200, "on-time", due_at=100),
    Sent(1, 200, "twice", due_at=100),
    Sent(2, 200, "tried-again", due_at=100),
    Sent(3, 200, "late", due_at=100),
    Sent(4, 200, "early", due_at=100),
    Sent(5, 200, "lost", due_at=100),
    Sent(6, 200, "dead", due_at=100),
    Sent(7, 200, "cancelled", due_at=100, cancelled_at=99, may_be_cancelled=True),
    Sent(8, 200, "cancelled-but-came", due_at=100, cancelled_at=99, may_be_cancelled=True),
    Sent(9, 200, "came-before-its-cancel", due_at=90, cancelled_at=99, may_be_cancelled=True),
    Sent(10, 400),
    Sent(11, 503),
    Sent(12, None),
    Sent(13, None),
    Sent(14, 200, "paused", due_at=100, paused_at=99),
    Sent(15, 200, "paused-but-came", due_at=100, paused_at=99),
    Sent(16, 200, "resumed", due_at=100, paused_at=99, resumed_at=150),
    Sent(17, 200, "resumed-but-came-before", due_at=100, paused_at=99, resumed_at=150),
]
CAME = [
    arrival(0, 100.1),
    *(arrival(1, 100.1), arrival(1, 102)),
    *(arrival(2, 100.1), arrival(2, 103, attempt=2)),
    arrival(3, 104),
    arrival(4, 99.5),
    arrival(8, 100),
    arrival(9, 90.1),
    arrival(10, 100),
    arrival(11, 100),
    arrival(12, 100),
    arrival(99, 100),
    *(arrival(15, 100), arrival(16, 150), arrival(17, 150, attempt=1), arrival(17, 149.9, attempt=2)),
]


async def test_every_task_is_accounted_for(tmp_path: Path, server: RedisProcess, raw: redis.asyncio.Redis) -> None:
    checker = Checker(tmp_path, server.url, raw, Receiver(arrivals=CAME), Figures())
    checker.sent = {task.number: task for task in SENT}
    found = checker._account(dead={"dead"}, paused={"paused"})
    assert [task.key for task in found.lost] == ["lost"]
    assert [one.key for one in found.unexpected] == ["key-8", "key-10", "key-99", "key-15", "key-17"]
    assert (found.acknowledged, found.refused, found.unknown) == (14, 1, 3)
    assert (found.arrived, found.dead, found.cancelled) == (14, 1, 3)
    assert (found.duplicated, found.recovered) == (1, 2)
    assert (found.lateness.most, found.early_s) == (4, 0.5)
    assert found.recovery.most == 4, "of what came twice, and late"
