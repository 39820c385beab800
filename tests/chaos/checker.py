"""The total-queue checker: what was acknowledged must arrive, and nothing else may.

A run schedules tasks through the REST API from several clients, and keeps what became of each request; the receiver
keeps every arrival. Whatever faults happen meanwhile, in the end each task is accounted for:

- lost: acknowledged, never arrived, not dead, not paused and not cancelled. Must be 0.
- unexpected: arrived but never sent or refused, or arrived after a cancel that answered `cancelled`, or while it
  was paused. Must be 0.
- duplicated: arrived more than once with the same attempt number; the promise is at least once.
- recovered: the outcome of the request is unknown (no answer, or a 503), and it arrived.
"""

import asyncio
import contextlib
import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio

from tests.chaos.figures import Figures, Spread
from tests.support.names import KEYS
from tests.support.receiver import Arrival, Receiver
from tests.support.service import TOKEN, Process
from tests.support.waiting import wait_until

LATE_S = 0.5
"""A task that came later than this, or more than once, was hit by a fault: its last arrival is its recovery."""

REQUEST_S = 10.0
"""How long a client waits for an answer."""


@dataclass
class Sent:
    """A request to schedule, and what became of it."""

    number: int
    status: int | None
    """None: no answer came."""
    key: str = ""
    due_at: float = 0
    took_s: float = 0
    """How long the client waited for the answer."""
    cancelled_at: float | None = None
    """When a cancel was answered with `cancelled`."""
    may_be_cancelled: bool = False
    """A cancel was sent, whatever its answer."""
    paused_at: float | None = None
    """When a pause was answered, unless the task was in delivery."""
    resumed_at: float | None = None
    """When a resume was sent: the task may come from then on."""

    @property
    def is_acknowledged(self) -> bool:
        return self.status == 200

    @property
    def is_refused(self) -> bool:
        """A 503 leaves open whether the task was entered."""
        return self.status is not None and self.status not in (200, 503)


@dataclass
class Verdict:
    """Every task accounted for. Times in seconds: p50 / p99 / most."""

    acknowledged: int
    refused: int
    unknown: int
    arrived: int
    dead: int
    cancelled: int
    lost: list[Sent]
    unexpected: list[Arrival]
    duplicated: int
    recovered: int
    lateness: Spread
    recovery: Spread
    early_s: float
    """The earliest arrival before its due time; 0 if there was none."""


