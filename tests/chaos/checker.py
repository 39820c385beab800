"""The total-queue checker: what was acknowledged must arrive, and nothing else may.

A run schedules tasks through the REST API from several clients, and keeps what became of each request; the receiver
keeps every arrival. Whatever faults happen meanwhile, in the end each task is accounted for:

- lost: acknowledged, never arrived, not dead, paused, expired, cancelled or replaced; or a series of which an
  occurrence never arrived. Must be 0.
- unexpected: arrived but never sent or refused; or when it was cancelled, replaced, paused or expired; or of an
  occurrence that was made twice. Must be 0.
- duplicated: arrived more than once with the same attempt number; the promise is at least once.
- recovered: the outcome of the request is unknown (no answer, or a 503), and it arrived.
"""

import asyncio
import contextlib
import json
import math
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio

from redis_scheduler.store.keys import Keys
from tests.chaos.accounts import Sent, Standing, Verdict, account, by_number
from tests.chaos.figures import Figures
from tests.support.audit import plain
from tests.support.names import KEYS
from tests.support.receiver import Arrival, Receiver
from tests.support.service import TOKEN, Process
from tests.support.waiting import wait_until

REQUEST_S = 10.0
"""How long a client waits for an answer."""


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
        self.others: list[tuple[redis.asyncio.Redis, Keys]] = []  # the shards beside the first one
        self._folder = folder
        self._raw = raw
        self._numbers = 0

    async def look_at(self, url: str) -> None:
        """Look from now on at another server for the first shard."""
        await self._raw.aclose()
        self._raw = plain(url)

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
        options: Callable[[int], dict[str, Any]] = lambda _: {},
    ) -> list[Sent]:
        """Schedule `count` tasks from several clients at once, at most `rate` a second in all; keep every outcome.

        Task i has the delay `ttl(i)`, goes to `webhook(i)`, and its number (unique in the run) as its data, with so
        many bytes of padding, and `options(i)`; a series has no delay. `port` is that of a proxy before the API.
        Returns what was sent, in order.
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
                    body = {"webhook": url, "ttl": delay, "data": data} | options(number - first)
                    if "repeat" in body:
                        del body["ttl"]
                    # Kept before it is sent: it may arrive before its answer.
                    outcome = self.sent[number] = _sent(number, body)
                    sent.append(outcome)
                    asked = time.monotonic()
                    status, answer = await _answer(session, "POST", f"http://127.0.0.1:{port}/schedule", body)
                    outcome.status, outcome.took_s = status, time.monotonic() - asked
                    self.learn(outcome, answer)

        await asyncio.gather(*(client() for _ in range(clients)))
        return sorted(sent, key=lambda outcome: outcome.number)

    def next(self, **body: Any) -> tuple[Sent, dict[str, Any]]:
        """Keep a request that a case is to send; return it, and its body: with the receiver's webhook and a number."""
        number, self._numbers = self._numbers, self._numbers + 1
        body = {"webhook": self.receiver.url, "data": {"n": number}} | body
        self.sent[number] = _sent(number, body)
        return self.sent[number], body

    def learn(self, outcome: Sent, answer: dict[str, Any]) -> None:
        """Keep what the answer told of a task that was scheduled."""
        if outcome.is_acknowledged:
            outcome.key = answer["key"]
            outcome.due_at = datetime.fromisoformat(answer["due"]).timestamp() - self.clock_ahead_s

    def learn_all(self, sent: Sequence[tuple[Sent, dict[str, Any]]], status: int, answer: dict[str, Any]) -> None:
        """Keep what the answer told of each task of a batch."""
        for (outcome, _), told in zip(sent, answer["tasks"], strict=True):
            outcome.status = status
            self.learn(outcome, told)

    async def put(self, api: Process, key: str, ttl: float, before: Sent | None = None) -> Sent:
        """Put a task under a key, in the place of the one that was put there before, until the answer is known."""
        outcome, body = self.next(ttl=ttl)
        if before is not None:
            before.may_be_gone = True

        async def put(session: aiohttp.ClientSession, url: str, _: Sent) -> bool:
            asked_at = time.time()
            outcome.status, answer = await _answer(session, "PUT", f"{url}/{key}", body)
            self.learn(outcome, answer)
            if not outcome.is_acknowledged and not outcome.is_refused:
                outcome.unanswered_due_at = min(outcome.unanswered_due_at, asked_at + ttl)
            if before is not None and outcome.is_acknowledged and answer.get("found") != "in delivery":
                before.replaced_at = time.time()
            return outcome.is_acknowledged

        await self._each(api, [outcome], put)
        return outcome

    async def cancel(self, api: Process, tasks: list[Sent]) -> None:
        """Cancel acknowledged tasks, one after another, and keep what each answer said."""
        port = (await api.started())["port"]
        async with aiohttp.ClientSession(headers={"Authorization": TOKEN}) as session:
            for task in tasks:
                task.may_be_gone = True
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

    async def resume(self, api: Process, tasks: list[Sent], verb: str = "resume") -> None:
        """Resume tasks, or `run` them, one after another, until each answer is known."""

        async def resume(session: aiohttp.ClientSession, url: str, task: Sent) -> bool:
            task.resumed_at = task.resumed_at or time.time()
            if verb == "run":
                task.due_at = min(task.due_at, task.resumed_at)
            status, _ = await _answer(session, "POST", f"{url}/{task.key}/{verb}")
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

        async def is_drained(raw: redis.asyncio.Redis, keys: Keys) -> bool:
            # At one moment: between two looks a task may go from where the second looks to where the first looked.
            async with raw.pipeline(transaction=True) as moment:
                moment.zcard(keys.due)
                moment.hlen(keys.entries)
                moment.zcard(keys.awaiting)
                moment.zcard(keys.held)
                return bool(await moment.execute() == [0, 0, 0, 0])

        async def are_drained() -> bool:
            return all([await is_drained(*shard) for shard in self.shards])

        await wait_until(are_drained, "all tasks delivered or dead", timeout_s, every_s=0.05)

    def arrivals(self) -> dict[int, list[Arrival]]:
        """Every arrival so far, by the task's number."""
        return by_number(self.receiver.arrivals)

    async def verdict(self, may_be_lost: Callable[[Sent], bool] = lambda _: False) -> Verdict:
        """Stop the processes, account for every task, note the figures, and fail if one is lost or unexpected.

        They are stopped first: what they would still have sent has arrived then. `may_be_lost`: what the fault itself
        takes from Redis, such as the last second before a power cut; it is counted.
        """
        await self.stop()
        standing = Standing(await self._members("dead"), await self._members("paused"), await self._expired())
        verdict = account(self.sent, self.arrivals(), standing, self.clock_ahead_s)
        self._note(verdict)
        forgotten = [task for task in verdict.lost if not may_be_lost(task)]
        assert forgotten == [], f"{len(forgotten)} lost, such as {forgotten[:3]}"
        unexpected = verdict.unexpected
        assert unexpected == [], f"{len(unexpected)} unexpected, such as {unexpected[:3]}"
        # A task is due at a whole millisecond; the receiver's clock is the same machine's.
        assert verdict.early_s < 0.001, f"{verdict.early_s:.4f} s early: {verdict.early[:3]}"
        return verdict

    @property
    def shards(self) -> list[tuple[redis.asyncio.Redis, Keys]]:
        """A client of each shard, and its keys."""
        return [(self._raw, KEYS), *self.others]

    async def _members(self, place: str) -> set[str]:
        members: list[list[bytes]] = [
            await raw.execute_command("ZRANGE", getattr(keys, place), 0, -1) for raw, keys in self.shards
        ]
        return {key.decode() for of_shard in members for key in of_shard}

    async def _expired(self) -> set[str]:
        """The keys of tasks that have expired, as long as that is kept."""
        segments: list[dict[bytes, bytes]] = [
            await raw.execute_command("HGETALL", name) for raw, keys in self.shards for name in keys.segments
        ]
        kept = [pair for segment in segments for pair in segment.items()]
        return {key.decode() for key, summary in kept if json.loads(summary)["state"] == "expired"}

    def _note(self, verdict: Verdict) -> None:
        self.figures.note(acknowledged=verdict.acknowledged)
        for name in ("refused", "unknown", "occurrences", "dead", "expired", "cancelled", "replaced"):
            if count := getattr(verdict, name):
                self.figures.note(**{name: count})
        self.figures.note(lost=len(verdict.lost), unexpected=len(verdict.unexpected), duplicated=verdict.duplicated)
        if verdict.unknown:
            self.figures.note(recovered=verdict.recovered)
        self.figures.note(lateness_s=verdict.lateness)
        if verdict.recovery.most:
            self.figures.note(recovery_s=verdict.recovery)


def _sent(number: int, body: dict[str, Any]) -> Sent:
    return Sent(number, None, expire_s=body.get("expire", math.inf), times=body.get("repeat", {}).get("times", 0))


async def _answer(
    session: aiohttp.ClientSession, method: str, url: str, body: object = None
) -> tuple[int | None, dict[str, Any]]:
    """Send a request; return its status and JSON, or None where no answer came."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        async with session.request(method, url, json=body, timeout=timeout) as response:
            return response.status, await response.json()
    return None, {}
