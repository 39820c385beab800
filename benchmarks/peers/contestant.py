"""What is measured: the service or a peer, seen in the same way. Each runs beside a Redis that it has for itself."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from benchmarks import harness
from benchmarks.instant import MARGIN_S, schedule_all
from benchmarks.lateness import schedule_at_rate
from benchmarks.peers import load, peer
from benchmarks.peers.load import Load
from benchmarks.webhooks import Webhooks
from redis_scheduler.settings import WORKER
from tests.support.redis_process import redis_process
from tests.support.waiting import wait_until

LEAD_S = 3.0
"""From the start of a peer's enqueuing to the instant, beside what the tasks themselves take."""

DRAINED_S = 30.0


class NotInTimeError(Exception):
    """The instant came before the last task was enqueued, or held by the worker."""


class Contestant(Protocol):
    """One that tasks are given to."""

    async def burst(self, tasks: int) -> dict[str, float]:
        """Enqueue tasks for one instant, all of them before it; return their due times (time.time()) by key."""

    async def steady(self, asked: Load) -> dict[str, float]:
        """Enqueue at a constant rate; return the due times by key."""

    async def ready(self) -> None:
        """Check just before the instant that nothing but the deliveries is left to do, or raise NotInTimeError."""

    async def drained(self) -> None:
        """Wait until no task is left anywhere."""

    def worker_pids(self) -> list[int]:
        """The processes of its worker."""


@dataclass
class TheService:
    """The service, with an API and one worker."""

    service: harness.Service
    receiver: harness.Receiver
    webhooks: Webhooks

    async def burst(self, tasks: int) -> dict[str, float]:
        bodies = [json.dumps(load.data(number)).encode() for number in range(tasks)]
        due_times, _ = await schedule_all(self.service.client, self.receiver, self.webhooks.first(tasks), bodies)
        return due_times

    async def steady(self, asked: Load) -> dict[str, float]:
        seconds = asked.tasks // asked.rate
        return await schedule_at_rate(self.service.client, self.webhooks.of, asked.rate, seconds, asked.ttl_s)

    async def ready(self) -> None:
        """The tasks wait in Redis."""

    async def drained(self) -> None:
        await self.service.client.drained(DRAINED_S)

    def worker_pids(self) -> list[int]:
        return self.service.pids(WORKER)


@dataclass
class APeer:
    """A peer with one worker; `patience` is how many times as long as expected its enqueuer may take."""

    peer: peer.Peer
    redis: harness.Redis
    webhooks: Webhooks
    folder: Path
    environment: Mapping[str, str]
    pid: int
    patience: int

    async def burst(self, tasks: int) -> dict[str, float]:
        lead_s = LEAD_S + self.patience * tasks / self.peer.enqueued_a_second
        due_times = await self._enqueue(Load(tasks, 0, lead_s))
        if time.time() > min(due_times.values()) - MARGIN_S:
            raise NotInTimeError(f"{tasks} tasks could not be enqueued within {lead_s:.0f} s")
        return due_times

    async def steady(self, asked: Load) -> dict[str, float]:
        return await self._enqueue(asked)

    async def _enqueue(self, asked: Load) -> dict[str, float]:
        return await peer.enqueue(self.peer, self.environment, self.folder, self.webhooks, asked)

    async def ready(self) -> None:
        if self.peer.inbox and (waiting := await self.redis.raw.llen(self.peer.inbox)):
            raise NotInTimeError(f"{waiting} tasks were not in the worker's memory when they were due")

    async def drained(self) -> None:
        async def is_drained() -> bool:
            return not await self.redis.raw.exists(*self.peer.task_keys)

        await wait_until(is_drained, "all tasks delivered", DRAINED_S, every_s=0.05)

    def worker_pids(self) -> list[int]:
        process = psutil.Process(self.pid)
        return [self.pid, *(child.pid for child in process.children(recursive=True))]


@asynccontextmanager
async def redis_of_its_own(url: str | None, folder: Path) -> AsyncIterator[harness.Redis]:
    """Run an append-only Redis on a TCP port, since not every client takes a unix socket; or use the one at `url`,
    which must hold nothing, and is left with nothing."""
    if url is None:
        async with redis_process(folder) as server, harness.redis_at(server.url, folder) as redis:
            yield redis
        return
    async with harness.redis_at(url, folder) as redis:
        if await redis.raw.dbsize():
            raise SystemExit("the Redis holds something: name one that is empty, for it is emptied after each peer")
        try:
            yield redis
        finally:
            await redis.raw.flushdb()


@asynccontextmanager
async def running(
    contestant: peer.Peer, redis: harness.Redis, webhooks: Webhooks, folder: Path, patience: int
) -> AsyncIterator[APeer]:
    """Run the worker of a peer until the end of the block."""
    environment: dict[str, Any] = {"REDIS_URL": redis.url, **contestant.settings}
    async with peer.worker(contestant, environment, folder) as process:
        yield APeer(contestant, redis, webhooks, folder, environment, process.pid, patience)
