"""Timers under faults: killed in the middle of a due move, and ten of them on one due set. Cases 2 and 3."""

import asyncio
import itertools
import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.script import Call
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.support.engine import MODULE
from tests.support.names import KEYS
from tests.support.proxy import Proxy
from tests.support.service import TOKEN, Process
from tests.support.standing_still import standing_still
from tests.support.store import SCRIPTS, Store
from tests.support.waiting import wait_until

T = TypeVar("T")

SLOW_MS = 5
"""No script may hold Redis for longer."""

LOGGED_MS = 2
"""What SLOWLOG has: all of it would take the clients more time to read than the service takes."""

CLIENTS = 16
API_P99_MS = 100


async def enter(checker: Checker, count: int, measured: "Measured | None" = None) -> None:
    """Schedule tasks that are due at once, by the transition that the API calls, in its batches; keep each as
    acknowledged.

    Not by the REST API, which has other cases: 50,000 requests would take longer than all else that a case does, and
    none of the first would be left when the last has come, were they not due only then. Here the batches are full ones,
    too.
    """
    client = measured or RedisClient(checker.redis_url, 3, KEYS)
    store = Store(client, "loader")
    try:
        for first in range(0, count, DEFAULT.batch_limit):
            numbers = range(first, min(first + DEFAULT.batch_limit, count))
            # One millisecond: without any they would not stand in `due`.
            tasks = [NewTask(new_task_key(), 1, tail(checker.receiver.url, number), None) for number in numbers]
            due_ms = await store.schedule(tasks)
            for number, task, at_ms in zip(numbers, tasks, due_ms, strict=True):
                checker.sent[number] = Sent(number, 200, task.key, at_ms / 1000)
    finally:
        if measured is None:
            await client.aclose()


def tail(webhook: str, number: int) -> bytes:
    """Return the record of a task whose data is its number, as the checker expects it."""
    return record_tail(webhook, 0.001, None, json.dumps({"n": number}).encode())


async def queued(raw: redis.asyncio.Redis) -> int:
    """Return how many tasks are in the queue; fail where one is missing or doubled in this very moment."""
    async with raw.pipeline(transaction=True) as transaction:
        for command in (("XLEN", KEYS.queue), ("HLEN", KEYS.entries), ("ZCARD", KEYS.due), ("HLEN", KEYS.tasks)):
            transaction.execute_command(*command)
        in_queue, entries, due, tasks = await transaction.execute()
    assert in_queue == entries
    assert in_queue + due == tasks
    return int(in_queue)


async def assert_each_is_queued_once(raw: redis.asyncio.Redis, checker: Checker) -> None:
    """Fail unless the stream holds each task that was entered, once."""
    entries: list[Any] = await raw.execute_command("XRANGE", KEYS.queue, "-", "+")
    times = Counter(fields[b"key"].decode() for _, fields in entries)
    assert set(times.values()) == {1}
    assert times.keys() == {sent.key for sent in checker.sent.values()}


