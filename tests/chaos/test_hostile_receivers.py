"""Receivers that send endlessly, slowly, wrongly or nothing at all cost their own attempt, and nobody else anything."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import redis.asyncio

from redis_scheduler.delivery.pool import REST_S
from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import FULL, SLOWNESS, Figures, Spread, scaled
from tests.support.engine import MODULE
from tests.support.hostile import (
    CERTIFICATE_OF,
    CERTIFICATES,
    FAILURES,
    KEPT,
    NO_TLS,
    NOTHING_MORE,
    SECRET,
    SUCCESSES,
    connections_of,
    hostile,
)
from tests.support.names import KEYS
from tests.support.service import TOKEN, Client, Process, client_of
from tests.support.waiting import wait_until

TIMEOUT_S = 2.0
MARGIN_S = 0.5 * SLOWNESS
"""What an attempt may take beyond its time-out, on a machine that others use too."""

GROWTH_BYTES = 40 * 1_048_576
"""What the worker's memory may grow by at any time: some buffers of 128 KiB for each of a hundred connections."""

STEADY_PER_S = 50
LATENESS_S = 0.5 * SLOWNESS
"""Of other tasks: what waits for a hostile receiver waits for its time-out."""

NO_HTTP = "the answer is not HTTP"
TOO_LONG = "the answer does not end"
CLOSED = "the connection was closed before the answer"
BROKEN = "the answer broke off, or is not as its headers say"
SLOW = "no answer within 2 s"
RESET = r"ConnectionResetError: \[Errno \d+\] Connection reset by peer"

ERRORS = {
    "a byte a second": SLOW,
    "a body of a byte a second": "the answer did not end in time",
    "headers of a byte a second": SLOW,
    "endless 100": TOO_LONG,
    "endless 102": TOO_LONG,
    "endless 103 one a second": SLOW,
    "an upgrade with a flood": "answered 101",
    "a reset": RESET,
    "a reset within the headers": RESET,
    "a reset within the body": f"{RESET}|{BROKEN}",
    "a close": CLOSED,
    "a close within the status line": CLOSED,
    "a close within the headers": CLOSED,
    "a close after 100": CLOSED,
    "a half close": CLOSED,
    "a length that is too long": BROKEN,
    "no HTTP": NO_HTTP,
    "no HTTP without an end": NO_HTTP,
    "no HTTP version": NO_HTTP,
    "no status": NO_HTTP,
    "a redirect to itself": "answered 307",
    "nothing": SLOW,
    "TLS that never begins": SLOW,
    "TLS that is none": "no TLS connection: .+",
    "TLS of another name": "the certificate is not valid: Hostname mismatch, .*'localhost'.*",
    "TLS that has expired": "the certificate is not valid: certificate has expired",
    "TLS of nobody known": "the certificate is not valid: self-signed certificate",
}
"""What is kept of a failed attempt; `answered 500` where nothing is said here."""

RIGHT_CERTIFICATE = "TLS as it should be"
HOSTILE = [*FAILURES, *NO_TLS, *(name for name in CERTIFICATE_OF if name != RIGHT_CERTIFICATE)]


@dataclass
class Memory:
    """The resident memory of a process while the block runs, in bytes."""

    before: int
    most: int

    @property
    def growth(self) -> int:
        return self.most - self.before


