"""Leases under faults: a worker stopped past its lease, a slow delivery, a stalled event loop, a poison task. Cases 5
to 7."""

import asyncio
import json
import signal
from collections import Counter, defaultdict
from typing import Any

import psutil
import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.task.timing import DEFAULT
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.leases import LEASE_S, RENEWAL_S, SHORT, SHORT_LEASE_S, SHORT_WINDOW_S, SHORTENED, WINDOW_S, pending
from tests.scripts.contents import counters
from tests.support.names import KEYS
from tests.support.proxy import Proxy
from tests.support.service import Process
from tests.support.standing_still import standing_still
from tests.support.waiting import wait_until

KINDS = ("fails", "fails for good", "done elsewhere", "succeeds", "hangs")
"""What the stopped worker's delivery comes to once it goes on; see the case."""


class Script:
    """What the receiver answers in case 5, by kind of task, attempt, and which worker asks: 0 the stopped one, 1 the
    other.

    A task's kind is its number modulo their count. An answer waits for its gate.
    """

    def __init__(self, per_kind: int) -> None:
        self.per_kind = per_kind
        self.times: Counter[tuple[int, int]] = Counter()
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def has_come(self, *kinds: str, attempt: int = 1, times: int = 1) -> bool:
        """Whether every task of these kinds has arrived so often with this attempt."""
        count = self.per_kind * len(KINDS)
        return all(
            self.times[number, attempt] == times for number in range(count) if KINDS[number % len(KINDS)] in kinds
        )

    async def answer(self, request: web.Request) -> web.Response:
        number: int = json.loads(await request.read())["n"]
        attempt = int(request.headers["Schedule-Attempt"])
        kind = KINDS[number % len(KINDS)]
        turn = self.times[number, attempt]
        self.times[number, attempt] += 1
        if kind == "fails for good" and attempt == 1:
            return web.Response(status=503)
        who = "stopped" if turn == 0 else "other"
        await self.gates[f"{who} {kind}"].wait()
        fails = (kind != "succeeds") if who == "stopped" else (kind == "succeeds")
        return web.Response(status=503 if fails else 200)


async def has_delivered(raw: redis.asyncio.Redis, count: int) -> bool:
    return (await counters(raw)).get("delivered") == count


async def assert_nothing_changes_hands(raw: redis.asyncio.Redis, held: dict[str, dict[str, Any]], count: int) -> None:
    """Look through a renewal of either worker: so many are pending, each for who held it before."""
    loop = asyncio.get_running_loop()
    until = loop.time() + RENEWAL_S + 1
    while loop.time() < until:
        now = await pending(raw)
        assert len(now) == count
        assert all(now[key]["consumer"] == held[key]["consumer"] for key in now)
        await asyncio.sleep(0.05)


