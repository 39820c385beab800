"""Tasks that expire, and tasks that come again after a success, on workers that are killed. Case 30."""

import asyncio
import json
import random
from collections import defaultdict

import pytest
import redis.asyncio
from aiohttp import web

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.killing import killing
from tests.chaos.leases import SHORTENED, WINDOW_S
from tests.scripts.contents import counters

AGAIN_MOST = 3


@pytest.mark.case("30a", "tasks that expire, every worker away for a while, and SIGKILLed")
async def test_what_expires_is_counted_and_comes_no_more(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """Some are due while nothing delivers; some fail until it is too late; some lose their workers."""
    count, expire_s = scaled(6_000, 600), 1.0
    last = count // 4
    rng = random.Random(30)
    chance = [rng.random() for _ in range(count)]

    async def fail_some(request: web.Request) -> web.StreamResponse:
        number = json.loads(await request.read())["n"]
        await asyncio.sleep(0.1)
        return web.Response(status=500 if chance[number] < 0.2 else 200)

    checker.receiver.behaviour = fail_some
    api, worker = await checker.start("api"), await checker.start("worker", RETRY_TIME="0.3", **SHORTENED)
    rate = scaled(600, 150)

    async def load(count: int) -> None:
        await checker.load(api, count, lambda n: chance[n] * 2, rate=rate, options=lambda _: {"expire": expire_s})

    loading = asyncio.create_task(load(count - last))
    await asyncio.sleep(1)
    await checker.kill(worker)
    await asyncio.sleep(expire_s + 1)
    async with killing(checker, RETRY_TIME="0.3"):
        await loading
    # While workers come and go as slowly as a busy machine lets them, most may expire.
    await load(last)
    await checker.drained(WINDOW_S + 15)
    verdict = await checker.verdict()
    found = await counters(raw)
    assert verdict.expired > count / 20
    assert verdict.arrived > count / 4
    assert verdict.dead == 0
    assert found["expired"] == verdict.expired
    assert found["expired"] + found["delivered"] == found["scheduled"] == count


@pytest.mark.case("30b", "tasks that come again after a success, workers SIGKILLed")
async def test_what_comes_again_comes_as_often_as_its_receiver_asked(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(3_000, 300)
    dues: dict[int, set[str]] = defaultdict(set)

    async def ask_again(request: web.Request) -> web.StreamResponse:
        came = dues[json.loads(await request.read())["n"]]
        came.add(request.headers["Schedule-Due"])
        is_last = len(came) > AGAIN_MOST
        await asyncio.sleep(0.1)
        return web.Response(headers={} if is_last else {"Schedule-Again-In": "0.4"})

    checker.receiver.behaviour = ask_again
    api = await checker.start("api")
    async with killing(checker):
        await checker.load(
            api, count, ttl=lambda n: n % 10 / 10, rate=scaled(300, 150), options=lambda _: {"again_most": AGAIN_MOST}
        )
    await checker.drained(WINDOW_S + 30)
    verdict = await checker.verdict()
    figures.note(came_again=sum(len(came) - 1 for came in dues.values()))
    assert verdict.arrived == count
    assert {len(came) for came in dues.values()} == {AGAIN_MOST + 1}, "each time once"
    times = count * (AGAIN_MOST + 1)
    assert await counters(raw) == {"scheduled": times, "delivered": times}
