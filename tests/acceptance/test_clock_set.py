"""Redis' clock is set back while the service runs: what goes by a delay of its own goes on where it was."""

import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.states import deferred
from tests.support.audit import audited
from tests.support.clock import SettableClock
from tests.support.engine import MODULE
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, Client, Process, client_of, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

STEP_S = 600.0
PARKED_S, DEFERRED_S = 3.0, 6.0
"""The window of the worker lies between them, and its own RETRY_TIME is shorter than both."""

WORKER = {"LEASE_MS": "2000", "WINDOW_MS": "3500", "RETRY_TIME": "0.2", "API_AUTH": TOKEN}


async def first_attempts(client: Client, receiver: Receiver) -> dict[str, float]:
    """Have each kind of task make its first attempt; return after which delay the second must come."""

    async def behave(request: web.Request) -> web.Response:
        is_first = request.headers["Schedule-Attempt"] == "1"
        return web.Response(status=200 if not is_first else 202 if request.path == "/ack" else 500)

    receiver.behaviour = behave
    parked = await client.schedule(receiver.url, retry_time=PARKED_S)
    deferred = await client.schedule(receiver.url, retry_time=DEFERRED_S)
    early = await client.schedule(receiver.url, 3600, retry_time=DEFERRED_S)
    assert (await client.call("POST", f"/schedule/{early}/run"))[0] == 200
    awaiting = await client.schedule(receiver.url + "ack", ack=True, ack_within=DEFERRED_S)
    await wait_until(lambda: len(receiver.arrivals) == 4, "each has made its first attempt")
    return {parked: PARKED_S, deferred: DEFERRED_S, early: DEFERRED_S, awaiting: DEFERRED_S + 0.2}