class Checker:
    """One run: the service's processes, the clients, the receiver, and the verdict."""

    def __init__(
        self, folder: Path, redis_url: str, raw: redis.asyncio.Redis, receiver: Receiver, figures: Figures
    ) -> None:
        self.redis_url = redis_url
        self.receiver = receiver
        self.figures = figures
        self.sent: dict[int, Sent] = {}
        self.processes: list[Process] = []
        self.prefix: list[str] = []
        """A command that starts the processes, in surroundings of their own."""
        self.clock_ahead_s = 0.0
        """How far Redis' clock, by which a task is due, is ahead of the one here."""
        self._folder = folder
        self._raw = raw
        self._numbers = 0

    # Processes

    def launch(self, *arguments: str, **variables: str) -> Process:
        """Start a process without waiting for it; REDIS_URL is the server's unless it is given."""
        settings = {"REDIS_URL": self.redis_url, "API_AUTH": TOKEN} | variables
        process = Process(self._folder, *arguments, prefix=self.prefix, **settings)
        self.processes.append(process)
        return process

    async def start(self, *arguments: str, **variables: str) -> Process:
        """Start a process (`api`, `worker`, or both in one without arguments), and wait until it has started."""
        process = self.launch(*arguments, **variables)
        await process.started()
        return process

    async def kill(self, process: Process) -> None:
        """End a process as a crash does."""
        process.signal(signal.SIGKILL)
        await process.ended()

    async def stop(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            if process.process.poll() is None:
                process.signal(signal.SIGTERM)
        await asyncio.gather(*(process.stop() for process in self.processes))

    # Clients

    async def load(
        self,
        api: Process,
        count: int,
        ttl: float | Callable[[int], float] = 0,
        clients: int = 8,
        rate: float | None = None,
        webhook: str | Callable[[int], str] | None = None,
        padding: int = 0,
        port: int | None = None,
    ) -> list[Sent]:
        """Schedule `count` tasks from several clients at once, at most `rate` a second in all; keep every outcome.

        Task i has the delay `ttl(i)`, goes to `webhook(i)`, and its number (unique in the run) as its data, with so
        many bytes of padding. `port` is that of a proxy before the API. Returns what was sent, in order.
        """
        port = port or (await api.started())["port"]
        first, self._numbers = self._numbers, self._numbers + count
        remaining = iter(range(first, first + count))
        started = time.monotonic()
        sent: list[Sent] = []

        async def client() -> None:
            async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
                for number in remaining:
                    if rate is not None:
                        await asyncio.sleep(max(0, started + (number - first) / rate - time.monotonic()))
                    delay = ttl(number - first) if callable(ttl) else ttl
                    data = {"n": number} | ({"padding": "x" * padding} if padding else {})
                    url = webhook(number - first) if callable(webhook) else webhook or self.receiver.url
                    body = {"webhook": url, "ttl": delay, "data": data}
                    # Kept before it is sent: it may arrive before its answer.
                    outcome = self.sent[number] = Sent(number, None)
                    sent.append(outcome)
                    asked = time.monotonic()
                    status, answer = await _answer(session, "POST", f"http://127.0.0.1:{port}/schedule", body)
                    outcome.status, outcome.took_s = status, time.monotonic() - asked
                    if status == 200:
                        outcome.key = answer["key"]
                        outcome.due_at = datetime.fromisoformat(answer["due"]).timestamp() - self.clock_ahead_s

        await asyncio.gather(*(client() for _ in range(clients)))
        return sorted(sent, key=lambda outcome: outcome.number)

    async def cancel(self, api: Process, tasks: list[Sent]) -> None:
        """Cancel acknowledged tasks, one after another, and keep what each answer said."""
        port = (await api.started())["port"]
        async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
            for task in tasks:
                task.may_be_cancelled = True
                status, answer = await _answer(session, "DELETE", f"http://127.0.0.1:{port}/schedule/{task.key}")
                if status == 200 and answer["data"] == "cancelled":
                    task.cancelled_at = time.time()

    async def pause(self, api: Process, tasks: list[Sent]) -> None:
        """Pause tasks, one after another, until each answer is known; those in delivery go on."""

        async def pause(session: aiohttp.ClientSession, url: str, task: Sent) -> bool:
            status, _ = await _answer(session, "POST", f"{url}/{task.key}/pause")
            if status == 200:
                task.paused_at = time.time()
            return status in (200, 404, 409)

        await self._each(api, tasks, pause)

    async def resume(self, api: Process, tasks: list[Sent]) -> None:
        """Resume tasks, one after another, until each answer is known."""

        async def resume(session: aiohttp.ClientSession, url: str, task: Sent) -> bool:
            task.resumed_at = task.resumed_at or time.time()
            status, _ = await _answer(session, "POST", f"{url}/{task.key}/resume")
            return status in (200, 404, 409)

        await self._each(api, tasks, resume)

    @staticmethod
    async def _each(
        api: Process, tasks: list[Sent], ask: Callable[[aiohttp.ClientSession, str, Sent], Awaitable[bool]]
    ) -> None:
        """Ask of each task until it is answered."""
        url = f"http://127.0.0.1:{(await api.started())['port']}/schedule"
        async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
            for task in tasks:
                await wait_until(lambda task=task: ask(session, url, task), "an answer", 60)  # type: ignore[misc]

    # The end

    async def drained(self, timeout_s: float = 60) -> None:
        """Wait until no task is left to deliver."""

        async def is_drained() -> bool:
            # At one moment: between two looks a task may go from where the second looks to where the first looked.
            async with self._raw.pipeline(transaction=True) as moment:
                moment.zcard(KEYS.due)
                moment.hlen(KEYS.entries)
                return bool(await moment.execute() == [0, 0])

        await wait_until(is_drained, "all tasks delivered or dead", timeout_s, every_s=0.05)

    def arrivals(self) -> dict[int, list[Arrival]]:
        """Every arrival so far, by the task's number."""
        found: dict[int, list[Arrival]] = defaultdict(list)
        for arrival in self.receiver.arrivals:
            found[json.loads(arrival.body)["n"]].append(arrival)
        return found

    async def verdict(self, may_be_lost: Callable[[Sent], bool] = lambda _: False) -> Verdict:
        """Stop the processes, account for every task, note the figures, and fail if one is lost or unexpected.

        They are stopped first: what they would still have sent has arrived then. `may_be_lost`: what the fault itself
        takes from Redis, such as the last second before a power cut; it is counted.
        """
        await self.stop()
        verdict = self._account(await self._members(KEYS.dead), await self._members(KEYS.paused))
        self._note(verdict)
        forgotten = [task for task in verdict.lost if not may_be_lost(task)]
        assert forgotten == [], f"{len(forgotten)} lost, such as {forgotten[:3]}"
        unexpected = verdict.unexpected
        assert unexpected == [], f"{len(unexpected)} unexpected, such as {unexpected[:3]}"
        # A task is due at a whole millisecond; the receiver's clock is the same machine's.
        assert verdict.early_s < 0.001, f"{verdict.early_s:.4f} s early"
        return verdict

    async def _members(self, place: str) -> set[str]:
        members: list[bytes] = await self._raw.execute_command("ZRANGE", place, 0, -1)
        return {key.decode() for key in members}

    def _account(self, dead: set[str], paused: set[str]) -> Verdict:
        """Return what became of every task."""
        arrivals, tasks = self.arrivals(), self.sent.values()
        delays, recoveries = self._delays(arrivals)
        return Verdict(
            acknowledged=sum(task.is_acknowledged for task in tasks),
            refused=sum(task.is_refused for task in tasks),
            unknown=sum(not task.is_acknowledged and not task.is_refused for task in tasks),
            arrived=len(arrivals),
            dead=len(dead),
            cancelled=sum(task.cancelled_at is not None for task in tasks),
            lost=[
                task
                for task in tasks
                if task.is_acknowledged
                and not task.may_be_cancelled
                and task.number not in arrivals
                and task.key not in dead | paused
            ],
            unexpected=[
                arrival
                for number, found in arrivals.items()
                for arrival in found
                if self._is_unexpected(number, arrival)
            ],
            duplicated=sum(len(found) - _attempts(found) for found in arrivals.values()),
            recovered=sum(self.sent[n].status in (None, 503) for n in arrivals if n in self.sent),
            lateness=Spread.of(delays),
            recovery=Spread.of(recoveries),
            early_s=max(0.0, -min(delays, default=0.0)),
        )

    def _is_unexpected(self, number: int, arrival: Arrival) -> bool:
        """Whether it was never sent or refused, came after a cancel that answered `cancelled`, or while it was
        paused."""
        task = self.sent.get(number)
        if task is None or task.is_refused:
            return True
        if task.paused_at is not None and task.paused_at < arrival.at < (task.resumed_at or math.inf):
            return True
        return task.cancelled_at is not None and arrival.at > task.cancelled_at

    def _delays(self, arrivals: dict[int, list[Arrival]]) -> tuple[list[float], list[float]]:
        """Return how late each acknowledged task came first; and last, those that a fault hit."""
        delays: list[float] = []
        recoveries: list[float] = []
        for number, found in arrivals.items():
            task = self.sent.get(number)
            if task is None or not task.is_acknowledged:
                continue
            due_at = max(task.due_at, task.resumed_at or 0)
            delays.append(found[0].at - due_at)
            if delays[-1] > LATE_S or len(found) > _attempts(found):
                recoveries.append(found[-1].at - due_at)
        return delays, recoveries

    def _note(self, verdict: Verdict) -> None:
        self.figures.note(acknowledged=verdict.acknowledged)
        for name in ("refused", "unknown", "dead", "cancelled"):
            if count := getattr(verdict, name):
                self.figures.note(**{name: count})
        self.figures.note(lost=len(verdict.lost), unexpected=len(verdict.unexpected), duplicated=verdict.duplicated)
        if verdict.unknown:
            self.figures.note(recovered=verdict.recovered)
        self.figures.note(lateness_s=verdict.lateness)
        if verdict.recovery.most:
            self.figures.note(recovery_s=verdict.recovery)


def _attempts(found: list[Arrival]) -> int:
    """How many different attempts arrived."""
    return len({arrival.attempt for arrival in found})


async def _answer(
    session: aiohttp.ClientSession, method: str, url: str, body: object = None
) -> tuple[int | None, dict[str, Any]]:
    """Send a request; return its status and JSON, or None where no answer came."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        async with session.request(method, url, json=body, timeout=timeout) as response:
            return response.status, await response.json()
    return None, {}
