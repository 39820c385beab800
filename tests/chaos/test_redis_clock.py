"""Redis' own clock is set, back or forward, while the service runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store import keys
from redis_scheduler.task.timing import DEFAULT
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.chaos.leases import LEASE_S, SHORTENED, WINDOW_S, pending
from tests.chaos.recovery import said_since
from tests.support.audit import audited
from tests.support.clock import SettableClock
from tests.support.names import KEYS
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Process
from tests.support.waiting import wait_until

STEP_S = 600.0


@pytest.fixture
def clock(tmp_path: Path) -> SettableClock:
    """Redis' clock: ten minutes ahead, as after a wrong start."""
    return SettableClock(tmp_path, STEP_S)


@pytest.fixture
async def server(tmp_path: Path, clock: SettableClock) -> AsyncIterator[RedisProcess]:
    """An empty Redis with that clock."""
    async with redis_process(tmp_path / "redis", environment=clock.environment) as process, audited(process.url):
        yield process


async def assert_ahead(raw: redis.asyncio.Redis, clock: SettableClock) -> None:
    """Redis' clock is what it was set to, or the test would say nothing."""
    seconds, _ = await raw.time()
    assert seconds == pytest.approx(time.time() + clock.ahead_s, abs=5)


async def set_back(clock: SettableClock, checker: Checker, restarting: RedisProcess | None) -> None:
    """Set Redis' clock to that of the machine; a server that restarts is down meanwhile."""
    if restarting is not None:
        await restarting.kill()
    clock.set(0)
    checker.clock_ahead_s = 0
    if restarting is not None:
        await restarting.start()


def assert_said(worker: Process, since: float, outage: set[str]) -> None:
    """See that a worker has said by how much the clock was set back, and that another was lost; and what is said of an
    outage, if there was one."""
    events = said_since([worker], since)
    [line] = [event for event in events if event["event"] == "clock-set-back"]
    # By the last sweep before it.
    assert STEP_S - 1.5 < line["by_s"] <= STEP_S
    assert {event["event"] for event in events} == {"clock-set-back", "worker-lost"} | outage, "no other outage"


async def stand_there(raw: redis.asyncio.Redis, checker: Checker, place: str, count: int, in_flight: set[str]) -> bool:
    """Whether so many tasks wait for a retry in a place, `waiting` or `due`, and these others are in flight."""
    rows = await pending(raw)
    parked = {key for key, row in rows.items() if row["consumer"] == keys.WAITING.encode()}
    deferred = await raw.zcard(KEYS.due)
    # What is claimed may not have been sent yet: what its worker loses then would come but once.
    arrived = {arrival.key for arrival in checker.receiver.arrivals}
    return in_flight <= arrived & (rows.keys() - parked) and (len(parked) if place == "waiting" else deferred) == count


async def held_by(raw: redis.asyncio.Redis, worker: Process, task_keys: set[str]) -> set[str]:
    """Return which of these tasks are pending for a worker."""
    owners = {key: row["consumer"].decode() for key, row in (await pending(raw)).items() if key in task_keys}
    return {key for key, owner in owners.items() if f"-{worker.process.pid}-" in owner}


