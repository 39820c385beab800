"""Series: many of them on workers that are killed, a service that is away for some occurrences, and changes while one
runs. Case 27."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from tests.chaos.accounts import Sent, by_occurrence
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.killing import killing
from tests.chaos.leases import SHORTENED, WINDOW_S
from tests.chaos.recovery import kill_between_syncs
from tests.scripts.contents import counters
from tests.support.receiver import Arrival
from tests.support.redis_process import RedisProcess
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

EVERY_S = 1


def due_s(arrival: Arrival) -> float:
    return datetime.fromisoformat(arrival.headers["Schedule-Due"]).timestamp()


def dues(checker: Checker, task: Sent) -> list[float]:
    """The intended times of the occurrences of a series that arrived, by their numbers."""
    found = by_occurrence(checker.arrivals()[task.number])
    return [due_s(found[number][0]) for number in sorted(found)]


def is_in_step(times: list[float], first: float) -> bool:
    """Whether each time is later than the one before, and whole intervals after the first: no series drifts."""
    steps = [round((at - first) / EVERY_S, 3) for at in times]
    return steps == sorted({round(step) for step in steps})


async def made_in_step(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures, tasks: list[Sent], times: int
) -> None:
    """Each series has made each of its occurrences once, in step, and has ended."""
    verdict, count = await checker.verdict(), len(tasks)
    figures.note(series=count)
    assert verdict.occurrences == count * times
    for task in tasks:
        assert dues(checker, task) == [task.due_at + number * EVERY_S for number in range(times)], "none is left out"
    assert await counters(raw) == {"scheduled": count * (times + 1), "delivered": count * times, "ended": count}


def in_all(times: int) -> Callable[[int], dict[str, Any]]:
    return lambda _: {"repeat": {"every": EVERY_S, "times": times, "missed": "all"}}


@pytest.mark.case("27a", "series on two workers, SIGKILLed at random")
async def test_each_occurrence_is_made_once_whichever_worker_is_killed(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """A worker is killed between the claim of a series and its firing, between that and a delivery, or in one."""
    count, times = scaled(300, 40), scaled(30, 5)
    checker.receiver.delay_s = 0.15
    api = await checker.start("api")
    async with killing(checker, least=4):
        tasks = await checker.load(api, count, options=in_all(times))
        await checker.drained(times * EVERY_S + WINDOW_S + 60)
    await made_in_step(checker, raw, figures, tasks, times)


@pytest.mark.case("27d", "series, Redis killed and started again")
async def test_each_occurrence_is_made_once_though_redis_is_killed(
    checker: Checker, server: RedisProcess, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, times, restarts = scaled(300, 40), scaled(30, 5), scaled(6, 1)
    api, _ = await checker.start("api"), await checker.start("worker")
    tasks = await checker.load(api, count, options=in_all(times))
    for _ in range(restarts):
        await asyncio.sleep(1.5)
        await kill_between_syncs(server, raw)
        await asyncio.sleep(0.5)
        await server.start()
    await checker.drained(times * EVERY_S + WINDOW_S + 60)
    figures.note(restarts=restarts)
    await made_in_step(checker, raw, figures, tasks, times)


@pytest.mark.case("27b", "every worker away for several occurrences of a series")
async def test_what_passed_while_nothing_delivered_is_made_as_the_series_says(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """`skip` makes what is less than a minute late, so that only the full numbers, which are away for longer, see it
    skip."""
    away_s, times = scaled(70, 3), 4
    count = scaled(30, 10)
    api, worker = await checker.start("api"), await checker.start("worker", **SHORTENED)
    rules = ("latest", "all", "skip")

    def repeat(number: int) -> dict[str, Any]:
        return {"repeat": {"every": EVERY_S, "times": times + away_s, "missed": rules[number % len(rules)]}}

    tasks = await checker.load(api, count * len(rules), options=repeat)
    await wait_until(lambda: len(checker.receiver.arrivals) >= 2 * len(tasks), "two occurrences have come", 30)
    await checker.kill(worker)
    gone_at = time.time()
    await asyncio.sleep(away_s)
    back_at = time.time()
    await checker.start("worker", **SHORTENED)
    await checker.drained(times + 2 * away_s + WINDOW_S + 60)
    verdict = await checker.verdict()
    figures.note(series=len(tasks), away_s=away_s)
    # The new worker may take a while to begin.
    begun_at = min(arrival.at for arrival in checker.receiver.arrivals if due_s(arrival) > gone_at + EVERY_S)
    assert verdict.occurrences == len(tasks) * (times + away_s)
    for number, task in enumerate(tasks):
        found = dues(checker, task)
        assert is_in_step(found, task.due_at)
        missed = [at for at in found if gone_at + EVERY_S < at < back_at - EVERY_S]
        match rules[number % len(rules)]:
            case "all":
                assert len(found) == round(found[-1] - found[0]) + 1, "none is left out"
            case "latest":
                assert missed == []
                assert [at for at in found if back_at - 2 * EVERY_S <= at <= begun_at], "one is made late"
            case "skip":
                assert all(back_at - at < 60 for at in missed)
    ended = len(tasks)
    assert await counters(raw) == {
        "scheduled": ended + verdict.occurrences,
        "delivered": verdict.occurrences,
        "ended": ended,
    }


@pytest.mark.case("27c", "series changed while their occurrences run, workers SIGKILLed")
async def test_what_is_made_after_a_change_is_as_changed_and_the_series_goes_on(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, changes = scaled(60, 12), scaled(15, 4)
    rng = random.Random(27)
    checker.receiver.delay_s = 0.4
    api = await checker.start("api")
    url = f"http://127.0.0.1:{(await api.started())['port']}/schedule"
    changed_at: dict[int, list[float]] = {}

    async def change(session: aiohttp.ClientSession, task: Sent) -> None:
        for version in range(1, changes + 1):
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            body: dict[str, Any] = {"data": {"n": task.number, "v": version}}
            if version == changes:
                # It begins anew, and ends after two occurrences.
                until = datetime.fromtimestamp(time.time() + 2.9 * EVERY_S, UTC).isoformat()
                body["repeat"] = {"every": EVERY_S, "until": until, "missed": "all"}
            async with session.patch(f"{url}/{task.key}", json=body) as response:
                assert response.status == 200, await response.text()
            changed_at.setdefault(task.number, []).append(time.time())

    async with killing(checker):
        # Endless until their last change.
        options = {"repeat": {"every": EVERY_S, "missed": "all"}}
        tasks = await checker.load(api, count, options=lambda _: options)
        async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
            await asyncio.gather(*(change(session, task) for task in tasks))
    await checker.drained(WINDOW_S + 60)
    await checker.verdict()
    old = 0
    for task in tasks:
        arrivals = checker.arrivals()[task.number]
        for arrival in arrivals:
            version = int((arrival.json() or {}).get("v", 0))
            since = sum(at < due_s(arrival) for at in changed_at[task.number])
            assert version >= since, "made after a change, without it"
            old += version < changes
        last = {arrival.key for arrival in arrivals if arrival.json().get("v") == changes}
        assert len(last) == 2, "the series begins anew, and ends"
    figures.note(series=count, changes=count * changes, occurrences_before_the_last=old)
    assert old > count
    found = await counters(raw)
    assert (found["ended"], found["scheduled"]) == (count, count + found["delivered"])
