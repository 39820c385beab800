"""Redis loses what it holds, or has no room for more: flushed, its group destroyed, its scripts flushed, its memory
full."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from tests.chaos.accounts import LATE_S, Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, calls_of, delivering_again, said_since
from tests.support.names import KEYS
from tests.support.service import Client, Process, client_of
from tests.support.waiting import wait_until

WORKERS = 2


async def started(checker: Checker, **variables: str) -> list[Process]:
    """Start an API and workers; return them, the API first, once one has made the group."""
    settings = {"LOG_LEVEL": "debug", "RETRY_TIME": "1"} | variables
    processes = [checker.launch(role, **settings) for role in ["api", *["worker"] * WORKERS]]
    await asyncio.gather(*(process.started() for process in processes))
    await wait_until(lambda: any(process.events("group-created") for process in processes), "there is a group")
    return processes


async def lose_while_blocked(
    checker: Checker,
    raw: redis.asyncio.Redis,
    figures: Figures,
    lose: Callable[[list[Sent]], Awaitable[object]],
    ttl: float = 5,
) -> None:
    """Have something lost while every worker waits in Redis for work; then all must be as before, and the log say it
    once."""
    processes = await started(checker)
    before = await checker.load(processes[0], scaled(500, 100), ttl=ttl)

    async def all_are_blocked() -> bool:
        return int((await raw.info("clients"))["blocked_clients"]) == WORKERS

    await wait_until(all_are_blocked, "every worker waits for work")
    lost_at = time.time()
    await lose(before)
    later = await checker.load(processes[0], scaled(400, 80), ttl=0, rate=40)
    recoveries = await delivering_again(processes[1:], lost_at)
    await checker.drained()
    await checker.verdict()
    arrived_at = {number: found[0].at for number, found in checker.arrivals().items()}
    recoveries += [
        arrived_at[task.number] - lost_at for task in later if arrived_at[task.number] - task.due_at > LATE_S
    ]
    figures.note(back_in_service_s=max(recoveries))
    assert all(task.is_acknowledged for task in later)
    assert max(recoveries) < BACK_WITHIN_S
    said = said_since(processes, lost_at)
    assert [(event["event"], event["level"]) for event in said] == [("group-lost", "warning")], said


@pytest.mark.case("9a", "FLUSHALL while every worker waits for work")
async def test_after_a_flush_the_service_goes_on_and_says_it_once(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    async def flush(tasks: list[Sent]) -> None:
        await raw.flushall()
        # By the operator's will: they are as if cancelled, and must not arrive.
        for task in tasks:
            task.may_be_gone, task.cancelled_at = True, time.time()

    await lose_while_blocked(checker, raw, figures, flush, ttl=60)  # none is on its way by then


@pytest.mark.full
@pytest.mark.case("9b", "XGROUP DESTROY while every worker waits for work")
async def test_after_the_loss_of_the_group_nothing_is_lost_and_the_log_says_it_once(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    async def destroy(_: list[Sent]) -> None:
        await raw.xgroup_destroy(KEYS.queue, keys.GROUP)

    await lose_while_blocked(checker, raw, figures, destroy)


@pytest.mark.case("9c", "XGROUP DESTROY under load: entries queued, in delivery and waiting for a retry")
async def test_what_stood_in_the_queue_outlives_its_group(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    attempts = checker.receiver.behaviour = Attempts(failures=lambda n: int(n % 5 == 0), seconds=lambda _: 0.05)
    api, *workers = await started(checker, CONCURRENCY="10")
    count = scaled(3000, 600)
    await checker.load(api, count)
    await wait_until(lambda: len(checker.receiver.arrivals) > count // 5, "deliveries in full swing")
    length, pending = await raw.xlen(KEYS.queue), (await raw.xpending(KEYS.queue, keys.GROUP))["pending"]
    lost_at = time.time()
    await raw.xgroup_destroy(KEYS.queue, keys.GROUP)
    recoveries = await delivering_again(workers, lost_at)
    await checker.drained()
    figures.note(queued_then=length - pending, pending_then=pending, every_worker_back_s=Spread.of(recoveries))
    verdict = await checker.verdict()
    assert length > pending > 0
    assert max(recoveries) < BACK_WITHIN_S
    # What was pending is handed out anew, with nobody's attempts forgotten.
    assert verdict.duplicated <= pending
    for number, arrivals in checker.arrivals().items():
        assert {arrival.attempt for arrival in arrivals} == ({1, 2} if attempts.fails(number) else {1})
    assert [event["event"] for event in said_since([api, *workers], lost_at)] == ["group-lost"]


@pytest.mark.case("12", "SCRIPT FLUSH again and again, under load")
async def test_no_request_fails_while_scripts_are_flushed(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    attempts = checker.receiver.behaviour = Attempts(failures=lambda n: int(n % 5 == 0))
    api, *workers = await started(checker)
    started_at = time.time()
    is_over, flushes, asked = asyncio.Event(), 0, 0

    async def flush() -> None:
        nonlocal flushes
        while not is_over.is_set():
            await raw.script_flush()
            flushes += 1
            await asyncio.sleep(0)

    async def ask() -> None:
        nonlocal asked
        async with client_of(api) as client:
            while not is_over.is_set():
                asked += await ask_everything(client, checker.receiver.url)

    others = [asyncio.create_task(flush()), asyncio.create_task(ask())]
    try:
        await checker.load(api, scaled(5000, 600), lambda n: n % 10 / 10, rate=400)
        await checker.drained()
    finally:
        is_over.set()
        await asyncio.gather(*others)
    figures.note(script_flushes=flushes, other_requests=asked)
    verdict = await checker.verdict()
    attempts.assert_each_once_and_none_early(checker.arrivals(), retry_time_s=1)
    assert flushes > scaled(1000, 100)
    assert verdict.refused == verdict.unknown == verdict.duplicated == 0
    assert said_since([api, *workers], started_at) == []


async def ask_everything(client: Client, webhook: str) -> int:
    """Send a request of each kind, none of which may fail; return how many."""
    calls = calls_of(await client.schedule(webhook, ttl=3600))
    for method, path, content in calls:
        status, answer = await client.call(method, path, json=content)
        assert status == 200, f"{method} {path}: {answer}"
    return 1 + len(calls)


PADDING = 50_000
ROOM = scaled(30, 8) * 1_000_000
"""Bytes of Redis that tasks may take."""

FULL_S = scaled(8, 12)
"""When the tasks that fill it are due: until then there is no room."""


@pytest.mark.case("13", "maxmemory reached with noeviction")
@pytest.mark.long
async def test_a_full_redis_delivers_what_is_due_and_the_service_resumes_by_itself(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    attempts = checker.receiver.behaviour = Attempts(failures=lambda n: int(n % 5 == 0))
    api, *workers = await started(checker)
    started_at = time.time()
    assert (await raw.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
    await raw.config_set("maxmemory", await used_memory(raw) + ROOM)
    kept = await checker.load(api, 20, ttl=600)
    small = await checker.load(api, scaled(600, 150), ttl=lambda n: 1 + n / 100)
    large = await checker.load(api, ROOM // PADDING + 100, ttl=FULL_S, padding=PADDING)
    assert {task.status for task in large} == {200, 507}
    # So far beyond it that what is small makes no room.
    await raw.config_set("maxmemory", await used_memory(raw) - ROOM // 4)
    full_until = min(task.due_at for task in large if task.is_acknowledged)

    async with client_of(api) as client:
        await use_while_full(client, kept)
    refused = []
    while time.time() < full_until - LATE_S:
        refused += await checker.load(api, 10, ttl=0, rate=20)
    assert {task.status for task in refused} == {507}
    due = [task for task in small if task.due_at < time.time() - LATE_S]
    settled = [task for task in due if not attempts.fails(task.number)]
    assert await raw.hmget(KEYS.tasks, [task.key for task in settled]) == [None] * len(settled)
    arrivals = checker.arrivals()
    late = Spread.of(arrivals[task.number][0].at - task.due_at for task in due)

    async def is_taken() -> bool:
        return (await checker.load(api, 1, padding=PADDING))[0].is_acknowledged

    await wait_until(is_taken, "schedules are taken again")
    resumed_s = time.time() - full_until
    limit = int((await raw.info("memory"))["maxmemory"])

    async def has_room() -> bool:
        return await used_memory(raw) < limit - ROOM // 2

    # While deliveries are slow, these tasks would fill Redis again, and it would rightly refuse them.
    await wait_until(has_room, "what came due while it was full has made room", 30)
    after = await checker.load(api, scaled(500, 100), padding=PADDING, rate=100)
    figures.note(room_bytes=ROOM, answered_507=sum(task.status == 507 for task in checker.sent.values()))
    figures.note(due_while_full=len(due), of_these_late_s=late, resumed_after_s=resumed_s)
    await checker.drained()
    verdict = await checker.verdict()
    attempts.assert_each_once_and_none_early(checker.arrivals(), retry_time_s=1)
    assert verdict.duplicated == verdict.unknown == 0
    assert late.most < LATE_S * SLOWNESS
    assert resumed_s < BACK_WITHIN_S
    assert all(task.is_acknowledged for task in after)
    said = {event["event"] for event in said_since([api, *workers], started_at)}
    assert said <= {"redis-memory", "redis-memory-well", "gave-way"}


async def used_memory(raw: redis.asyncio.Redis) -> int:
    return int((await raw.info("memory"))["used_memory"])


async def use_while_full(client: Client, tasks: list[Sent]) -> None:
    """What needs no room is answered as ever; what does is refused, and leaves the task as it was."""
    for task in tasks:
        path = f"/schedule/{task.key}"
        before = await client.call("GET", path)
        status, answer = await client.call("PATCH", path, json={"data": 1})
        assert (status, answer["code"]) == (507, "redis-full")
        assert await client.call("GET", path) == before
        for view in ("/schedules?limit=10", "/stats"):
            assert (await client.call("GET", view))[0] == 200
        task.may_be_gone = True
        status, answer = await client.call("DELETE", path)
        assert (status, answer["data"]) == (200, "cancelled")
        task.cancelled_at = time.time()
