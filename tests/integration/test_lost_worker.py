"""What the log tells of a lost worker: its name, and how many tasks came back."""

import pytest
import redis.asyncio

from redis_scheduler.engine.observer import Log
from redis_scheduler.store import keys
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import OneShard, schedule
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.store import Store


async def lost_by(raw: redis.asyncio.Redis, store: Store, receiver: Receiver, count: int, name: str) -> None:
    """Have so many tasks in delivery by a worker that is gone."""
    await schedule(store, receiver.url, count)
    await raw.xreadgroup(keys.GROUP, name, {KEYS.queue: ">"}, count)
    ids = [row["message_id"] for row in await raw.xpending_range(KEYS.queue, keys.GROUP, "-", "+", 100, name)]
    entries: tuple[str | bytes | int, ...] = ("XCLAIM", KEYS.queue, keys.GROUP, name, 0, *ids)
    await store.client.command(*entries, "IDLE", DEFAULT.window_ms, "RETRYCOUNT", 1, "JUSTID")
    await raw.hdel(KEYS.sweep, "next_ms")


def lost_workers(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record)["fields"] for record in caplog.records if record.getMessage() == "worker-lost"]


async def test_each_lost_worker_is_named_with_how_many_tasks_came_back(
    engine: OneShard,
    store: Store,
    raw: redis.asyncio.Redis,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, swept = engine.intake._observer, engine.reclaimer
    assert isinstance(log, Log)
    # No more than one sweep may take with five slots.
    await lost_by(raw, store, receiver, 3, "host-1-a")
    await lost_by(raw, store, receiver, 1, "host-2-b")
    await swept.run_once()
    assert lost_workers(caplog) == [{"worker": "host-1-a", "tasks": 3}, {"worker": "host-2-b", "tasks": 1}]
    # What comes back in many steps is one line a second.
    for _ in range(2):
        await lost_by(raw, store, receiver, 1, "host-2-b")
        await swept.run_once()
    assert len(lost_workers(caplog)) == 2
    log._tell_lost_from = 0
    await swept.run_once()
    assert lost_workers(caplog)[2:] == [{"worker": "host-2-b", "tasks": 2}]


async def test_a_retry_and_what_is_its_own_is_no_lost_worker(
    engine: OneShard, store: Store, raw: redis.asyncio.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (keys.WAITING, store.name):
        await lost_by(raw, store, receiver, 1, name)
    await engine.reclaimer.run_once()
    assert lost_workers(caplog) == []
