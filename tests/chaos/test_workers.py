"""Workers under faults: killed at random, stopped under load, five hundred that come and go. Cases 1, 14 and 15."""

import asyncio
import itertools
import random
import signal
import time

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.task.timing import DEFAULT
from tests.chaos.accounts import LATE_S
from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.chaos.leases import LEASE_S, SHORTENED, WINDOW_S
from tests.chaos.recovery import moment
from tests.scripts.contents import counters
from tests.support.engine import MODULE
from tests.support.names import KEYS
from tests.support.service import Process
from tests.support.waiting import wait_until

GRACE_S = 15.0
"""SHUTDOWN_GRACE, as it is unless it is set."""


def attempts(checker: Checker) -> set[int]:
    """The attempt numbers that the receiver has seen."""
    return {arrival.attempt for arrival in checker.receiver.arrivals}


def waits(checker: Checker) -> list[float]:
    """For how long the tasks that lost a worker waited for another: the longest wait of each, from its due time, or
    from an attempt that ended with its worker, to the next attempt. (Which may be the worker after the next.)"""
    found = []
    for number, arrivals in checker.arrivals().items():
        at = [checker.sent[number].due_at, *(arrival.at for arrival in arrivals)]
        longest = max(after - before for before, after in itertools.pairwise(at))
        if len(arrivals) > 1 or longest > LATE_S:
            found.append(longest)
    return found


