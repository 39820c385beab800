"""Processes whose clocks are wrong."""

import time
from pathlib import Path

import pytest

from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.recovery import moment
from tests.support.clock import SettableClock

HOUR_S = 3600
RETRY_TIME_S = 1.0


@pytest.mark.parametrize(
    ("api_shift_s", "worker_shift_s"),
    [
        pytest.param(HOUR_S, -HOUR_S, marks=pytest.mark.case("19a", "API an hour fast, worker an hour slow")),
        pytest.param(
            -HOUR_S, HOUR_S, marks=[pytest.mark.case("19b", "API an hour slow, worker an hour fast"), pytest.mark.full]
        ),
    ],
)
async def test_a_container_with_a_wrong_clock_fires_nothing_early_or_late(
    api_shift_s: int, worker_shift_s: int, checker: Checker, figures: Figures
) -> None:
    attempts = Attempts(failures=lambda number: int(number % 10 == 0))
    checker.receiver.behaviour = attempts
    settings = {"module": "tests.support.shifted_clock", "RETRY_TIME": f"{RETRY_TIME_S:g}"}
    api = await checker.start("api", CLOCK_SHIFT_S=f"{api_shift_s}", **settings)
    worker = await checker.start("worker", CLOCK_SHIFT_S=f"{worker_shift_s}", **settings)
    [at_api], [at_worker] = api.events("started"), worker.events("started")
    assert abs(moment(at_api) - moment(at_worker)) > 1.9 * HOUR_S
    await checker.load(api, scaled(3_000, 300), ttl=lambda number: number % 20 / 10)
    await checker.drained()
    verdict = await checker.verdict()
    retries = attempts.assert_each_once_and_none_early(checker.arrivals(), RETRY_TIME_S)
    figures.note(retry_lateness_s=retries)
    assert verdict.duplicated == 0
    assert max(verdict.lateness.most, retries.most) < 1


@pytest.mark.case("19g", "the clock of API and worker set forward and back by an hour, under load")
@pytest.mark.full
async def test_a_step_of_a_containers_clock_disturbs_nothing(
    tmp_path: Path, checker: Checker, figures: Figures
) -> None:
    clock = SettableClock(tmp_path, 0)
    attempts = Attempts(failures=lambda number: int(number % 10 == 0))
    checker.receiver.behaviour = attempts
    settings = {"RETRY_TIME": f"{RETRY_TIME_S:g}"} | clock.environment
    api, worker = [await checker.start(role, **settings) for role in ("api", "worker")]
    for ahead_s in (HOUR_S, -HOUR_S, 0):
        clock.set(ahead_s)
        await checker.load(api, 1_000, ttl=lambda number: number % 20 / 10, rate=500)
    await checker.drained()
    logged = {round((moment(event) - time.time()) / HOUR_S) for event in worker.events("retry")}
    assert logged == {0, 1, -1}
    verdict = await checker.verdict()
    retries = attempts.assert_each_once_and_none_early(checker.arrivals(), RETRY_TIME_S)
    figures.note(retry_lateness_s=retries)
    assert verdict.duplicated == 0
    assert max(verdict.lateness.most, retries.most) < 1
    said = {
        name
        for process in (api, worker)
        for name in ("redis-away", "clock-set-forward", "clock-set-back")
        if process.events(name)
    }
    assert said == set()
