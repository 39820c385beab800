"""Replies of Redis that are lost, beside all that a task can say. Case 34."""

import asyncio
import json
from collections import defaultdict
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from aiohttp import web

from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.test_awaiting import WITHIN_S, Jobs
from tests.chaos.test_series import EVERY_S, dues
from tests.scripts.contents import counters
from tests.support.proxy import Proxy
from tests.support.service import TOKEN, Process
from tests.support.waiting import wait_until

DROPPED_EVERY = 7
AGAIN_MOST = 2
TIMES = 4


def is_known(task: Sent) -> bool:
    return task.is_acknowledged


class Parts:
    """What is done at once through one API, and the receiver."""

    def __init__(self, checker: Checker, api: Process) -> None:
        self.checker = checker
        self.api = api
        self.jobs = Jobs(checker, api)
        self.dues: dict[int, set[str]] = defaultdict(set)
        checker.receiver.behaviour = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/job":
            return await self.jobs(request)
        if request.path == "/fails":
            return web.Response(status=500)
        if request.path == "/again":
            came = self.dues[json.loads(await request.read())["n"]]
            came.add(request.headers["Schedule-Due"])
            return web.Response(headers={"Schedule-Again-In": "0.5"} if len(came) <= AGAIN_MOST else {})
        return web.Response()

    async def load(self, count: int, path: str, ttl: float = 0.5, **options: Any) -> list[Sent]:
        """Schedule tasks with options."""
        return await self.checker.load(
            self.api,
            count,
            lambda n: ttl * (n % 10) / 5,
            rate=100,
            webhook=self.checker.receiver.url + path,
            options=lambda _: options,
        )

    async def put(self, count: int) -> None:
        async def put_again(number: int) -> None:
            before = None
            # The second still waits when the third replaces it, on however slow a machine.
            for ttl in (0.3, 10, 0.3, 0.3):
                before = await self.checker.put(self.api, f"own:{number}", ttl, before)
                await asyncio.sleep(0.1)

        await asyncio.gather(*(put_again(number) for number in range(count)))

    async def pause(self, count: int) -> None:
        tasks = [task for task in await self.load(count, "", ttl=4) if is_known(task)]
        await self.checker.pause(self.api, tasks)
        await self.checker.resume(self.api, tasks)

    async def batch(self, count: int) -> list[Sent]:
        """Schedule a batch with an Idempotency-Key, sent again until it is answered."""
        sent = [self.checker.next(ttl=0.5) for _ in range(count)]
        port = (await self.api.started())["port"]
        headers = {"Authorization": TOKEN, "Idempotency-Key": f"batch-{sent[0][0].number}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:

            async def is_answered() -> bool:
                async with session.post("/schedules", json={"tasks": [body for _, body in sent]}) as response:
                    answer = await response.json()
                    for (task, _), told in zip(sent, answer["tasks"] if response.status == 200 else (), strict=False):
                        task.status = 200
                        self.checker.learn(task, told)
                    return response.status == 200

            await wait_until(is_answered, "an answer", 60)
        return [task for task, _ in sent]


@pytest.mark.case("34", f"the reply of every {DROPPED_EVERY}th command dropped, beside all that a task can say")
@pytest.mark.long
async def test_dropped_replies_double_and_lose_nothing_of_what_a_task_can_say(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(400, 25)
    api, *_ = [await checker.start(role, REDIS_URL=proxy.url, RETRY_TIME="0") for role in ("api", "worker", "worker")]
    parts = Parts(checker, api)
    proxy.drop_replies(DROPPED_EVERY)
    async with asyncio.TaskGroup() as tasks:
        series = tasks.create_task(parts.load(count, "", repeat={"every": EVERY_S, "times": TIMES, "missed": "all"}))
        again = tasks.create_task(parts.load(count, "again", again_most=AGAIN_MOST))
        batch = tasks.create_task(parts.batch(min(1_000, 4 * count)))
        failing = tasks.create_task(parts.load(count, "fails", retries=9, retry_time=0.5, expire=1.2))
        tasks.create_task(parts.load(count, "job", ack=True, ack_within=2 * WITHIN_S))
        tasks.create_task(parts.put(count))
        tasks.create_task(parts.pause(count))
    await checker.drained(120)
    await parts.jobs.ended()
    proxy.drop_replies(0)
    verdict = await checker.verdict()
    figures.note(replies_dropped=proxy.dropped)
    assert proxy.dropped > count
    assert verdict.replaced > 0
    assert verdict.dead == 0
    for task in filter(is_known, series.result()):
        found = dues(checker, task)
        assert found == [task.due_at + number * EVERY_S for number in range(TIMES)]
    assert {len(parts.dues[task.number]) for task in filter(is_known, again.result())} == {AGAIN_MOST + 1}
    arrivals = checker.arrivals()
    assert {len({arrival.key for arrival in arrivals[task.number]}) for task in batch.result()} == {1}
    counts = await counters(raw)
    # Those without an answer may have been scheduled, too.
    assert count >= counts["expired"] == verdict.expired >= sum(map(is_known, failing.result())) > 0
    assert counts["scheduled"] == counts["delivered"] + counts["expired"] + counts["ended"]