@pytest.mark.case("5", "a worker stopped past its lease, then continued")
async def test_a_worker_that_went_on_after_its_lease_changes_nothing_that_is_no_longer_its_own(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """Five kinds of deliveries are under way in a worker that is stopped; another takes them when the lease is over.
    Then the first goes on, and its answers are there:

    - fails: 503 at the first of two attempts, while the other delivers: no retry is recorded; the other's 200 counts.
    - fails for good: 503 at the last attempt, while the other delivers: it is not buried; the other's 200 counts.
    - done elsewhere: 503, but the other has delivered it already: nothing is left to fail.
    - succeeds: 200, while the other delivers: a success is a success; the 503 that the other gets counts for nothing.
    - hangs: still under way in both: the first's renewals do not take it back.
    """
    per_kind = scaled(20, 5)
    script = Script(per_kind)
    checker.receiver.behaviour = script.answer
    api = await checker.start("api")
    settings = {"RETRIES": "1", "RETRY_TIME": "0.1", "TIMEOUT": "100", "LOG_LEVEL": "debug"} | SHORTENED
    first = await checker.start("worker", **settings)
    await checker.load(api, per_kind * len(KINDS))
    alone = ("fails", "done elsewhere", "succeeds", "hangs")
    await wait_until(
        lambda: script.has_come(*alone) and script.has_come("fails for good", attempt=2), "all are under way"
    )
    assert await counters(raw) == {"scheduled": 5 * per_kind, "failed": per_kind}

    async with standing_still(first.process.pid):
        await checker.start("worker", **settings)
        for kind in ("fails", "fails for good", "done elsewhere", "succeeds"):
            script.gates[f"stopped {kind}"].set()
        script.gates["other done elsewhere"].set()
        await wait_until(
            lambda: script.has_come(*alone, times=2) and script.has_come("fails for good", attempt=2, times=2),
            "all are under way in the other worker",
            LEASE_S + 10,
        )
        await wait_until(lambda: has_delivered(raw, per_kind), "the other worker has delivered a part")
        held = await pending(raw)
        assert len(held) == 4 * per_kind
        reclaimed = {key for key, row in held.items() if row["times_delivered"] > 1}

    await wait_until(
        lambda: (
            (len(first.events("retry")), len(first.events("bury")), len(first.events("delivered")))
            == (3 * per_kind, per_kind, per_kind)
        ),
        "the worker that was stopped has its answers",
    )
    await wait_until(lambda: has_delivered(raw, 2 * per_kind), "its successes count")
    await assert_nothing_changes_hands(raw, held, 3 * per_kind)
    for name in ("stopped hangs", *(f"other {kind}" for kind in KINDS)):
        script.gates[name].set()
    await checker.drained()
    verdict = await checker.verdict()
    assert verdict.dead == 0
    counts = await counters(raw)
    figures.note(failed=counts.get("failed", 0), delivered=counts.get("delivered", 0), reclaimed=len(reclaimed))
    assert counts == {"scheduled": 5 * per_kind, "failed": per_kind, "delivered": 5 * per_kind}
    times = Counter(script.times.values())
    assert times == {2: 5 * per_kind, 1: per_kind}, times


@pytest.mark.full
@pytest.mark.case("6a", "a delivery of three leases, its worker alive")
async def test_a_delivery_that_takes_three_leases_is_one_post(checker: Checker, figures: Figures) -> None:
    count = 50
    checker.receiver.delay_s = 3 * LEASE_S
    api = await checker.start("api")
    for _ in range(2):
        await checker.start("worker", TIMEOUT=str(6 * LEASE_S), **SHORTENED)
    await checker.load(api, count)
    await checker.drained(3 * LEASE_S + 10)
    verdict = await checker.verdict()
    assert verdict.arrived == count
    assert len(checker.receiver.arrivals) == count
    figures.note(posts=len(checker.receiver.arrivals), seconds_each=3 * LEASE_S)


class Stalled:
    """Deliveries under way in one worker, none of which is answered before its gate is open; it may be stalled
    meanwhile."""

    def __init__(self, checker: Checker, raw: redis.asyncio.Redis, count: int, lease_s: float, window_s: float) -> None:
        self.again = 0
        self._checker = checker
        self._raw = raw
        self._count = count
        self._lease_s = lease_s
        self._window_s = window_s
        self._gate = asyncio.Event()

    async def start(self, settings: dict[str, str]) -> None:
        """Load the worker until all are under way."""
        self._checker.receiver.behaviour = self._answer
        api = await self._checker.start("api")
        self._worker = await self._checker.start("worker", TIMEOUT="100", CONCURRENCY=str(2 * self._count), **settings)
        await self._checker.load(api, self._count)
        await wait_until(lambda: len(self._checker.receiver.arrivals) == self._count, "all are under way")

    async def stall(self) -> None:
        """Stop the worker until each lease is over, let it go on until each is begun again; count what it claimed
        again."""
        async with standing_still(self._worker.process.pid):
            await wait_until(self._are_over, "every lease is over", self._lease_s + 10, every_s=0.1)
        await wait_until(self._are_renewed, "every lease was begun again")
        self.again = sum(row["times_delivered"] > 1 for row in (await pending(self._raw)).values())

    async def finish(self) -> None:
        """Open the gate; nothing was started twice."""
        self._gate.set()
        await self._checker.drained()
        verdict = await self._checker.verdict()
        assert verdict.arrived == self._count
        assert len(self._checker.receiver.arrivals) == self._count

    async def _answer(self, request: web.Request) -> web.Response:
        await self._gate.wait()
        return web.Response()

    async def _idle_ms(self) -> list[int]:
        return [row["time_since_delivered"] for row in (await pending(self._raw)).values()]

    async def _are_over(self) -> bool:
        return min(await self._idle_ms()) > 1000 * self._window_s + 500

    async def _are_renewed(self) -> bool:
        return max(await self._idle_ms()) < 1000 * self._window_s


@pytest.mark.full
@pytest.mark.case("6b", "an event loop stalled past its lease: renewed before anything is swept")
async def test_a_stall_past_the_lease_is_followed_by_the_renewal(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    stalled = Stalled(checker, raw, 600, LEASE_S, WINDOW_S)
    await stalled.start(SHORTENED)
    await stalled.stall()
    assert stalled.again == 0
    await stalled.finish()
    figures.note(posts=len(checker.receiver.arrivals), came_again_by_the_sweep=stalled.again)


@pytest.mark.case("6c", "an event loop stalled past a lease that it takes for longer: claimed again, begun once")
async def test_a_stall_past_the_lease_starts_nothing_twice_in_its_process(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """The worker's lease is short for Redis and as ever for itself: as if its clock had stood still with it.

    Sweep and renewal are both overdue then; which comes first is a matter of chance, and of interest is the sweep.
    """
    stalled = Stalled(checker, raw, scaled(600, 300), SHORT_LEASE_S, SHORT_WINDOW_S)
    await stalled.start(SHORT | {"LONG_OWN_LEASE": "1"})
    stalls = 0
    while stalled.again == 0:
        assert stalls < 4, "its renewals always came first"
        stalls += 1
        await stalled.stall()
    await stalled.finish()
    figures.note(stalls=stalls, posts=len(checker.receiver.arrivals), came_again_by_the_sweep=stalled.again)


class Supervised:
    """A worker process that is started again as soon as it has ended, and is killed by whom it posts to."""

    def __init__(self, checker: Checker, **settings: str) -> None:
        self.lost = 0
        self._checker = checker
        self._settings = settings
        self._worker: Process | None = None

    async def run(self) -> None:
        """Keep a worker alive until cancelled."""
        while self.lost < 10:
            if self._worker is None or self._worker.process.poll() is not None:
                self._worker = self._checker.launch("worker", **self._settings)
            await asyncio.sleep(0.05)

    def kill_sender_of(self, request: web.Request) -> None:
        """SIGKILL the worker, if it is the one that holds the request's connection."""
        assert request.transport is not None
        assert self._worker is not None
        port = request.transport.get_extra_info("peername")[1]
        connections = psutil.Process(self._worker.process.pid).net_connections("tcp")
        if any(connection.laddr.port == port for connection in connections):
            self._worker.signal(signal.SIGKILL)
            self.lost += 1


async def killed_in_a_claim(checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, is_leased: bool) -> int:
    """Kill a worker that has claimed what is queued, before it knows of its tasks; return how many it has claimed.

    With a slow way to Redis its claim is done some time before it hears of it, and so are the leases after that.
    """
    proxy.delay_s = 0.2
    worker = checker.launch("worker", RETRIES="0", REDIS_URL=proxy.url, **SHORTENED)
    leased_ms = 1000 * (WINDOW_S - LEASE_S)

    async def claimed() -> list[bool]:
        rows = (await pending(raw)).values()
        leased = [row["time_since_delivered"] >= leased_ms for row in rows]
        return leased if not is_leased or all(leased) else []

    found = await wait_until(claimed, "the worker has claimed", 20)
    await checker.kill(worker)
    assert set(found) == {is_leased}
    assert not checker.receiver.arrivals
    return len(found)


@pytest.mark.full
@pytest.mark.case("7a", "a task that kills its worker every time")
async def test_a_poison_task_is_buried_after_five_workers_and_takes_no_neighbour_with_it(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """Bounded by five leases, each with the hold of the sweeps after it, and a window for what was claimed at last.

    Its slow neighbours are under way whenever it ends their worker, and have lost as many. With RETRIES=0; one task,
    for which a claim had waited, was brought to a worker that was killed in the instant before its lease began."""
    first, slow, quick = 10, 12, 1_000
    supervised = Supervised(checker, RETRIES="0")

    async def answer(request: web.Request) -> web.Response:
        number: int = json.loads(await request.read())["n"]
        if number == poison.number:
            supervised.kill_sender_of(request)
        elif first <= number < poison.number:
            await asyncio.sleep(0.5)
        return web.Response()

    checker.receiver.behaviour = answer
    api = await checker.start("api")
    await checker.load(api, first)
    assert await killed_in_a_claim(checker, proxy, raw, is_leased=False) == 1
    await checker.load(api, slow)
    [poison] = await checker.load(api, 1)
    await checker.load(api, quick, ttl=lambda number: number * 60 / quick)
    running = asyncio.create_task(supervised.run())
    try:
        await checker.drained(DEFAULT.lost_workers_most * (LEASE_S + DEFAULT.sweep_hold_ms / 1000) + WINDOW_S)
    finally:
        running.cancel()
    verdict = await checker.verdict()
    arrivals = checker.arrivals()
    failure: bytes = await raw.execute_command("HGET", KEYS.failures, poison.key)
    figures.note(
        workers_lost=supervised.lost, posts_of_the_poison=len(arrivals[poison.number]), neighbours_died=verdict.dead - 1
    )
    assert failure.startswith(b'0 {"error":"worker lost: 5 workers')
    assert verdict.dead == 1
    assert len(arrivals[poison.number]) == supervised.lost == 5
    assert verdict.arrived == first + slow + 1 + quick
    assert {arrival.attempt for arrival in checker.receiver.arrivals} == {1}


@pytest.mark.case("7b", "a worker killed between claim and POST, RETRIES=0")
async def test_a_worker_killed_between_claim_and_post_leads_to_a_post_even_without_retries(
    checker: Checker, proxy: Proxy, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    api = await checker.start("api")
    await checker.load(api, 20)
    assert await killed_in_a_claim(checker, proxy, raw, is_leased=True) == 20
    await checker.start("worker", RETRIES="0", **SHORTENED)
    await checker.drained(LEASE_S + 10)
    verdict = await checker.verdict()
    figures.note(claimed_but_not_posted=20)
    assert verdict.arrived == 20
    assert verdict.dead == verdict.duplicated == 0
    assert {arrival.attempt for arrival in checker.receiver.arrivals} == {1}
