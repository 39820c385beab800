"""A pending list whose head is not eligible."""

import asyncio

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store import keys
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import FULL, Figures, scaled
from tests.support.names import KEYS
from tests.support.receiver import receiving
from tests.support.waiting import wait_until

HEAD = 2_000
"""Entries in delivery, at the start of the pending list."""

RETRY_TIME_S = 2.0
PUNCTUAL_S = 0.5 if FULL else 1.5
"""A retry that the head held up would come with the head, or steps of the sweep later. Beside other tests it has little
of the machine."""


@pytest.mark.case("4", "2,000 entries in delivery before those that wait for a retry")
async def test_a_retry_behind_a_long_ineligible_head_is_redelivered_on_time(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    has_healed = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await has_healed.wait()
        return web.Response()

    async with receiving() as hanging:
        hanging.behaviour = hang
        attempts = Attempts(failures=lambda _: 1)
        checker.receiver.behaviour = attempts
        settings = {"RETRY_TIME": f"{RETRY_TIME_S:g}", "TIMEOUT": "60"}
        api = await checker.start("api")
        await checker.start("worker", CONCURRENCY=f"{2 * HEAD}", **settings)
        await checker.load(api, HEAD, webhook=hanging.url, clients=16)

        async def are_in_delivery() -> bool:
            return bool((await raw.xpending(KEYS.queue, keys.GROUP))["pending"] == HEAD)

        await wait_until(are_in_delivery, "the head is in delivery", 20)
        behind = await checker.load(api, scaled(300, 50), ttl=lambda number: number / 50)
        wanted = {task.number for task in behind}

        def have_come_twice() -> bool:
            arrivals = checker.arrivals()
            return all(len(arrivals[number]) == 2 for number in wanted)

        await wait_until(have_come_twice, "every retry has come", 30, every_s=0.1)
        rows = await raw.xpending_range(KEYS.queue, keys.GROUP, "-", "+", HEAD)
        assert len(rows) == HEAD, "the head has not moved"
        lateness = attempts.assert_each_once_and_none_early(checker.arrivals(), RETRY_TIME_S)
        figures.note(retries=len(wanted), retry_lateness_s=lateness)
        assert lateness.most < PUNCTUAL_S
        has_healed.set()
        await checker.drained()
        checker.receiver.arrivals += hanging.arrivals
        await checker.verdict()