@asynccontextmanager
async def memory_of(process: Process) -> AsyncIterator[Memory]:
    """Look at a process' memory all the time."""
    watched = psutil.Process(process.process.pid)
    memory = Memory(watched.memory_info().rss, 0)

    async def watch() -> None:
        while True:
            memory.most = max(memory.most, watched.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        watching.cancel()
        memory.most = max(memory.most, watched.memory_info().rss)


@asynccontextmanager
async def steady_load(checker: Checker, api: Process) -> AsyncIterator[list[Sent]]:
    """Schedule tasks for the good receiver, second by second, until the end of the block; they are in the list then."""
    sent: list[Sent] = []
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            sent.extend(await checker.load(api, STEADY_PER_S, ttl=0.1, rate=STEADY_PER_S))

    loading = asyncio.create_task(load())
    try:
        yield sent
    finally:
        is_over.set()
        await loading


async def start_worker(checker: Checker, **variables: str) -> Process:
    """A worker that knows the authority of the tests, and has made its first connections, so that its memory is
    settled."""
    return await checker.start(
        "worker",
        TIMEOUT=f"{TIMEOUT_S:g}",
        RETRIES="0",
        CONCURRENCY="400",
        SSL_CERT_FILE=f"{CERTIFICATES / 'test-authority.pem'}",
        **variables,
    )


async def faults_of(name: str, tasks: list[Sent], client: Client) -> list[str]:
    """Return what is wrong with how the attempts of some tasks ended, as a user sees it."""
    found = []
    for task in tasks:
        _, content = await client.call("GET", f"/schedule/{task.key}")
        info: dict[str, Any] = content["data"]["info"]
        failure = info.get("last_failure", {})
        error = failure.get("error", "none")
        if (info["state"], info["retry"]) != ("dead", 1):
            found.append(f"{name}: is {info['state']} after {info['retry']} attempts")
        if not re.fullmatch(ERRORS.get(name, "answered 500"), error):
            found.append(f"{name}: {error!r} is kept")
        if SECRET in error or TOKEN in error:
            found.append(f"{name}: a secret is kept: {error!r}")
        if failure.get("elapsed_ms", 0) > (TIMEOUT_S + MARGIN_S) * 1000:
            found.append(f"{name}: an attempt took {failure['elapsed_ms']} ms")
    return found


@pytest.mark.case("17", "receivers that send endlessly, slowly, wrongly or nothing, and wrong certificates")
async def test_a_hostile_receiver_costs_its_attempt_and_nobody_else_anything(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    each = scaled(100, 4)
    groups = [[name] for name in HOSTILE] if FULL else [HOSTILE]
    ended = 0
    faults: list[str] = []
    growths: dict[str, int] = {}
    slowest_s = 0.0
    async with hostile() as receivers:
        api = await checker.start("api")
        worker = await start_worker(checker)
        await checker.load(api, 500)
        await checker.drained()
        async with client_of(api) as client, memory_of(worker) as whole, steady_load(checker, api) as steady:
            for group in groups:
                started = time.monotonic()
                async with memory_of(worker) as memory:
                    tasks = {name: await checker.load(api, each, webhook=receivers.url(name)) for name in group}
                    ended += each * len(group)

                    async def have_ended(count: int = ended) -> bool:
                        return bool(await raw.zcard(KEYS.dead) == count)

                    await wait_until(have_ended, f"the attempts of {group} end", 20)
                slowest_s = max(slowest_s, time.monotonic() - started)
                growths[group[0] if FULL else "all at once"] = memory.growth
                for name, sent in tasks.items():
                    faults += await faults_of(name, sent, client)
        await checker.drained()
        requests = await receivers.stop()
    arrivals = checker.arrivals()
    lateness = Spread.of(arrivals[task.number][0].at - task.due_at for task in steady)
    worst = max(growths, key=lambda name: growths[name])
    figures.note(kinds=len(HOSTILE), each=each, slowest_group_s=slowest_s)
    figures.note(worst_growth_MB=f"{growths[worst] / 1e6:.1f} ({worst})", whole_growth_MB=f"{whole.growth / 1e6:.1f}")
    figures.note(other_lateness_s=lateness)
    assert faults == []
    assert {name: growth for name, growth in growths.items() if growth > GROWTH_BYTES} == {}
    assert whole.growth < GROWTH_BYTES
    # One POST an attempt: no redirect is followed, nothing is sent again; and none where the certificate is wrong.
    assert requests == {name: each for name in HOSTILE if name not in CERTIFICATE_OF}
    assert SECRET not in worker.log + api.log
    assert lateness.p99 < LATENESS_S
    await checker.verdict()


@pytest.mark.case("17a", "a success with a gigabyte or a bomb behind it, and a right certificate")
async def test_a_success_is_one_whatever_comes_behind_it(checker: Checker, figures: Figures) -> None:
    each = scaled(100, 20)
    async with hostile() as receivers:
        api = await checker.start("api")
        worker = await start_worker(checker)
        await checker.load(api, 500)
        await checker.drained()
        async with client_of(api) as client, memory_of(worker) as memory:
            started = time.monotonic()
            for name in (*SUCCESSES, RIGHT_CERTIFICATE):
                await asyncio.gather(*(client.schedule(receivers.url(name)) for _ in range(each)))
                await client.drained()
            figures.note(seconds=time.monotonic() - started)
            delivered = (await client.stats())["counters"]["delivered"]
        requests = await receivers.stop()
    figures.note(kinds=len(SUCCESSES) + 1, each=each, growth_MB=f"{memory.growth / 1e6:.1f}")
    assert delivered == 500 + each * (len(SUCCESSES) + 1)
    assert requests == dict.fromkeys((*SUCCESSES, RIGHT_CERTIFICATE), each)
    assert memory.growth < GROWTH_BYTES
    await checker.verdict()


@pytest.mark.case("17b", "what comes on a connection after the answer")
async def test_what_comes_after_an_answer_is_not_the_answer_to_the_next_request(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """One task after another for each receiver, each as soon as the connection before it was dropped, if it had to
    be. None is dropped for its idleness."""
    paths = ["", "", "fails", "fails"] * scaled(10, 1)
    async with hostile() as receivers:
        strays = {receivers.port(name) for name in KEPT if name != NOTHING_MORE}
        api = await checker.start("api")
        worker = await start_worker(checker, module=MODULE, KEEPALIVE_S="600")
        sockets = psutil.Process(worker.process.pid)

        def are_dropped() -> bool:
            return not any(
                connection.raddr and connection.raddr.port in strays for connection in sockets.net_connections()
            )

        faults = []
        async with client_of(api) as client:
            for path in paths:
                wanted = "dead" if path else "delivered"
                tasks = {name: await client.schedule(receivers.url(name) + path) for name in KEPT}
                await client.drained()
                for name, key in tasks.items():
                    _, content = await client.call("GET", f"/schedule/{key}")
                    if (found := content["data"]["info"]["state"]) != wanted:
                        faults.append(f"{name}: is {found}, should be {wanted}")
                await wait_until(are_dropped, "what is not as it should be is used no more")
                await asyncio.sleep(2 * REST_S)  # only a connection that has rested is used again
        assert not checker.arrivals()
        counts = await receivers.stop()
    figures.note(kinds=len(KEPT), each=len(paths))
    assert {name: counts[name] for name in KEPT} == dict.fromkeys(KEPT, len(paths))
    assert faults == []
    assert counts[connections_of(NOTHING_MORE)] == 1
    await checker.verdict()
