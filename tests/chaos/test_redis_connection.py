"""The connection to Redis cut, its replies dropped; and Redis standing still with its connections open."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.task.timing import DEFAULT
from tests.chaos.accounts import Sent
from tests.chaos.attempts import Attempts
from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS, Figures, Spread, scaled
from tests.chaos.recovery import BACK_WITHIN_S, calls_of, fault_under_load, said_since
from tests.support.names import KEYS
from tests.support.proxy import Proxy, proxying
from tests.support.redis_process import RedisProcess
from tests.support.service import Client, Process, client_of
from tests.support.standing_still import standing_still

SEED = 10
CHANCE = random.Random(SEED)
SHARES = [CHANCE.random() for _ in range(1000)]
RETRY_TIME_S = 1

OUTAGE_S = DEFAULT.lease_ms / 1000 + 5
STAGGER_S = 1.0
SLOW_S = OUTAGE_S + 2
"""A delivery that begins before the outage and ends after it."""

ANSWERED_WITHIN_S = 3.0 * SLOWNESS
"""How long a client may wait for its 503."""

CUTS = 3
DROPPED_EVERY = 7


@dataclass
class Run:
    """An API and two workers on one address of Redis, and a receiver that fails some attempts."""

    checker: Checker
    figures: Figures
    attempts: Attempts
    api: Process
    workers: list[Process]

    async def fault(self, rate: int, ttl_most: float, fault: Callable[[], Awaitable[float]]) -> list[float]:
        """Have a fault under load, with delays up to `ttl_most`; return how soon each process was back after it."""

        def ttl(number: int) -> float:
            return ttl_most * SHARES[number % len(SHARES)]

        return await fault_under_load(self.checker, self.api, self.workers, ttl, rate, fault)

    async def accounted(self, raw: redis.asyncio.Redis) -> None:
        """Drain; fail if a task is lost or was delivered twice, a retry was early or not counted, or something is
        left."""
        await self.checker.drained()
        # Before the processes stop: what is left now is not left for them to clear.
        assert await raw.xlen(KEYS.queue) == 0
        assert (await raw.xpending(KEYS.queue, keys.GROUP))["pending"] == 0
        verdict = await self.checker.verdict()
        arrivals = self.checker.arrivals()
        late = self.attempts.assert_each_once_and_none_early(arrivals, RETRY_TIME_S)
        self.figures.note(failed_attempts=self.attempts.failed(arrivals), retries_late_s=late)
        assert verdict.duplicated == 0
        delivered, failed = await raw.execute_command("HMGET", KEYS.counters, "delivered", "failed")
        assert (int(delivered), int(failed)) == (len(arrivals), self.attempts.failed(arrivals))


async def start(
    checker: Checker,
    figures: Figures,
    redis_url: str,
    seconds: Callable[[int], float] = lambda n: n % 7 / 50,
    second_url: str | None = None,
) -> Run:
    """Start the processes; the second worker has an address of its own where one is given."""
    attempts = Attempts(failures=lambda n: n % 4 // 2 * (n % 3), seconds=seconds)
    checker.receiver.behaviour = attempts
    settings = {"RETRY_TIME": f"{RETRY_TIME_S}", "LOG_LEVEL": "debug", "TIMEOUT": "60"}
    addresses = [("api", redis_url), ("worker", redis_url), ("worker", second_url or redis_url)]
    processes = [checker.launch(role, REDIS_URL=url, **settings) for role, url in addresses]
    await asyncio.gather(*(process.started() for process in processes))
    return Run(checker, figures, attempts, processes[0], processes[1:])


async def cut(proxy: Proxy, seconds: float) -> float:
    """Cut every connection, and let none through for so long; return when they are let through."""
    await proxy.cut()
    await asyncio.sleep(seconds)
    await proxy.listen()
    return time.time()


@pytest.mark.full
@pytest.mark.case("10a", "connection cut for 1 s, under load")
async def test_a_short_cut_doubles_nothing_and_moves_no_retry(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    run = await start(checker, figures, proxy.url)
    recoveries: list[float] = []
    for _ in range(CUTS):
        recoveries += await run.fault(300, 2, lambda: cut(proxy, 1))
    figures.note(seed=SEED, cuts=CUTS, every_process_back_s=Spread.of(recoveries))
    await run.accounted(raw)
    assert max(recoveries) < BACK_WITHIN_S


@pytest.mark.full
@pytest.mark.case("10b", "connection cut for longer than the lease")
async def test_a_cut_longer_than_the_lease_doubles_nothing_and_moves_no_retry(
    checker: Checker, server: RedisProcess, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    slow = range(0, 200, 4)
    async with proxying(server.port) as second:
        run = await start(checker, figures, proxy.url, lambda n: SLOW_S if n in slow else n % 7 / 50, second.url)
        # The slow ones are begun before the cut; the others are due before it, during it and after it.
        await checker.load(run.api, 1000, lambda n: 0 if n in slow else 1.5 * OUTAGE_S * SHARES[n])

        async def cut_for_long() -> float:
            assert checker.receiver.in_flight
            figures.note(in_flight_at_the_cut=checker.receiver.in_flight)
            # The first worker is back before the second: it must not take what the other still has in flight.
            _, over_at = await asyncio.gather(cut(proxy, OUTAGE_S), cut(second, OUTAGE_S + STAGGER_S))
            return over_at

        recoveries = await run.fault(30, 2, cut_for_long)
        await run.accounted(raw)
    figures.note(seed=SEED, outage_s=OUTAGE_S, every_process_back_s=Spread.of(recoveries))
    assert max(recoveries) < BACK_WITHIN_S


@pytest.mark.case("10c", f"the reply of every {DROPPED_EVERY}th command dropped after it was executed")
@pytest.mark.long
async def test_dropped_replies_double_nothing_and_leave_nothing_pending(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    run = await start(checker, figures, proxy.url)
    proxy.drop_replies(DROPPED_EVERY)
    changed = await checker.load(run.api, scaled(400, 40), ttl=15, rate=400)
    known = [task for task in changed if task.is_acknowledged]
    async with client_of(run.api) as client:
        load = checker.load(run.api, scaled(5000, 200), lambda i: scaled(3, 1) * SHARES[i % len(SHARES)], rate=400)
        await asyncio.gather(load, cancel(client, known[::2]), hasten(client, known[1::2]))
    await run.accounted(raw)
    proxy.drop_replies(0)
    figures.note(seed=SEED, replies_dropped=proxy.dropped)
    assert proxy.dropped > scaled(1000, 100)


async def cancel(client: Client, tasks: list[Sent]) -> None:
    """Cancel each: no answer may be that of a resend, which finds nothing any more."""
    for task in tasks:
        task.may_be_gone = True
        status, answer = await client.call("DELETE", f"/schedule/{task.key}")
        if status != 503:
            assert (status, answer["data"]) == (200, "cancelled")
            task.cancelled_at = time.time()


async def hasten(client: Client, tasks: list[Sent]) -> None:
    """Give each a shorter delay."""
    for task in tasks:
        # Without an answer it may be due from now on.
        task.due_at = time.time()
        status, answer = await client.call("PATCH", f"/schedule/{task.key}", json={"ttl": 1})
        if status != 503:
            assert (status, answer["found"]) == (200, "updated")
            task.due_at = datetime.fromisoformat(answer["due"]).timestamp()


@pytest.mark.full
@pytest.mark.parametrize(
    "is_of_link",
    [
        pytest.param(False, marks=pytest.mark.case("11a", "Redis stopped by SIGSTOP with its connections open")),
        pytest.param(True, marks=pytest.mark.case("11b", "link to Redis stalled with its connections open")),
    ],
    ids=["server", "link"],
)
async def test_a_redis_that_stands_still_is_answered_by_503_and_ridden_out(
    checker: Checker, server: RedisProcess, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures, is_of_link: bool
) -> None:
    """11b: the server lives, so what it has executed is answered when the link flows again; new connections open
    too."""
    run = await start(checker, figures, proxy.url if is_of_link else server.url)
    stall_s = scaled(10_000, 2_200) / 1000
    (waiting,) = await checker.load(run.api, 1, ttl=2 * stall_s)
    stopped_at = 0.0

    async def stall() -> float:
        nonlocal stopped_at
        async with proxy.stalled() if is_of_link else standing_still(server.pid), client_of(run.api) as client:
            stopped_at = time.time()
            until = time.monotonic() + stall_s
            took = await ask_in_vain(client, waiting.key)
            await asyncio.sleep(until - time.monotonic())
        figures.note(answered_503_within_s=Spread.of(took))
        assert max(took) < ANSWERED_WITHIN_S
        return time.time()

    recoveries = await run.fault(scaled(100, 60), scaled(3, 1), stall)
    refused = [task.took_s for task in checker.sent.values() if task.status == 503]
    figures.note(seed=SEED, stall_s=stall_s, schedules_answered_503_within_s=Spread.of(refused))
    figures.note(every_process_back_s=Spread.of(recoveries))
    figures.note(log_lines=len(said_since([run.api, *run.workers], stopped_at)))
    await run.accounted(raw)
    assert refused
    assert max(refused) < ANSWERED_WITHIN_S
    assert all(task.status in (200, 503) for task in checker.sent.values())
    assert max(recoveries) < BACK_WITHIN_S


async def ask_in_vain(client: Client, key: str) -> list[float]:
    """Send a request of each kind at once; each must be answered by 503. Returns how long each took."""

    async def ask(method: str, path: str, content: object) -> float:
        asked = time.monotonic()
        status, _ = await client.call(method, path, json=content)
        assert status == 503, f"{method} {path} was answered by {status}"
        return time.monotonic() - asked

    others: list[tuple[str, str, object]] = [("POST", "/purge", None), ("DELETE", "/schedules", None)]
    return await asyncio.gather(*(ask(*call) for call in (*calls_of(key), *others)))
