"""One receiver that hangs does not hold up another."""

import asyncio
import time

import psutil
import pytest
from aiohttp import web

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, Spread, scaled
from tests.support.receiver import receiving
from tests.support.waiting import wait_until

STEADY_PER_S = 100


@pytest.mark.case("16", "a receiver that hangs, with 10,000 tasks, beside one with 100 a second")
async def test_a_receiver_that_hangs_does_not_delay_another(checker: Checker, figures: Figures) -> None:
    hanging_tasks, seconds = scaled(10_000, 2_000), scaled(40, 3)
    has_healed = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await has_healed.wait()
        return web.Response()

    async with receiving() as hanging:
        hanging.behaviour = hang
        api = await checker.start("api")
        worker = await checker.start("worker", RETRY_TIME="5", RETRIES="-1")
        await checker.load(api, hanging_tasks, ttl=1, webhook=hanging.url)
        steady = await checker.load(api, STEADY_PER_S * seconds, ttl=1, rate=STEADY_PER_S)
        wanted = {task.number for task in steady}
        await wait_until(lambda: wanted <= checker.arrivals().keys(), "the other's tasks have all come", 30)
        arrivals = checker.arrivals()
        lateness = Spread.of(arrivals[task.number][0].at - task.due_at for task in steady)
        connections = psutil.Process(worker.process.pid).net_connections("tcp")
        held = sum(
            at.raddr.port == hanging.port and at.status == psutil.CONN_ESTABLISHED for at in connections if at.raddr
        )
        figures.note(other_lateness_s=lateness, slots_held=held)
        assert [event["host"] for event in worker.events("receiver-slow")] == [f"127.0.0.1:{hanging.port}"]
        assert 150 < held < 200, "it uses what it may, and not all"
        assert lateness.p99 < 1
        healed_at = time.time()
        has_healed.set()
        hanging.behaviour = None
        await checker.drained(60)
        figures.note(drained_after_healing_s=time.time() - healed_at)
        checker.receiver.arrivals += hanging.arrivals
        await checker.verdict()
