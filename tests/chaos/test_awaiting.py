"""Long jobs: their receiver takes them on with a 202 and says later what became of them, while workers are killed, or
Redis is. Case 26."""

import asyncio
import json
import time
from collections import Counter

import aiohttp
import pytest
import redis.asyncio
from aiohttp import web

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.killing import killing
from tests.chaos.leases import WINDOW_S
from tests.chaos.recovery import kill_between_syncs
from tests.scripts.contents import counters
from tests.support.redis_process import RedisProcess
from tests.support.service import TOKEN, Process
from tests.support.waiting import wait_until

JOB_S = 0.6
WITHIN_S = 2.0
"""What nobody speaks of for so long has failed."""


class Jobs:
    """The receiver: it takes each task on, and says twice what became of it, until it is answered.

    A third fails at its first attempt, a third is forgotten then, the others are extended once.
    """

    def __init__(self, checker: Checker, api: Process) -> None:
        self.checker = checker
        self.api = api
        self.said: Counter[str] = Counter()
        self._jobs: set[asyncio.Task[None]] = set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        number = json.loads(await request.read())["n"]
        key, token = request.headers["Schedule-Key"], request.headers["Schedule-Ack"]
        job = asyncio.create_task(self._work(number, key, token, int(request.headers["Schedule-Attempt"])))
        self._jobs.add(job)
        return web.Response(status=202)

    async def _work(self, number: int, key: str, token: str, attempt: int) -> None:
        if number % 3 == 1 and attempt == 1:
            return
        port = (await self.api.started())["port"]
        verbs = ["fail"] if number % 3 == 2 and attempt == 1 else ["extend", "done"]
        headers = {"Authorization": TOKEN, "Schedule-Ack": token}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
            for verb in verbs:
                await asyncio.sleep(JOB_S / len(verbs))
                for _ in range(2):
                    await self._say(session, number, key, verb)

    async def _say(self, session: aiohttp.ClientSession, number: int, key: str, verb: str) -> None:
        async def is_answered() -> bool:
            try:
                async with session.post(f"/schedule/{key}/{verb}") as response:
                    status = response.status
            except aiohttp.ClientError:
                return False
            if (verb, status) == ("done", 200):
                task = self.checker.sent[number]
                task.done_at = task.done_at or time.time()
            if status != 503:
                assert status in (200, 404, 409)
                self.said[f"{verb} {status}"] += 1
            return status != 503

        await wait_until(is_answered, "an answer", 60)

    async def ended(self) -> None:
        await asyncio.gather(*self._jobs)


async def take_on(checker: Checker, jobs: Jobs, count: int, rate: int) -> None:
    checker.receiver.behaviour = jobs
    await checker.load(
        jobs.api, count, ttl=lambda n: n % 10 / 10, rate=rate, options=lambda _: {"ack": True, "ack_within": WITHIN_S}
    )


async def accounted(checker: Checker, jobs: Jobs, raw: redis.asyncio.Redis, figures: Figures) -> None:
    """Wait for the end: each task was delivered once, and failed as often as its receiver said so or forgot it."""
    await checker.drained(WINDOW_S + 30)
    await jobs.ended()
    verdict = await checker.verdict()
    figures.note(**{name.replace(" ", "_"): number for name, number in sorted(jobs.said.items())})
    found = await counters(raw)
    assert verdict.arrived == found["scheduled"] == found["delivered"] >= verdict.acknowledged
    # Others only where the receiver could not say so in time.
    assert found["failed"] >= sum(number % 3 > 0 for number in checker.arrivals())
    assert jobs.said["done 200"] > 0
    assert jobs.said["fail 200"] > 0


@pytest.mark.case("26a", "long jobs, workers SIGKILLed while they are awaited")
async def test_awaited_tasks_outlive_their_workers(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(3_000, 240)
    api = await checker.start("api")
    jobs = Jobs(checker, api)
    async with killing(checker, RETRY_TIME="0"):
        await take_on(checker, jobs, count, rate=scaled(200, 80))
    await accounted(checker, jobs, raw, figures)


@pytest.mark.case("26b", "long jobs, Redis killed and started again while they are awaited")
async def test_awaited_tasks_outlive_redis(
    checker: Checker, server: RedisProcess, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, restarts = scaled(3_000, 240), scaled(4, 1)
    api = await checker.start("api")
    jobs = Jobs(checker, api)
    await checker.start("worker", RETRY_TIME="0")
    loading = asyncio.create_task(take_on(checker, jobs, count, rate=scaled(200, 80)))
    for _ in range(restarts):
        await asyncio.sleep(1.5)
        await kill_between_syncs(server, raw)
        await asyncio.sleep(0.5)
        await server.start()
    await loading
    figures.note(restarts=restarts)
    await accounted(checker, jobs, raw, figures)