@pytest.mark.case("2", "timers SIGKILLed in the middle of a due move")
async def test_timers_killed_at_any_point_of_a_due_move_lose_and_double_nothing(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, seed = scaled(12_000, 3_000), random.randrange(2**32)
    rng = random.Random(seed)
    # A move is over in a moment: a slow way to Redis makes room for kills in the middle, also between a call and its
    # answer.
    proxy.delay_s = 0.01

    await enter(checker, count)
    kills = moved = 0
    while moved < count:
        assert kills < 200
        timers = await checker.start("timers", "2", module=MODULE, REDIS_URL=proxy.url)

        async def has_moved(before: int = moved) -> bool:
            return await queued(raw) > before

        await wait_until(has_moved, "the due move goes on", every_s=0.001)
        await asyncio.sleep(rng.uniform(0, 0.08))
        await checker.kill(timers)
        # What it had sent last may still be under way.
        moved = await queued(raw)
        kills += moved < count
    figures.note(timers_killed=kills, seed=seed)
    assert kills >= scaled(5, 1)
    await assert_each_is_queued_once(raw, checker)

    await checker.start("worker")
    await checker.drained()
    verdict = await checker.verdict()
    assert verdict.arrived == count
    assert verdict.duplicated == 0


async def request_by_turns(checker: Checker, api: Process, took: list[float], until: asyncio.Event) -> None:
    """Schedule and read tasks by turns from several clients; add the seconds that each request took."""
    known = [sent.key for sent in checker.sent.values()]
    numbers = itertools.count(len(known))

    async def client(session: aiohttp.ClientSession) -> None:
        while not until.is_set():
            number = next(numbers)
            sent = checker.sent[number] = Sent(number, None)
            body = {"webhook": checker.receiver.url, "ttl": 0, "data": {"n": number}}
            started = time.monotonic()
            async with session.post("/schedule", json=body) as answer:
                content = await answer.json()
            took.append(time.monotonic() - started)
            sent.status, sent.key, sent.due_at = answer.status, content["key"], time.time()
            started = time.monotonic()
            async with session.get(f"/schedule/{known[number % len(known)]}") as answer:
                assert answer.status == 200
                await answer.read()
            took.append(time.monotonic() - started)

    port = (await api.started())["port"]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": TOKEN}) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))


@dataclass
class Window:
    """What Redis did from one measured call to the end of the next: the slow calls, and how long other processes, or
    the host of this virtual machine, kept it from a core."""

    wall_ms: list[float]
    waited_ms: float

    @property
    def excess_ms(self) -> float:
        return sum(max(0, duration - SLOW_MS) for duration in self.wall_ms)


class Measured(RedisClient):
    """A client whose scripts run between two readings of the server's CPU time, all in one transaction.

    SLOWLOG is emptied with each, so that what it has is known to be of the time since the call before.
    """

    def __init__(self, url: str, raw: redis.asyncio.Redis, pid: int) -> None:
        super().__init__(url, 3, KEYS)
        self._raw = raw
        self._pid = pid
        self._loaded: set[str] = set()
        self._waited_ms = held_off_ms(pid) + stolen_so_far_ms()
        self.cpu_ms: dict[str, list[float]] = defaultdict(list)
        """By the script's digest."""
        self.set_aside_ms: list[float] = []
        """CPU times over the limit that the host explains: while the call ran, it took cores of this virtual machine
        for at least as long as the call is over the limit, and Redis counts such time as its own."""
        self.windows: list[Window] = []

    async def run(self, call: Call, read: Callable[[Any], T]) -> T:
        script, keys, arguments = call
        if script.sha not in self._loaded:
            await self._raw.execute_command("SCRIPT", "LOAD", script.text)
            self._loaded.add(script.sha)
        waited_ms, stolen_ms = held_off_ms(self._pid), stolen_so_far_ms()
        async with self._raw.pipeline(transaction=True) as transaction:
            transaction.info("cpu")
            transaction.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            transaction.info("cpu")
            transaction.slowlog_get(100_000)
            transaction.slowlog_reset()
            before, answer, after, log, _ = await transaction.execute()
        thread = "_main_thread" if "used_cpu_user_main_thread" in before else ""
        clocks = (f"used_cpu_user{thread}", f"used_cpu_sys{thread}")
        cpu_ms = 1000 * sum(after[clock] - before[clock] for clock in clocks)
        is_stolen = SLOW_MS <= cpu_ms < SLOW_MS + stolen_so_far_ms() - stolen_ms
        (self.set_aside_ms if is_stolen else self.cpu_ms[script.sha]).append(cpu_ms)
        wall_ms = [entry["duration"] / 1000 for entry in log if entry["command"].startswith(b"EVAL")]
        waited_until_ms = held_off_ms(self._pid) + stolen_so_far_ms()
        self.windows.append(Window(wall_ms, waited_until_ms - self._waited_ms))
        self._waited_ms = waited_ms + stolen_ms
        return read(answer)


def stolen_so_far_ms() -> float:
    """How long this virtual machine's host has given its cores to others; 0 on a system that does not tell."""
    try:
        steal = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    except OSError:
        return 0
    return 1000 * steal / os.sysconf("SC_CLK_TCK")


def held_off_ms(pid: int) -> float:
    """How long a process was ready to run but had no core, since its start; 0 on a system that does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1_000_000
    except OSError:
        return 0


def note_and_judge(figures: Figures, measured: Measured, moved_s: float, took: list[float]) -> None:
    """Note what the calls worked and how long requests took (seconds); see that neither was too long."""
    took_ms = Spread.of(1000 * seconds for seconds in took)
    wall_ms = [duration for window in measured.windows for duration in window.wall_ms]
    promote_ms, schedule_ms = [Spread.of(measured.cpu_ms[SCRIPTS[verb].sha]) for verb in ("promote", "schedule")]
    figures.note(
        moved_in_s=moved_s,
        promote_cpu_ms=promote_ms,
        schedule_cpu_ms=schedule_ms,
        slowlog_most_ms=max(wall_ms, default=0),
        over_5_ms=sum(duration > SLOW_MS for duration in wall_ms),
        most_excess_ms=max(window.excess_ms for window in measured.windows),
        windows=len(measured.windows),
        set_aside_ms=max(measured.set_aside_ms, default=0),
        api_requests=len(took),
        api_ms=took_ms,
    )
    assert len(measured.set_aside_ms) <= 1
    assert 0 < promote_ms.most < SLOW_MS
    assert 0 < schedule_ms.most < SLOW_MS
    assert [window for window in measured.windows if window.excess_ms > window.waited_ms] == []
    assert took_ms.p99 < API_P99_MS


@pytest.mark.alone
@pytest.mark.case("3", "ten timers on one due set")
async def test_ten_timers_promote_each_task_once_and_hold_nobody_up(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """SLOWLOG counts also the time in which a call had no core: ten timers, API and clients want the same two. So what
    a call works is measured by itself: of promote by an eleventh timer, which also claims, of schedule in full batches
    before.

    What SLOWLOG has over the limit must be such a wait, and of that moment: the server was kept waiting at least as
    long between two calls of the eleventh timer, which are some tens of ms apart. So no other script can hide behind
    what another waited; the API's schedule and read run all the while.
    """
    count = scaled(50_000, 10_000)
    api = await checker.start("api")
    timers = [await checker.start("timers", "5", module=MODULE) for _ in range(2)]
    # So that all of them find all of it due.
    async with standing_still(*(process.process.pid for process in timers)):
        measured = Measured(checker.redis_url, raw, (await raw.info("server"))["process_id"])
        await enter(checker, count, measured)
        assert await queued(raw) == 0

        took: list[float] = []
        is_over = asyncio.Event()
        requests = asyncio.create_task(request_by_turns(checker, api, took, is_over))
        await wait_until(lambda: len(took) >= 4 * CLIENTS, "the first requests have opened the connections")
        took.clear()
        await raw.config_set("slowlog-max-len", 100_000)
        await raw.config_set("slowlog-log-slower-than", LOGGED_MS * 1000)
        store = Store(measured, "eleventh")

        async def promote() -> None:
            promotion = await store.promote(most_claims=DEFAULT.promoted_most)
            await store.release(promotion.claims)

        started = time.monotonic()
        await promote()
        measured.windows.clear()

    while await raw.zcard(KEYS.due) > 0:
        assert time.monotonic() - started < 30
        await promote()
    # Once more, for what the others did after the last.
    await promote()
    moved_s = time.monotonic() - started
    is_over.set()
    await requests
    await measured.aclose()
    note_and_judge(figures, measured, moved_s, took)
    await assert_each_is_queued_once(raw, checker)

    await checker.start("worker")
    await checker.drained()
    verdict = await checker.verdict()
    assert verdict.arrived == len(checker.sent)
    assert verdict.duplicated == 0