@pytest.mark.parametrize(
    ("retry_time_s", "place", "restarts"),
    [
        pytest.param(
            WINDOW_S / 2,
            "waiting",
            False,
            marks=pytest.mark.case("19c", "Redis' clock set back by ten minutes: retries, leases"),
        ),
        pytest.param(
            WINDOW_S + 1,
            "due",
            False,
            marks=[
                pytest.mark.case("19d", "Redis' clock set back by ten minutes: deferred retries, leases"),
                pytest.mark.full,
            ],
        ),
        pytest.param(
            WINDOW_S / 2,
            "waiting",
            True,
            marks=[
                pytest.mark.case("19f", "Redis killed, and started with its clock set back by ten minutes"),
                pytest.mark.full,
            ],
        ),
    ],
)
async def test_what_waits_when_the_clock_is_set_back_comes_when_it_was_asked_for(
    retry_time_s: float,
    place: str,
    restarts: bool,
    server: RedisProcess,
    checker: Checker,
    clock: SettableClock,
    raw: redis.asyncio.Redis,
    figures: Figures,
) -> None:
    """One worker dies in the same moment, with deliveries in flight."""
    count, held_count, is_open = scaled(1_500 if place == "due" else 900, 60), 40, asyncio.Event()
    attempts = Attempts(failures=lambda number: int(number < count))

    async def behave(request: web.Request) -> web.StreamResponse:
        if request.path == "/held":
            await is_open.wait()
        return await attempts(request)

    checker.receiver.behaviour = behave
    checker.clock_ahead_s = STEP_S
    api = await checker.start("api")
    killed, living = [
        await checker.start("worker", RETRY_TIME=f"{retry_time_s}", CONCURRENCY="100", **SHORTENED) for _ in range(2)
    ]
    await assert_ahead(raw, clock)
    await checker.load(api, count)
    held = await checker.load(api, held_count, webhook=checker.receiver.url + "held")
    in_flight = {task.key for task in held}

    await wait_until(lambda: stand_there(raw, checker, place, count, in_flight), f"all is in {place} or in flight", 30)
    lost = await held_by(raw, killed, in_flight)
    await checker.kill(killed)
    assert 0 < len(lost) < held_count

    stepped_at = time.time()
    await set_back(clock, checker, server if restarts else None)
    is_open.set()
    await assert_ahead(raw, clock)
    await checker.load(api, 100, ttl=0.5)
    await checker.drained(2 * retry_time_s + LEASE_S + 10)

    arrivals = checker.arrivals()
    numbers = {task.number for task in held if task.key in lost}
    once = {number: found for number, found in arrivals.items() if number not in numbers}
    retries = attempts.assert_each_once_and_none_early(once, retry_time_s)
    leases = Spread.of(found[-1].at - stepped_at for number, found in arrivals.items() if number in numbers)
    figures.note(retries=count, retries_late_s=retries, lost_in_delivery=len(lost), their_leases_s=leases)
    assert_said(living, stepped_at, {"redis-away", "redis-back"} if restarts else set())
    verdict = await checker.verdict()
    assert verdict.duplicated == len(lost)
    assert verdict.lateness.most < SLOWNESS
    # A second by which the step may be told too small, where only deferred tasks wait; and the rush of all at once. A
    # server that starts reads times in the future as its own present: what waited then waits once more for RETRY_TIME
    # at most.
    assert retries.most < 2.5 * SLOWNESS + (retry_time_s if restarts else 0)
    assert leases.most < LEASE_S + 5 * SLOWNESS


@pytest.mark.case("19e", "Redis' clock set forward by ten minutes: what is in delivery")
@pytest.mark.full
async def test_no_living_worker_loses_a_lease_when_the_clock_is_set_forward(
    checker: Checker, clock: SettableClock, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    clock.set(0)
    checker.receiver.may_answer.clear()
    api = await checker.start("api")
    workers = [await checker.start("worker", CONCURRENCY="100", TIMEOUT="60") for _ in range(3)]
    await assert_ahead(raw, clock)
    await checker.load(api, 200)
    await wait_until(lambda: len(checker.receiver.arrivals) == 200, "all are in delivery")
    stepped_at = time.time()
    clock.set(STEP_S)
    checker.clock_ahead_s = STEP_S
    await assert_ahead(raw, clock)
    # Two renewals on, and the sweeps that are held meanwhile.
    await checker.load(api, 20, ttl=2 * DEFAULT.renew_interval_s + DEFAULT.sweep_hold_ms / 1000)
    await wait_until(lambda: len(checker.receiver.arrivals) >= 220, "the last are in delivery", 30)
    checker.receiver.may_answer.set()
    await checker.drained()
    for worker in workers:
        lines = said_since([worker], stepped_at)
        assert len(lines) == 1, lines
        [line] = lines
        assert line["event"] == "clock-set-forward"
        assert line["by_s"] == pytest.approx(STEP_S, abs=1)
    figures.note(posts=len(checker.receiver.arrivals))
    verdict = await checker.verdict()
    assert verdict.duplicated == 0
