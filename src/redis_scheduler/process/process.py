"""One process: what it knows of itself, whether it is to end, and how it runs from start to end."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from redis_scheduler.delivery.credentials import Credentials
from redis_scheduler.loading import shard_count_of
from redis_scheduler.logs import Events
from redis_scheduler.metrics.meter import Meter
from redis_scheduler.metrics.snapshots import Snapshots
from redis_scheduler.process.report import Report
from redis_scheduler.process.sealing import keys_of
from redis_scheduler.process.signals import heeded, signal_name
from redis_scheduler.rule import numbers_in
from redis_scheduler.settings import API, Settings
from redis_scheduler.spans import Tracer
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.shard import Shard, shard_at
from redis_scheduler.store.url import urls_of_shards
from redis_scheduler.store.workers import format_suffix
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.options import RECORD_FORMAT

logger = Events(__name__)


def process_name() -> str:
    """Return this process's name as a writer and consumer: new at every start. It says which records it reads."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{format_suffix(RECORD_FORMAT)}"


class Process:
    """One process: its role, its settings, its listening sockets, what it knows of Redis, and whether it is to end."""

    def __init__(
        self,
        role: str,
        settings: Settings,
        listener: socket.socket | None = None,
        metrics_listener: socket.socket | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.role = role
        self.settings = settings
        self.listener = listener
        self.metrics_listener = metrics_listener
        self.redis_url = settings.redis_url or ""
        self.auth = settings.api_auth or ""
        """`started` fills both in where the settings leave them open."""
        self.keys_of = keys_of(settings)
        self.credentials: Credentials | None = None
        """What deliveries show, if `started` has read it; a child of a supervisor reads it itself."""
        self.meter = Meter(snapshots.own() if snapshots else None)
        self.snapshots = snapshots
        """What the children of a supervisor have counted, for each of them."""
        self.tracer: Tracer | None = None
        """Who is told of schedules and attempts, with TRACES_URL."""
        self.shards = shard_count_of(settings)
        """New tasks are to go to so many shards."""
        self.listed = len(urls_of_shards(settings.redis_url or ""))
        """REDIS_URL names so many servers, a shard each; 1: all shards stand in what it names."""
        self.outage = Outage(0 if self.shards_least > 1 else None)
        self.deployment = Deployment(self.shards, generations=Generations(self.listed))
        """What it knows of the first shard; of the others: `outage_at`, `deployment_at`."""
        self._outages = [self.outage]
        self.deployments = [self.deployment]
        """One for each shard that this process has joined, or is to join."""
        self.joined = asyncio.Event()
        """Set once a shard has told the id of the deployment."""
        self._shards: dict[int, Shard] = {}
        self.consumer = ""
        """Its name as a consumer of the shards that it delivers from."""
        self.report = Report(role, "" if role == API else settings.worker_shards or "")
        """What it says of itself to the others."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set when the stop no longer waits for what is in flight."""
        self.is_well: Callable[[], bool] = lambda: True
        """Whether the process may say that it is healthy."""
        self._was_asked = False
        self._said: set[str] = set()

    def is_new(self, line: str) -> bool:
        """Whether this has not been said yet: shards on one Redis, or set up alike, have the same to say."""
        is_new = line not in self._said
        self._said.add(line)
        return is_new

    @property
    def token(self) -> str:
        """The service's own token: of two, while it is changed, the first."""
        return self.auth.partition(" ")[0]

    @property
    def shard(self) -> Shard:
        """The first shard, which has what a deployment has once."""
        return self.shard_at(0)

    @property
    def shards_least(self) -> int:
        """It joins so many shards at least, however few there are known to be."""
        return max(self.shards, self.listed)

    @property
    def shards_most(self) -> int:
        """So many shards this process can reach."""
        urls = urls_of_shards(self.redis_url)
        return SHARDS_MOST if len(urls) == 1 else len(urls)

    def shard_at(self, number: int) -> Shard:
        """Return where the tasks of a shard stand."""
        if number not in self._shards:
            self._shards[number] = shard_at(self.redis_url, number, self.keys_of)
        return self._shards[number]

    def outage_at(self, number: int) -> Outage:
        """Return what is known of whether a shard is away."""
        while len(self._outages) <= number:
            self._outages.append(Outage(len(self._outages)))
        return self._outages[number]

    def deployment_at(self, number: int) -> Deployment:
        """Return what is known of the deployment by a shard."""
        while len(self.deployments) <= number:
            of_shard = Deployment(0, self.deployment.listeners, self.deployment.generations)
            of_shard.consumer = self.consumer if self.delivers_from(number) else ""
            self.deployments.append(of_shard)
        return self.deployments[number]

    def delivers_from(self, number: int) -> bool:
        """Whether this process delivers the tasks of a shard."""
        shards = self.settings.worker_shards
        return self.role != API and (shards is None or number in numbers_in(shards))

    @property
    def id(self) -> str:
        """The id that deliveries carry: that of the first shard, or of another until that is known. The API knows
        those of all shards."""
        return next((each.id for each in self.deployments if each.id), "")

    def end(self, at_once: bool) -> None:
        """Ask for the stop; with `at_once` it waits for nothing."""
        self.stop.set()
        if at_once:
            self.hurry.set()

    def on_signal(self, number: int) -> None:
        """Stop in order; at the second signal, at once.

        SIGHUP does not count: a closing terminal sends it several times, and a service manager after SIGTERM.
        """
        again = self._was_asked and number != signal.SIGHUP
        self._was_asked = self._was_asked or number != signal.SIGHUP
        logger.info("stopping", signal=signal_name(number), at_once=again)
        self.end(again)

    def listen_for_signals(self) -> None:
        """Stop in order on every signal that ends a process."""
        for number in heeded():
            asyncio.get_running_loop().add_signal_handler(number, self.on_signal, number)


def run_process(main: Coroutine[Any, Any, None]) -> int:
    """Run a whole process; return its exit code. Raises StartError; the error of an asyncio task that died is
    logged."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except BaseExceptionGroup as errors:
        logger.critical("died", errors)
        return 1
    return 0
