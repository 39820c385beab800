"""The checker itself: a run is not over while a task is on its way from one place to another."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler.store.writes import PUT
from tests.chaos.accounts import Sent, Standing, account, by_number
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures
from tests.support.names import KEYS
from tests.support.proxy import Fate, Proxy
from tests.support.receiver import Arrival, Receiver
from tests.support.redis_process import RedisProcess
from tests.support.waiting import wait_until


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


def arrival(number: int, at: float, attempt: int = 1, key: str = "", **headers: str) -> Arrival:
    """An arrival, with headers named after `Schedule-`."""
    headers = {f"Schedule-{name}": value for name, value in headers.items()}
    headers |= {"Schedule-Key": key or f"key-{number}", "Schedule-Attempt": str(attempt)}
    return Arrival(at, "POST", "/", headers, json.dumps({"n": number}).encode())


SENT = [
    Sent(0, 200, "on-time", due_at=100),
    Sent(1, 200, "twice", due_at=100),
    Sent(2, 200, "tried-again", due_at=100),
    Sent(3, 200, "late", due_at=100),
    Sent(4, 200, "early", due_at=100),
    Sent(5, 200, "lost", due_at=100),
    Sent(6, 200, "dead", due_at=100),
    Sent(7, 200, "cancelled", due_at=100, cancelled_at=99, may_be_gone=True),
    Sent(8, 200, "cancelled-but-came", due_at=100, cancelled_at=99, may_be_gone=True),
    Sent(9, 200, "came-before-its-cancel", due_at=90, cancelled_at=99, may_be_gone=True),
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


def occurrence(number: int, which: int, at: float, key: str) -> Arrival:
    return arrival(number, at, key=key, Occurrence=str(which), Due=f"1970-01-01T00:01:{40 + which}Z")


def test_every_task_is_accounted_for() -> None:
    found = account({task.number: task for task in SENT}, by_number(CAME), Standing(dead={"dead"}, paused={"paused"}))
    assert [task.key for task in found.lost] == ["lost"]
    assert [one.key for one in found.unexpected] == ["key-8", "key-10", "key-99", "key-15", "key-17"]
    assert (found.acknowledged, found.refused, found.unknown) == (14, 1, 3)
    assert (found.arrived, found.dead, found.cancelled) == (14, 1, 3)
    assert (found.duplicated, found.recovered) == (1, 2)
    assert (found.lateness.most, found.early_s) == (4, 0.5)
    assert found.recovery.most == 4, "of what came twice, and late"


def test_expired_replaced_and_acknowledged_tasks_are_accounted_for() -> None:
    sent = [
        Sent(0, 200, "expired", due_at=100, expire_s=5),
        Sent(1, 200, "came-in-time", due_at=100, expire_s=5),
        Sent(2, 200, "came-too-late", due_at=100, expire_s=5),
        Sent(3, 200, "not-even-expired", due_at=100, expire_s=5),
        Sent(4, 200, "replaced", due_at=100, replaced_at=90, may_be_gone=True),
        Sent(5, 200, "replaced-but-came", due_at=100, replaced_at=90, may_be_gone=True),
        Sent(6, 200, "replaced-in-delivery", due_at=100, may_be_gone=True),
        Sent(7, 200, "done-but-came", due_at=100, done_at=101),
        Sent(8, 200, "done-and-came-twice", due_at=100, done_at=101),
    ]
    came = [
        arrival(1, 105),
        arrival(2, 106),
        arrival(5, 100),
        arrival(6, 100),
        *(arrival(7, 100), arrival(7, 102, 2)),
        *(arrival(8, 100), arrival(8, 102)),
    ]
    found = account({task.number: task for task in sent}, by_number(came), Standing(expired={"expired"}))
    assert [task.key for task in found.lost] == ["not-even-expired"]
    assert [one.key for one in found.unexpected] == ["key-2", "key-5", "key-7"]
    assert (found.expired, found.replaced) == (1, 2)


def test_each_occurrence_of_a_series_is_accounted_for() -> None:
    sent = [
        Sent(0, 200, "all-came", due_at=101, times=2),
        Sent(1, 200, "one-is-lost", due_at=101, times=2),
        Sent(2, 200, "one-was-made-twice", due_at=101, times=2),
        Sent(3, 200, "one-too-many", due_at=101, times=1),
        Sent(4, 200, "none-came", due_at=101, times=1),
    ]
    came = [
        *(occurrence(0, 1, 101.1, "a"), occurrence(0, 1, 108, "a"), occurrence(0, 2, 102.2, "b")),
        occurrence(1, 2, 102, "c"),
        *(occurrence(2, 1, 101, "d"), occurrence(2, 2, 102, "e"), occurrence(2, 1, 101, "f")),
        *(occurrence(3, 1, 101, "g"), occurrence(3, 2, 102, "h")),
    ]
    found = account({task.number: task for task in sent}, by_number(came), Standing())
    assert [task.key for task in found.lost] == ["one-is-lost", "none-came"]
    assert [one.key for one in found.unexpected] == ["f", "h"]
    assert (found.occurrences, found.duplicated) == (7, 1)
    assert (round(found.lateness.most, 3), found.recovery.most, found.early_s) == (0.2, 7, 0)


def due(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def test_each_delivery_of_a_put_that_was_sent_again_is_early_by_its_own_due_time() -> None:
    sent = [
        Sent(0, 200, "both-came", due_at=100.5, unanswered_due_at=100),
        Sent(1, 200, "the-first-came-early", due_at=105, unanswered_due_at=100),
        Sent(2, 200, "the-second-came-early", due_at=105, unanswered_due_at=100),
        Sent(3, 200, "due-before-it-was-asked-for", due_at=105, unanswered_due_at=100),
        Sent(4, 200, "was-not-sent-again", due_at=105),
    ]
    came = [
        *(arrival(0, 100.2, Due=due(100.1)), arrival(0, 100.6, Due=due(100.5))),
        arrival(1, 100, Due=due(100.25)),
        *(arrival(2, 100.2, Due=due(100.1)), arrival(2, 104, Due=due(105))),
        arrival(3, 99.9, Due=due(99.8)),
        arrival(4, 100.2, Due=due(100.1)),
    ]
    found = account({task.number: task for task in sent}, by_number(came), Standing())
    assert [(one.task.number, round(one.by_s, 3)) for one in found.early] == [(1, 0.25), (2, 1), (3, 5.1), (4, 4.8)]
    assert found.duplicated == 0


async def test_a_put_whose_answer_was_lost_may_arrive_before_the_one_that_was_sent_again_is_due(
    tmp_path: Path, server: RedisProcess, raw: redis.asyncio.Redis, receiver: Receiver, proxy: Proxy
) -> None:
    """Both replies of the call are dropped, but it took effect; the client asks again once the task has arrived."""
    checker = Checker(tmp_path, server.url, raw, receiver, Figures())
    api, _ = await checker.start("api", REDIS_URL=proxy.url), await checker.start("worker")
    struck = 0

    def fate_of(command: list[bytes]) -> Fate:
        is_doomed = struck < 2 and command[:2] == [b"EVALSHA", PUT.sha.encode()]
        return Fate.NOT_ANSWERED if is_doomed else Fate.ANSWERED

    def on_struck() -> None:
        nonlocal struck
        struck += 1
        if struck == 2:
            proxy.flowing.clear()

    async def go_on() -> None:
        try:
            await wait_until(lambda: len(receiver.arrivals) > 1, "the first has arrived")
        finally:
            proxy.flowing.set()

    try:
        # From then on Redis knows the script.
        await checker.put(api, "other", 0)
        proxy.fate_of, proxy.on_struck = fate_of, on_struck
        [task, _] = await asyncio.gather(checker.put(api, "own", 0.3), go_on())
        await checker.drained()
        verdict = await checker.verdict()
    finally:
        await checker.stop()
    assert struck == 2
    came = checker.arrivals()[task.number]
    assert len(came) == 2
    assert came[0].at < task.due_at <= came[1].at
    assert verdict.duplicated == 0


def test_what_comes_again_is_not_duplicated() -> None:
    came = [arrival(0, 100, Due="1970-01-01T00:01:40Z"), arrival(0, 130, Due="1970-01-01T00:02:10Z")]
    found = account({0: Sent(0, 200, "again", due_at=100)}, by_number(came), Standing())
    assert found.duplicated == 0
    assert found.recovery.most == 0
