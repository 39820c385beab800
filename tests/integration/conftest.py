"""Fixtures: the engine's parts in this process, on a real Redis, posting to a real receiver."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.claimer import Claimer
from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.engine.engine import Engine
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.intake import Intake
from redis_scheduler.engine.limiter import Limiter
from redis_scheduler.engine.observer import Log, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.reclaimer import Reclaimer
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.record import record_tail
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.support.recorder import Recorder, recording
from tests.support.store import Store

CONCURRENCY = 5


class OneShard(Engine):
    """An engine over one shard, whose parts tests look at and call."""

    @property
    def claimer(self) -> Claimer:
        return self.consumers[0].claimer

    @property
    def intake(self) -> Intake:
        return self.consumers[0].intake

    @property
    def holdings(self) -> Holdings:
        return self.consumers[0].holdings

    @property
    def limiter(self) -> Limiter:
        return self.consumers[0].limiter

    @property
    def outcomes(self) -> Outcomes:
        return self.consumers[0].outcomes

    @property
    def reclaimer(self) -> Reclaimer:
        return self.consumers[0].reclaimer


@asynccontextmanager
async def working(
    client: RedisClient,
    store: Store,
    concurrency: int,
    timing: Timing = DEFAULT,
    timeout_s: float = 5,
    observer: Observer | None = None,
    limiting: Limiting | None = None,
) -> AsyncIterator[OneShard]:
    """An engine that retries twice, a second after a failure. `limiting`: where its limits are, if not in the same
    Redis."""
    reader = QueueReader(client, store.name, timing)
    async with Deliverer("test-token", timeout_s) as deliverer:
        log = observer or Log("test-token")
        access = ShardAccess(store, reader, Bell(client), Outage(), limiting)
        yield OneShard({0: access}, deliverer, Policy(2, 1000), concurrency, timing, log)
    await reader.aclose()


TIMING = replace(DEFAULT, period_s=600)
"""No host is found slow, however busy the machine: what a worker sends back for that comes again by a timer, and the
tests of a worker alone have none."""


@pytest.fixture
def timing() -> Timing:
    """That of the worker; a test that needs another is parametrised with it."""
    return TIMING


@pytest.fixture
async def engine(client: RedisClient, store: Store, timing: Timing) -> AsyncIterator[OneShard]:
    """An engine of five slots."""
    async with working(client, store, CONCURRENCY, timing) as made:
        yield made


async def schedule(store: Store, webhook: str, count: int = 1, ttl_ms: int = 0) -> list[str]:
    """Schedule tasks; return their keys."""
    tasks = [
        NewTask(new_task_key(), ttl_ms, record_tail(webhook, ttl_ms / 1000, None, b"1"), None) for _ in range(count)
    ]
    await store.schedule(tasks)
    return [task.key for task in tasks]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop of the service's kind, for tests that are no coroutines: examples that share a server."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


@pytest.fixture(scope="module")
def recorder(runner: asyncio.Runner) -> Iterator[Recorder]:
    """A server in the event loop of `runner`: it serves only while that runs something."""
    serving = recording()
    yield runner.run(serving.__aenter__())
    runner.run(serving.__aexit__(None, None, None))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as pytest's own are too long for a socket on macOS."""
    root = Path(tempfile.mkdtemp(prefix="rs-")).resolve()
    yield root / "data"
    left = servers_in(root, *root.rglob("*"))
    for process in left:
        process.kill()
    shutil.rmtree(root)
    assert not left


def servers_in(*folders: Path) -> list[psutil.Process]:
    """The live processes that work in a folder, whatever they are called."""
    names = {str(folder) for folder in folders}
    alive = psutil.process_iter(["cwd", "status"])
    return [p for p in alive if p.info["cwd"] in names and p.info["status"] != psutil.STATUS_ZOMBIE]
