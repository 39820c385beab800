"""Receivers that hang do not hold up another, neither its tasks nor its retries."""

import asyncio
import contextlib
import time

import psutil
import pytest
from aiohttp import web

from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.support.receiver import Receiver, receiving
from tests.support.service import Process
from tests.support.waiting import wait_until

RETRY_TIME_S = 1.0
TIMEOUT_S = 5.0
"""Half of the default, so that all slots of those that hang have timed out several times in the run."""


def slots_held(worker: Process, receivers: list[Receiver]) -> int:
    ports = {receiver.port for receiver in receivers}
    connections = psutil.Process(worker.process.pid).net_connections("tcp")
    return sum(at.status == psutil.CONN_ESTABLISHED and at.raddr.port in ports for at in connections if at.raddr)


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("hosts", "tasks_each", "concurrency", "steady_per_s"),
    [
        pytest.param(
            *(1, scaled(10_000, 2_000), 200, 100),
            marks=pytest.mark.case("16", "a receiver that hangs, with 10,000 tasks, beside one with 100 a second"),
        ),
        pytest.param(
            *(3, 1_000, 200, 100),
            marks=[pytest.mark.case("16a", "three receivers that hang, with 1,000 tasks each"), pytest.mark.full],
        ),
        pytest.param(
            *(1, 500, 8, 20),
            marks=[pytest.mark.case("16b", "a receiver that hangs, with 500 tasks, and 8 slots"), pytest.mark.full],
        ),
    ],
)
async def test_receivers_that_hang_do_not_delay_another(
    hosts: int, tasks_each: int, concurrency: int, steady_per_s: int, checker: Checker, figures: Figures
) -> None:
    has_healed = asyncio.Event()
    attempts = Attempts(failures=lambda number: int(number % 10 == 0))

    async def hang(_: web.Request) -> web.Response:
        await has_healed.wait()
        return web.Response()

    async with contextlib.AsyncExitStack() as stack:
        hanging = [await stack.enter_async_context(receiving()) for _ in range(hosts)]
        for receiver in hanging:
            receiver.behaviour = hang
        checker.receiver.behaviour = attempts
        api = await checker.start("api")
        settings = {"TIMEOUT": f"{TIMEOUT_S:g}", "RETRY_TIME": f"{RETRY_TIME_S:g}", "CONCURRENCY": f"{concurrency}"}
        worker = await checker.start("worker", RETRIES="-1", **settings)
        for receiver in hanging:
            await checker.load(api, tasks_each, ttl=1, webhook=receiver.url)
        steady = await checker.load(api, steady_per_s * scaled(20, 3), ttl=1, rate=steady_per_s)

        def have_come() -> bool:
            arrivals = checker.arrivals()
            return all(len(arrivals[task.number]) == 1 + (task.number % 10 == 0) for task in steady)

        await wait_until(have_come, "the other's tasks have all come", 40, every_s=0.2)
        arrivals = checker.arrivals()
        others = {task.number: arrivals[task.number] for task in steady}
        lateness = Spread.of(others[task.number][0].at - task.due_at for task in steady)
        retries = attempts.assert_each_once_and_none_early(others, RETRY_TIME_S)
        held = slots_held(worker, hanging)
        figures.note(other_lateness_s=lateness, other_retries_late_s=retries, slots_held=held, slots=concurrency)
        slow = {event["host"] for event in worker.events("receiver-slow")}
        assert slow == {f"127.0.0.1:{receiver.port}" for receiver in hanging}
        assert concurrency // 2 < held < concurrency, "they use what they may, and not all"
        assert lateness.p99 < 1
        assert retries.p99 < 1
        healed_at = time.time()
        has_healed.set()
        for receiver in hanging:
            receiver.behaviour = None
        await checker.drained(90)
        figures.note(drained_after_healing_s=time.time() - healed_at)
        for receiver in hanging:
            checker.receiver.arrivals += receiver.arrivals
        await checker.verdict()


def loopback_host(number: int, port: int) -> str:
    """Return a URL of one of 16 million hosts that are all this machine."""
    return f"http://127.{1 + number // 65_536}.{number // 256 % 256}.{number % 256}:{port}/"


def thousand(case: str, hosts: int, retry_time_s: int, steady_per_s: int, steady_s: int) -> object:
    title = (
        f"{hosts:,} hosts that hang, one task each, RETRY_TIME={retry_time_s}, beside one with {steady_per_s} a second"
    )
    marks = [pytest.mark.case(case, title), *([] if case == "16c" else [pytest.mark.full])]
    return pytest.param(hosts, retry_time_s, steady_per_s, steady_s, marks=marks)


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("hosts", "retry_time_s", "steady_per_s", "steady_s"),
    [
        thousand("16c", scaled(1_000, 400), scaled(5, 1), 100, scaled(40, 6)),
        thousand("16d", 3_000, 5, 10, 40),
        thousand("16e", 1_000, 60, 10, 100),
        thousand("16f", 3_000, 60, 100, 100),
    ],
)
async def test_a_thousand_hosts_that_hang_do_not_delay_another(
    hosts: int, retry_time_s: int, steady_per_s: int, steady_s: int, checker: Checker, figures: Figures
) -> None:
    has_healed = asyncio.Event()
    attempts = Attempts(failures=lambda number: int(number % 10 == 0))

    async def hang(_: web.Request) -> web.Response:
        await has_healed.wait()
        return web.Response()

    async with receiving(everywhere=True) as hanging:
        hanging.behaviour = hang
        checker.receiver.behaviour = attempts
        api = await checker.start("api")
        timeout_s = scaled(10, 3)
        worker = await checker.start("worker", TIMEOUT=f"{timeout_s}", RETRY_TIME=f"{retry_time_s}", CONCURRENCY="200")
        await checker.load(api, hosts, ttl=1, webhook=lambda number: loopback_host(number, hanging.port))
        steady = await checker.load(api, steady_per_s * steady_s, ttl=1, rate=steady_per_s)

        def have_come() -> bool:
            arrivals = checker.arrivals()
            return all(len(arrivals[task.number]) == 1 + (task.number % 10 == 0) for task in steady)

        await wait_until(have_come, "the other's tasks have all come", 40 + retry_time_s, every_s=0.2)
        arrivals = checker.arrivals()
        others = {task.number: arrivals[task.number] for task in steady}
        lateness = Spread.of(others[task.number][0].at - task.due_at for task in steady)
        retries = attempts.assert_each_once_and_none_early(others, retry_time_s)
        held, attempted = slots_held(worker, [hanging]), len(hanging.arrivals)
        figures.note(
            other_lateness_s=lateness, other_retries_late_s=retries, slots_held=held, attempts_that_hang=attempted
        )
        assert lateness.p99 < 1
        assert retries.p99 < 1
        assert hosts // 2 < held or 200 // 2 < held < 200, "they use what they may, and not all"
        healed_at = time.time()
        has_healed.set()
        hanging.behaviour = None
        await checker.drained(90 + retry_time_s)
        figures.note(drained_after_healing_s=time.time() - healed_at)
        checker.receiver.arrivals += hanging.arrivals
        await checker.verdict()