async def stand_there(raw: redis.asyncio.Redis) -> bool:
    """Whether one waits, two are deferred, one is awaited, and a sweep has told the time since."""
    counts = Counter[str]()
    for keys in KEYS_OF_SHARDS:
        counts += Counter(due=await raw.zcard(keys.due), awaiting=await raw.zcard(keys.awaiting))
        counts += Counter(failures=await raw.hlen(keys.failures))
    told_ms = min([int(await raw.hget(keys.sweep, "clock_ms") or 0) for keys in KEYS_OF_SHARDS])
    seconds, _ = await raw.time()
    # Looks over many shards are further apart.
    return counts == Counter(due=2, awaiting=1, failures=4) and told_ms >= (seconds - SHARDS // 2) * 1000


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_tasks_own_delays_go_on_where_they_were(restarts: bool, receiver: Receiver, tmp_path: Path) -> None:
    clock = SettableClock(tmp_path, STEP_S)
    async with redis_process(tmp_path / "redis", environment=clock.environment) as server, audited(server.url):
        there = {"REDIS_URL": server.url}
        async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
            worker = Process(tmp_path, "worker", module=MODULE, **WORKER, **there)
            await worker.started()
            delays = await first_attempts(client, receiver)
            async with redis.asyncio.Redis.from_url(server.url) as raw:
                await wait_until(lambda: stand_there(raw), "all stand where they wait")
            if restarts:
                await server.kill()
            clock.set(0)
            if restarts:
                await server.start()
            assert abs(await redis_ahead_s(server.url)) < 60
            await wait_until(lambda: len(receiver.arrivals) == 8, "each has made its second attempt", 30)
            await client.drained()
            await worker.stop()
    begun = {key: [arrival.at for arrival in receiver.arrivals if arrival.key == key] for key in delays}
    late = {key: second - first - delays[key] for key, (first, second) in begun.items()}
    assert min(late.values()) >= 0
    # By the time that a sweep may be past; and of a server that starts, the longest that anything waited.
    assert max(late.values()) < 2.5 + SHARDS // 2 + (PARKED_S if restarts else 0)


async def test_what_waits_comes_after_its_delay_though_the_clock_is_set_back_twice_at_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The second time, the worker has brought forward some of them since the first."""
    clock, count, delay_s = SettableClock(tmp_path, STEP_S), 200, 8.0

    async def behave(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.headers["Schedule-Attempt"] == "1" else 200)

    receiver.behaviour = behave
    async with redis_process(tmp_path / "redis", environment=clock.environment) as server, audited(server.url):
        there = {"REDIS_URL": server.url}
        async with serving(tmp_path, "api", **there) as api, client_of(api) as client:
            worker = Process(tmp_path, "worker", module=MODULE, BATCH_LIMIT="5", **WORKER, **there)
            await worker.started()
            task = {"webhook": receiver.url, "ttl": 0, "retry_time": delay_s}
            assert (await client.call("POST", "/schedules", json={"tasks": count * [task]}))[0] == 200
            async with redis.asyncio.Redis.from_url(server.url) as raw:

                async def deferred() -> bool:
                    return sum([await raw.zcard(keys.due) for keys in KEYS_OF_SHARDS]) == count

                async def walks() -> bool:
                    places = [await raw.hget(keys.sweep, "rewound") for keys in KEYS_OF_SHARDS]
                    return any(b"due" in (place or b"") for place in places)

                await wait_until(deferred, "all are deferred", 30)
                clock.set(STEP_S / 2)
                await wait_until(walks, "some are brought forward")
                clock.set(0)
                assert await walks(), "not all"
            await wait_until(lambda: len(receiver.arrivals) == 2 * count, "each has made its second attempt", 60)
            await client.drained()
            await worker.stop()
    begun: dict[str, list[float]] = {}
    for arrival in receiver.arrivals:
        begun.setdefault(arrival.key, []).append(arrival.at)
    waited_s = [second - first for first, second in begun.values()]
    assert min(waited_s) >= delay_s
    assert max(waited_s) < 2 * delay_s


@pytest.mark.parametrize("calls", [0, 2, 3, 20])
async def test_a_clock_that_goes_forward_and_back_within_a_rewind_ends_delays_by_that_early_and_no_more(
    calls: int, tmp_path: Path
) -> None:
    """As without a rewind, however far that has come, and whether a task was deferred before it or in it."""
    clock, forward_s = SettableClock(tmp_path, STEP_S), 20.0
    async with redis_process(tmp_path / "redis", environment=clock.environment) as server:
        client = RedisClient(server.url, 3, KEYS)
        store = Store(client, "worker-a", replace(DEFAULT, batch_limit=1))
        ends_s: dict[str, float] = {}

        async def ends_at_s(key: str) -> float:
            """When its delay is over, by the machine's clock."""
            return float(await client.command("ZSCORE", KEYS.due, key) or 0) / 1000 - clock.ahead_s

        async def defer(count: int, early_s: float = 0) -> None:
            for _ in range(count):
                task = await deferred(store)
                ends_s[task.key] = await ends_at_s(task.key) - early_s
            for _ in range(2):  # the first after a step forward seems to have been stuck on its way
                await store.look(0)

        await client.create_group()
        await defer(3, forward_s)
        clock.set(0)
        assert (await store.look(0)).must_rewind
        for _ in range(calls):
            await store.rewind()
        await defer(2, forward_s)
        clock.set(forward_s)
        await defer(2)
        clock.set(0)
        assert (await store.look(0)).must_rewind
        while await client.command("HEXISTS", KEYS.sweep, "step_ms"):
            await store.rewind()
        late_s = [await ends_at_s(key) - end_s for key, end_s in ends_s.items()]
        await client.aclose()
    assert min(late_s) >= 0
    assert max(late_s) < forward_s / 2, "by the time that a look may be past, for each step"


async def test_a_series_fires_once_for_each_time_though_the_clock_is_set_back_and_forward(
    receiver: Receiver, tmp_path: Path
) -> None:
    """It waits until its next time has come by the clock, and misses none that has not."""
    clock = SettableClock(tmp_path, STEP_S)
    async with redis_process(tmp_path / "redis", environment=clock.environment) as server, audited(server.url):
        there = {"REDIS_URL": server.url}
        async with serving(tmp_path, **there) as service, client_of(service) as client:
            key = await client.schedule(receiver.url, repeat={"every": 2, "missed": "all"})
            await wait_until(lambda: len(receiver.arrivals) == 2, "it has fired twice")
            clock.set(0)
            await wait_until(lambda: service.events("clock-set-back"), "a sweep has seen it")
            count = len(receiver.arrivals)
            assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
            await wait_until(lambda: len(receiver.arrivals) > count, "it has made one more now")
            clock.set(STEP_S)
            await wait_until(lambda: len(receiver.arrivals) >= count + 3, "it goes on at its times")
            assert (await client.call("DELETE", f"/schedule/{key}"))[0] == 200
            await client.drained()
    numbers = sorted(int(arrival.headers["Schedule-Occurrence"]) for arrival in receiver.arrivals)
    assert numbers == list(range(1, len(receiver.arrivals) + 1))
    due_s = sorted(datetime.fromisoformat(arrival.headers["Schedule-Due"]).timestamp() for arrival in receiver.arrivals)
    assert due_s[1] - due_s[0] > STEP_S / 2, "the one that was run came by the clock as it was set"
    steps = [round(after - before, 3) for before, after in pairwise(due_s[1:])]
    assert set(steps) == {2}, "each time once, and none left out"


async def redis_ahead_s(url: str) -> float:
    async with redis.asyncio.Redis.from_url(url) as raw:
        seconds, _ = await raw.time()
    return float(seconds - time.time())
