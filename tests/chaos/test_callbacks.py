"""Callbacks under faults: whoever writes the end of a task is struck before or after it is written. Case 32."""

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
from collections import Counter, defaultdict
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store import claims
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.leases import SHORTENED
from tests.scripts.contents import counters
from tests.support.proxy import Fate, Proxy
from tests.support.redis_process import RedisProcess
from tests.support.service import Client, Process, client_of
from tests.support.waiting import wait_until

SEED = 28
STEPS = 5
"""Of each chain: its tasks are delivered, die or expire in turn, and the next is scheduled by that."""

ENDS = {script.sha.encode() for script in (claims.SETTLE, claims.FINISH, claims.BURY, claims.EXPIRE)}
"""The scripts that write an end."""

_STEP = re.compile(rb"&step=([1-9])")


def chain(url: str, number: int, step: int = 0) -> dict[str, Any]:
    """The body of a step of a chain, and of all behind it."""
    kind = (number + step) % 3
    body: dict[str, Any] = {"webhook": f"{url}{'bad' if kind else 'good'}?chain={number}&step={step}"}
    if kind:
        body |= {"retries": 0} if kind == 1 else {"retry_times": [0, 600], "expire": 300}
    if step + 1 < STEPS:
        body["on_failure" if kind else "on_success"] = chain(url, number, step + 1)
    return body


async def answer(request: web.Request) -> web.Response:
    return web.Response(status=200 if request.path == "/good" else 500)


def steps_started(command: list[bytes]) -> set[int]:
    """The steps that a call starts which writes ends: the record of a task begins with its own webhook."""
    found = map(_STEP.search, command)
    return {int(one[1]) for one in found if one is not None}


class Strikes:
    """Strikes calls that write an end: of each step that they start, in turn before such a call is executed, before its
    reply, or not at all, until it was struck so many times either way."""

    def __init__(self, proxy: Proxy, times: int) -> None:
        self._times = times
        self._turns: Counter[int] = Counter()
        self.struck: Counter[tuple[int, Fate]] = Counter()
        proxy.fate_of = self._fate_of

    def _fate_of(self, command: list[bytes]) -> Fate:
        if command[0].upper() != b"EVALSHA" or command[1] not in ENDS:
            return Fate.ANSWERED
        for step in steps_started(command):
            self._turns[step] += 1
            fate = (Fate.NOT_EXECUTED, Fate.NOT_ANSWERED, Fate.ANSWERED)[self._turns[step] % 3]
            if fate is not Fate.ANSWERED and self.struck[step, fate] < self._times:
                self.struck[step, fate] += 1
                return fate
        return Fate.ANSWERED


async def drained(checker: Checker) -> None:
    """Wait until all chains have ended. Redis may be away meanwhile."""

    async def is_drained() -> bool:
        with contextlib.suppress(redis.exceptions.RedisError, OSError, AssertionError):
            await checker.drained(0)
            return True
        return False

    await wait_until(is_drained, "all chains have ended", 300, every_s=0.05)


async def schedule_chain(client: Client, url: str, number: int, ttl_s: float) -> None:
    """Schedule a chain once, however often Redis is away meanwhile."""
    body, headers = chain(url, number) | {"ttl": ttl_s}, {"Idempotency-Key": f"chain-{number}"}

    async def is_scheduled() -> bool:
        status, content = await client.call("POST", "/schedule", json=body, headers=headers)
        assert status in (200, 503), content
        return bool(status == 200)

    await wait_until(is_scheduled, "Redis is back", 30)


async def answer_only_after_writing(server: RedisProcess, raw: redis.asyncio.Redis) -> None:
    """Have Redis write each change to its file before it answers: else it may answer up to two seconds earlier, and
    forget what it has answered."""
    await raw.config_set("appendfsync", "always")
    server.options = ("--appendfsync", "always")


def keys_by_step(checker: Checker) -> dict[tuple[str, ...], set[str]]:
    """The keys under which each step of each chain has arrived."""
    keys: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for arrival in checker.receiver.arrivals:
        keys[tuple(arrival.path.partition("?")[2].split("&"))].add(arrival.key)
    return keys


@pytest.mark.long
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("worker", marks=pytest.mark.case("32a", "a worker killed around each end that starts a task")),
        pytest.param("redis", marks=pytest.mark.case("32b", "Redis killed around each end that starts a task")),
        pytest.param("link", marks=pytest.mark.case("32c", "the link cut around each end that starts a task")),
    ],
)
async def test_what_an_end_starts_is_scheduled_exactly_once(
    checker: Checker, server: RedisProcess, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures, victim: str
) -> None:
    chains, times = scaled(100, 12), scaled(3, 1)
    rng = random.Random(SEED)
    checker.receiver.behaviour = answer
    strikes = Strikes(proxy, times)
    is_struck = asyncio.Event()
    workers: list[Process] = []

    def launch() -> None:
        workers.append(checker.launch("worker", REDIS_URL=proxy.url, RETRY_TIME="0", **SHORTENED))

    def strike() -> None:
        if victim == "worker":
            workers[-1].signal(signal.SIGKILL)
        elif victim == "redis":
            os.kill(server.pid, signal.SIGKILL)
        is_struck.set()

    proxy.on_struck = strike

    async def mend() -> None:
        while True:
            await is_struck.wait()
            is_struck.clear()
            if victim == "worker":
                await workers[-1].ended()
                launch()
            elif victim == "redis":
                await server.kill()
                try:
                    await server.start()
                except AssertionError:
                    if not is_struck.is_set():  # it was struck again while it started
                        raise

    if victim == "redis":
        await answer_only_after_writing(server, raw)
    api = await checker.start("api")
    launch()
    await workers[-1].started()
    mending = asyncio.create_task(mend())
    async with client_of(api) as client:
        for number in range(chains):
            await schedule_chain(client, checker.receiver.url, number, rng.uniform(0, scaled(20, 1)))
    await drained(checker)
    mending.cancel()
    await checker.stop()

    keys = keys_by_step(checker)
    figures.note(
        chains=chains, steps=STEPS, struck=strikes.struck.total(), seed=SEED, arrivals=len(checker.receiver.arrivals)
    )
    assert len(keys) == chains * STEPS, "a step was lost"
    twice = [step for step, found in keys.items() if len(found) > 1]
    assert twice == []
    counts = await counters(raw)
    assert counts["scheduled"] == chains * STEPS
    assert counts["delivered"] + counts["died"] + counts["expired"] == chains * STEPS
    fates = itertools.product(range(1, STEPS), (Fate.NOT_EXECUTED, Fate.NOT_ANSWERED))
    assert strikes.struck == dict.fromkeys(fates, times), "each step was struck before and after it was scheduled"