@pytest.mark.case("1", "workers SIGKILLed at random")
async def test_workers_killed_at_random_lose_nothing(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, size, seed = scaled(20_000, 1_500), 3, random.randrange(2**32)
    rng = random.Random(seed)
    checker.receiver.delay_s = 0.2

    def launch() -> Process:
        return checker.launch("worker", CONCURRENCY="100", **SHORTENED)

    api = await checker.start("api")
    workers = [launch() for _ in range(size)]
    loading = asyncio.create_task(checker.load(api, count, ttl=lambda _: rng.uniform(0, 2), rate=scaled(800, 400)))
    kills = 0
    while not loading.done() and kills < 100:
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        victim = rng.randrange(size)
        await workers[victim].started()
        await wait_until(lambda: checker.receiver.in_flight, "deliveries are under way", 20)
        await checker.kill(workers[victim])
        kills += 1
        workers[victim] = launch()
    await loading
    # A claim whose lease had not begun when its worker was killed waits for the whole window.
    await checker.drained(WINDOW_S + 15)
    verdict = await checker.verdict()
    waited = waits(checker)
    for_the_window = sum(wait > WINDOW_S - 1 for wait in waited)
    figures.note(
        longest_wait_s=Spread.of(waited), waited_for_the_window=for_the_window, workers_killed=kills, seed=seed
    )
    assert kills >= scaled(10, 2)
    assert verdict.dead == 0
    assert verdict.arrived == count
    # A claim that ended with its worker is no attempt.
    assert attempts(checker) == {1}
    assert await counters(raw) == {"scheduled": count, "delivered": count}


def in_flight(process: Process) -> int:
    """How many deliveries were under way when the process was told to stop."""
    return sum(event["in_flight"] for event in process.events("draining"))


async def arrived(checker: Checker, count: int) -> None:
    """Wait until so many deliveries have arrived."""
    await wait_until(lambda: len(checker.receiver.arrivals) >= count, "deliveries are under way", 20)


@pytest.mark.case("14a", "SIGTERM under load")
async def test_a_worker_stopped_under_load_finishes_what_is_in_flight_and_begins_nothing(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """One worker after the other: what arrives while one stops can only come from it."""
    rounds, count = scaled(6, 1), scaled(6_000, 1_000)
    arrivals = checker.receiver.arrivals
    checker.receiver.delay_s = 0.4
    api = await checker.start("api")
    loading = asyncio.create_task(checker.load(api, count, rate=400))
    begun_s: list[float] = []
    exit_s: list[float] = []
    finished = 0
    for _ in range(rounds):
        worker = await checker.start("worker")
        await arrived(checker, len(arrivals) + 500)
        await wait_until(lambda: checker.receiver.in_flight > 60, "deliveries are under way", 20)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        [heard] = worker.events("stopping")
        exit_s.append(time.time() - moment(heard))
        begun_s.append(arrivals[-1].at - moment(heard))
        finished += in_flight(worker)
        # Whatever it began it has ended, and it holds nothing any more.
        counts = await counters(raw)
        assert counts == {"scheduled": counts["scheduled"], "delivered": len(arrivals)}
        assert await consumers(raw, worker) == {}
    figures.note(
        stops=rounds, in_flight_finished=finished, last_begun_s=max(begun_s), exit_s=max(exit_s), grace_s=GRACE_S
    )
    assert finished > rounds * 50
    assert max(begun_s) < 0.3 * SLOWNESS
    assert max(exit_s) < GRACE_S
    await checker.start("worker")
    await loading
    await checker.drained()
    verdict = await checker.verdict()
    assert verdict.arrived == len(arrivals) == count
    assert attempts(checker) == {1}
    assert await counters(raw) == {"scheduled": count, "delivered": count}


@pytest.mark.case("14b", "a second SIGTERM")
async def test_a_second_signal_ends_the_process_at_once_and_loses_nothing(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """API and worker in one process, which deliveries of 8 s would keep for as long."""
    count, slow_s = 600, 8.0
    checker.receiver.delay_s = slow_s
    service = await checker.start()
    loading = asyncio.create_task(checker.load(service, count))
    await wait_until(lambda: checker.receiver.in_flight > 100, "deliveries are under way", 20)
    service.signal(signal.SIGTERM)
    await wait_until(lambda: in_flight(service), "it waits for them")
    asked_at = time.monotonic()
    service.signal(signal.SIGTERM)
    assert await service.ended() == 0
    exit_s = time.monotonic() - asked_at
    [released] = service.events("released")
    cut_off = len(checker.receiver.arrivals)
    figures.note(exit_s=exit_s, cut_off=cut_off, released=released["deliveries"])
    await loading

    checker.receiver.delay_s = 0
    service = await checker.start()
    started_at = time.monotonic()
    await checker.drained()
    # What was given back is taken at once, not when a lease is over.
    assert time.monotonic() - started_at < DEFAULT.lease_ms / 2000
    verdict = await checker.verdict()
    assert exit_s < slow_s / 4
    assert released["deliveries"] >= cut_off >= 100
    assert verdict.duplicated == cut_off
    assert attempts(checker) == {1}
    assert set(await counters(raw)) == {"scheduled", "delivered"}


async def consumers(raw: redis.asyncio.Redis, *processes: Process) -> dict[str, int]:
    """The consumers of these processes, of all if none is named, with how many entries are pending for each."""
    rows = await raw.xinfo_consumers(KEYS.queue, keys.GROUP)
    found = {row["name"].decode(): row["pending"] for row in rows}
    marks = [f"-{process.process.pid}-" for process in processes]
    return {name: pending for name, pending in found.items() if not marks or any(mark in name for mark in marks)}


@pytest.mark.full
@pytest.mark.case("15", "workers that come and go (window shortened to 20 s, retirement to 10 s with a look every 4 s)")
async def test_workers_that_come_and_go_leave_no_consumers_and_drop_nothing(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """Every second process leaves in order, the others are killed in the middle of deliveries. Consumers without a sign
    of life are looked at long before the leases of what they held are over, so one that still holds entries must
    stay."""
    per_process, processes, together = 20, 25, 5
    idle_ms, interval_s = 10_000, 4
    checker.receiver.delay_s = 0.3
    api = await checker.start("api")
    settings = {
        "LEASE_MS": f"{LEASE_S * 1000:.0f}",
        # A worker that is killed in the instant between a claim and its lease leaves it for the whole window.
        "WINDOW_MS": f"{(LEASE_S + 5) * 1000:.0f}",
        "CONCURRENCY": "10",
        "RETIRE_IDLE_MS": str(idle_ms),
        "RETIRE_INTERVAL_S": str(interval_s),
    }
    loading = asyncio.create_task(checker.load(api, 12_000, rate=300))
    alive: list[Process] = []
    held_by_killed = most = killed = 0
    for number in range(processes):
        alive.append(await checker.start("workers", str(per_process), module=MODULE, **settings))
        most = max(most, len(await consumers(raw)))
        if len(alive) < together:
            continue
        leaving = alive.pop(0)

        async def delivers(leaving: Process = leaving) -> int:
            return sum((await consumers(raw, leaving)).values())

        pending = await wait_until(delivers, "deliveries are under way", 20)
        if number % 2:
            leaving.signal(signal.SIGTERM)
            assert await leaving.ended() == 0
            assert await consumers(raw, leaving) == {}
        else:
            await checker.kill(leaving)
            held_by_killed += pending
            killed += per_process
    await loading
    await checker.drained(LEASE_S + 20)

    async def are_bounded() -> bool:
        return set(await consumers(raw)) <= {*(await consumers(raw, *alive)), keys.WAITING}

    await wait_until(are_bounded, "the consumers of killed workers are gone", idle_ms / 1000 + interval_s + 5)
    figures.note(
        workers=per_process * processes,
        killed=killed,
        held_by_killed=held_by_killed,
        most_consumers=most,
        consumers_at_last=len(await consumers(raw)),
        alive=per_process * len(alive),
    )
    assert held_by_killed > 0
    assert len(await consumers(raw)) <= per_process * len(alive) + 1
    verdict = await checker.verdict()
    assert verdict.dead == 0
    assert attempts(checker) == {1}
