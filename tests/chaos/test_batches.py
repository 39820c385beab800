"""Many tasks in one request, whose API is killed in the middle of it: a batch with an Idempotency-Key that is sent
again, and what is done to all that filters want. Cases 28 and 29."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.leases import SHORTENED
from tests.scripts.contents import counters
from tests.support.names import KEYS
from tests.support.service import TOKEN
from tests.support.waiting import wait_until

BATCH = 1_000
SHIFT_S = -600
REQUESTS_MOST = 500
"""A request that was sent so often has no end."""


class Caller:
    """A client of an API that is killed in the middle of requests, and started again."""

    def __init__(self, checker: Checker, session: aiohttp.ClientSession, raw: redis.asyncio.Redis, seed: int) -> None:
        self.checker = checker
        self.session = session
        self.raw = raw
        self.rng = random.Random(seed)
        self.kills = 0

    async def call(self, path: str, body: object = None, key: str | None = None, kills: bool = False) -> Any:
        """Send a request; return its answer. With `kills` the API is killed when Redis has some of what the request
        writes: mostly without an answer then, which is None."""
        before = await self._written()
        api = self.checker.launch("api")
        url = f"http://127.0.0.1:{(await api.started())['port']}{path}"
        request = asyncio.create_task(_answer(self.session, url, body, key))
        while kills and not request.done() and await self._written() == before:
            pass
        if kills:
            await asyncio.wait([request], timeout=self.rng.uniform(0, 0.02))
            self.kills += not request.done()
        else:
            await asyncio.wait([request])
        await self.checker.kill(api)
        return await request

    async def _written(self) -> list[Any]:
        """What tells that the middle of a request is there."""
        moment = self.raw.pipeline(transaction=True)
        for place in (KEYS.due, KEYS.paused, KEYS.dead):
            moment.zcard(place)
        for end in (0, -1):
            moment.execute_command("ZRANGE", KEYS.due, end, end, "WITHSCORES")
        return await moment.execute()


async def _answer(session: aiohttp.ClientSession, url: str, body: object, key: str | None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(url, json=body, headers=headers) as response:
            content = await response.json()
            assert response.status == 200, content
            return content
    return None


@contextlib.asynccontextmanager
async def caller(checker: Checker, raw: redis.asyncio.Redis, figures: Figures) -> AsyncIterator[Caller]:
    seed = random.randrange(2**32)
    async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
        running = Caller(checker, session, raw, seed)
        yield running
    figures.note(apis_killed=running.kills, seed=f"{seed}")


@pytest.mark.case("28", "batches with an Idempotency-Key, the API SIGKILLed in the middle, sent again")
async def test_a_batch_that_is_sent_again_is_scheduled_once(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    batches = scaled(30, 3)
    again = 0
    await checker.start("worker")
    async with caller(checker, raw, figures) as client:
        for number in range(batches):
            sent = [checker.next(ttl=2) for _ in range(BATCH)]
            body = {"tasks": [each for _, each in sent]}
            key = f"batch-{number}"
            # Within the time of its five calls of Redis, mostly.
            answer = await client.call("/schedules", body, key, kills=True)
            while answer is None:
                again += 1
                answer = await client.call("/schedules", body, key, kills=again % 4 > 0)
            checker.learn_all(sent, 200, answer)
            before = answer["tasks"]
            assert (await client.call("/schedules", body, key))["tasks"] == before
    await checker.drained()
    verdict = await checker.verdict()
    figures.note(sent_again=again)
    assert again > 0
    assert verdict.arrived == batches * BATCH
    keys = {arrival.key for arrival in checker.receiver.arrivals}
    assert keys == {task.key for task in checker.sent.values()}, "each task is the one that was answered"
    assert await counters(raw) == {"scheduled": batches * BATCH, "delivered": batches * BATCH}


async def fill(checker: Checker, client: Caller, count: int, type_name: str, **fields: Any) -> None:
    """Schedule tasks with these fields."""
    for _ in range(0, count, BATCH):
        sent = [checker.next(**fields) for _ in range(BATCH)]
        answer = await client.call(f"/schedules?type={type_name}", {"tasks": [body for _, body in sent]})
        checker.learn_all(sent, 200, answer)


async def do_to_all(client: Caller, path: str, filters: str, count: int) -> int:
    """Send the same request until that was all, and so many tasks were counted; how many requests were."""
    name = path.rpartition("/")[2]
    for number in range(REQUESTS_MOST):
        # Every other one, so that it comes to an end.
        answer = await client.call(f"{path}?{filters}&operation={name}", kills=number % 2 == 0)
        if answer is not None and answer["next"] is None:
            assert answer["touched"] == count, answer
            return number + 1
    raise AssertionError("without an end")


@pytest.mark.case("29a", "cancel, pause, resume, shift and run of many, the API SIGKILLed in the middle, sent again")
async def test_what_is_done_to_many_is_done_to_all_of_them_once(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(20_000, 2_000)
    requests = 0
    async with caller(checker, raw, figures) as client:
        for type_name in ("kept", "cancelled", "run"):
            await fill(checker, client, count, type_name, ttl=3_600)
        scheduled = [*checker.sent.values()]
        requests += await do_to_all(client, "/schedules/cancel", "type=cancelled", count)
        assert await raw.zcard(KEYS.due) == 2 * count
        requests += await do_to_all(client, "/schedules/pause", "type=kept", count)
        assert (await raw.zcard(KEYS.paused), await raw.zcard(KEYS.due)) == (count, count)
        requests += await do_to_all(client, "/schedules/resume", "type=kept", count)
        assert (await raw.zcard(KEYS.paused), await raw.zcard(KEYS.due)) == (0, 2 * count)
        requests += await do_to_all(client, "/schedules/shift", f"by={SHIFT_S}&type=kept", count)
        times = [await raw.zscore(KEYS.due, task.key) for task in scheduled[:count]]
        assert times == [round((task.due_at + SHIFT_S) * 1000) for task in scheduled[:count]], "each moved once"
        requests += await do_to_all(client, "/schedules/run", "type=run", count)
    for task in scheduled[count : 2 * count]:
        task.may_be_gone, task.cancelled_at = True, task.due_at - 3_600
    for task in scheduled[2 * count :]:
        task.due_at -= 3_600
    await checker.start("worker", **SHORTENED)

    async def are_delivered() -> bool:
        return (await counters(raw)).get("delivered") == count

    await wait_until(are_delivered, "what was run is delivered", 60)
    figures.note(requests=requests)
    for task in scheduled[:count]:
        # They are still to come.
        del checker.sent[task.number]
    verdict = await checker.verdict()
    assert client.kills > 0
    assert verdict.arrived == count
    assert await counters(raw) == {"scheduled": 3 * count, "cancelled": count, "delivered": count}


@pytest.mark.case("29b", "replay and deletion of many dead letters, the API SIGKILLed in the middle, sent again")
async def test_each_of_many_dead_letters_is_brought_back_once_or_deleted(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count = scaled(20_000, 2_000)
    checker.receiver.status = 500
    async with caller(checker, raw, figures) as client:
        for type_name in ("replayed", "deleted"):
            await fill(checker, client, count, type_name, ttl=0, retries=0)
        dead = [*checker.sent.values()]
        worker = await checker.start("worker", **SHORTENED)
        await checker.drained()
        await checker.kill(worker)
        assert await raw.zcard(KEYS.dead) == 2 * count
        checker.receiver.status = 200
        requests = await do_to_all(client, "/dead/delete", "type=deleted", count)
        for task in dead[count:]:
            task.cancelled_at, task.may_be_gone = time.time(), True
        assert await raw.zcard(KEYS.dead) == count
        requests += await do_to_all(client, "/dead/replay", f"type=replayed&rate={count}", count)
        assert await raw.zcard(KEYS.dead) == 0
    figures.note(requests=requests)
    await checker.start("worker", **SHORTENED)
    await checker.drained()
    verdict = await checker.verdict()
    assert client.kills > 0
    assert verdict.dead == 0
    arrivals = checker.receiver.times_by_key
    assert {arrivals[task.key] for task in dead[:count]} == {2}
    assert {arrivals[task.key] for task in dead[count:]} == {1}
    found = {"scheduled": 2 * count, "failed": 2 * count, "died": 2 * count, "replayed": count, "delivered": count}
    assert await counters(raw) == found
