"""One role in one process: the API, deliveries, or both; how it starts, and in which order it stops.

Start: the port, health, the private Redis (if REDIS_URL is not set), then API, worker, timer and reclaimer, which wait
for a Redis that is not there yet. Stop, on any signal that would end the process: claims, promotions and sweeps end at
once; clients that keep a connection may send requests for up to a second more; what is in flight finishes within
SHUTDOWN_GRACE and is settled, the rest is released; then the private Redis stops. A second signal skips the wait. An
asyncio task that dies stops the process with its error.

start.py is around this in the command's own process. Under a Supervisor each child runs a Service.
"""

import asyncio
import contextlib
import gc
import resource
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from redis_scheduler.api import stats
from redis_scheduler.loading import breaking_of, host_limit_of, policy_of
from redis_scheduler.logs import Events
from redis_scheduler.metrics.family import SLOTS
from redis_scheduler.metrics.meter import Meter
from redis_scheduler.metrics.snapshots import Snapshots
from redis_scheduler.process.dashboard import FirstUse
from redis_scheduler.process.imports import import_parts
from redis_scheduler.process.joining import Joining
from redis_scheduler.process.process import Process, process_name
from redis_scheduler.process.start import API_TIMEOUT_S, prepare_redis
from redis_scheduler.process.tracing import tracing
from redis_scheduler.rule import numbers_in
from redis_scheduler.settings import API, Settings
from redis_scheduler.stopping import finished, stop_or_interval
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.timing import DEFAULT, Timing

if TYPE_CHECKING:  # a process that only serves the API does without the engine
    from redis_scheduler.api.limits import Limits
    from redis_scheduler.engine.history import Historian
    from redis_scheduler.engine.observer import Observers
    from redis_scheduler.engine.slots import Slots

logger = Events(__name__)


GC_THRESHOLD = 20_000
"""An API collects its youngest garbage after so many new objects: with Python's own 700 that took a tenth of its time.
"""

WORKER_GC_THRESHOLD = 5_000
"""The same of processes that deliver: what a batch of claims needs is gone before. With 700 it took 1.7 us a delivery.
"""


WORKER_TIMEOUT_S = 3.0
"""One send to Redis by a worker: two of them and a back-off fit into a lease."""


METRICS_CONNECTIONS = 64
"""Connections at once to METRICS_PORT."""

PUBLISH_S = 1.0
"""Between two snapshots of what a child of a supervisor has counted. (Each takes some 0.1 ms.)"""

FILES_OF_ITS_OWN = 64
"""Descriptors of an API besides its clients' connections: to Redis, logs, libraries."""


def _raise_file_limit() -> None:
    """Allow this process as many descriptors as the system permits: each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _connections(role: str, wanted: int | None) -> int:
    """Return how many connections the API takes: clients must leave descriptors to deliveries."""
    from redis_scheduler.api.server import CONNECTIONS

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted or CONNECTIONS
    room = max(1, files - FILES_OF_ITS_OWN if role == API else files // 2)
    if wanted is not None and wanted > room:
        warning = (
            f"API_CONNECTIONS={wanted} is more than the limit of open files allows; it is {room} (ulimit -n: {files})"
        )
        logger.warning("hazard", warning=warning)
    return min(wanted or CONNECTIONS, room)


def kept_by(settings: Settings) -> Kept:
    """Return what the settings say is kept of tasks that have ended."""
    return Kept(
        dead_ttl_ms=round(settings.dead_ttl * 1000),
        dead_bytes=settings.dead_bytes,
        result_ttl_ms=round(settings.result_ttl * 1000),
        result_bytes=settings.result_bytes,
        answer_bytes=settings.answer_bytes,
    )


def tell_slots(meter: Meter, slots: "Slots") -> None:
    """Tell how many slots are taken, and how many are free."""
    for state, number in (("busy", slots.running), ("free", slots.concurrency - slots.running)):
        meter.set(SLOTS, state, value=number)


class Service:
    """One process in its role."""

    def __init__(self, process: Process, timing: Timing = DEFAULT) -> None:
        self._process = process
        self._timing = timing.over(process.shards_least)
        self._name = process_name()
        self._joining = Joining(process, self._timing, API_TIMEOUT_S)

    async def run(self, is_supervised: bool = False) -> None:
        """Serve until the stop. Raises the error of an asyncio task that died.

        With `is_supervised` the supervisor warns of Redis' configuration, so that the log has each warning once.
        """
        process = self._process
        import_parts(process.role)
        gc.set_threshold(GC_THRESHOLD if process.role == API else WORKER_GC_THRESHOLD)
        _raise_file_limit()
        try:
            async with tracing(process.settings) as process.tracer:
                await self._serve(is_supervised)
        finally:
            if process.snapshots is not None:
                process.snapshots.write(process.meter.read())

    async def _serve(self, is_supervised: bool) -> None:
        process = self._process
        listeners = (process.listener, process.metrics_listener)
        process.deployment.listeners.listen(one for one in listeners if one is not None)
        process.consumer = self._name
        process.deployment.consumer = self._name if process.delivers_from(0) else ""
        process.deployment.process, process.deployment.said = self._name, process.report.encoded
        shards = range(process.shards_least)
        async with asyncio.TaskGroup() as tasks:
            if process.snapshots is not None:
                tasks.create_task(self._publish(process.snapshots), name="publish")
            for number in shards:
                warns = not is_supervised and number < process.listed  # once for a server
                tasks.create_task(prepare_redis(process, warns, number), name="prepare-redis")
            tasks.create_task(self._joining.run(), name="deployment")
            if process.settings.alert_webhook:
                tasks.create_task(self._watch(), name="watch")
            if process.listener is not None:
                stats.prime()
                tasks.create_task(self._run_api(process.listener), name="api")
            if process.metrics_listener is not None:
                tasks.create_task(self._run_metrics(process.metrics_listener), name="metrics")
            if process.role != API:
                tasks.create_task(self.run_worker(), name="worker")

    def _limits(self) -> "Limits":
        from redis_scheduler.api.limits import DEFAULT as LIMITS
        from redis_scheduler.store.token import Allowed

        settings = self._process.settings
        return replace(
            LIMITS,
            timeout_most_s=settings.max_timeout,
            policy=policy_of(settings),
            memory_reserve=settings.memory_reserve / 100,
            labels_most=settings.labels_most,
            idempotency_ttl_s=settings.idempotency_ttl,
            idempotency_bytes=settings.idempotency_bytes,
            token_grace_s=settings.token_grace,
            allowed=Allowed(settings.token_rate, settings.token_tasks, settings.token_bytes),
            audit_entries=settings.audit_entries,
            audits_api=settings.audit_api == "on",
            origins=tuple(settings.cors_origins.split()),
            has_open_metrics=settings.api_metrics == "open",
            replicas=settings.replicas,
            kept=kept_by(settings),
        )

    async def _watch(self) -> None:
        from redis_scheduler.process.alerting import Watch

        process = self._process
        async with self._joining.clients(API_TIMEOUT_S) as clients:
            await Watch(process, clients, self._name, self._timing).run()

    async def _run_api(self, listener: socket.socket) -> None:
        from redis_scheduler.api.app import create_app
        from redis_scheduler.api.server import create_server

        process, settings, limits = self._process, self._process.settings, self._limits()
        async with self._joining.clients(API_TIMEOUT_S, process.meter, settings.replicas) as clients:
            dashboard = FirstUse(process)
            app = create_app(
                clients,
                self._name,
                process.auth,
                settings.max_body,
                process.deployments,
                process.stop.is_set,
                self._timing,
                limits,
                process.meter,
                process.snapshots,
                dashboard.inside if settings.ui == "on" else None,
                process.tracer,
            )
            connections = _connections(process.role, settings.api_connections)
            server = create_server(app, settings.shutdown_grace, connections, limits)
            try:
                await server.run_until(process.stop, process.hurry, listener)
            finally:
                dashboard.close()

    async def _run_metrics(self, listener: socket.socket) -> None:
        """Answer /metrics at METRICS_PORT, as the API does."""
        from redis_scheduler.api.app import create_metrics_app
        from redis_scheduler.api.metrics import MetricsApi
        from redis_scheduler.api.server import create_server
        from redis_scheduler.store.glance import Glance

        process, limits = self._process, self._limits()
        async with self._joining.clients(API_TIMEOUT_S, process.meter) as clients:
            metrics = MetricsApi(Glance(clients), process.meter, process.snapshots)
            app = create_metrics_app(clients[0], process.auth, process.deployment, limits, metrics)
            server = create_server(app, process.settings.shutdown_grace, METRICS_CONNECTIONS, limits)
            await server.run_until(process.stop, process.hurry, listener)

    async def _publish(self, snapshots: Snapshots) -> None:
        """Let the siblings read what this process counts, a second ago at most."""
        while not self._process.stop.is_set():
            snapshots.write(self._process.meter.read())
            await stop_or_interval(self._process.stop, PUBLISH_S)

    def _warn_of_missing(self, count: int) -> None:
        """Say it if the worker is to deliver from shards that there are not, or not yet."""
        shards = self._process.settings.worker_shards
        missing = [number for number in numbers_in(shards) if number >= count] if shards else []
        if missing:
            there = "there is one shard, 0" if count == 1 else f"there are the shards 0 to {count - 1}"
            warning = f"WORKER_SHARDS={shards}: {there}; of {', '.join(map(str, missing))} nothing is known yet"
            logger.warning("hazard", warning=warning)

    async def run_worker(self) -> None:
        """Deliver until the stop."""
        from redis_scheduler.engine.consumer import ShardAccess
        from redis_scheduler.engine.engine import Engine
        from redis_scheduler.engine.history import Historian, known
        from redis_scheduler.process.delivering import deliverer_of
        from redis_scheduler.store.history import History

        process, settings = self._process, self._process.settings
        timing = self._timing
        # Each delivery carries the id. Redis must be there for both.
        if not await finished(process.joined.wait(), process.stop):
            return
        policy = policy_of(settings)
        async with (
            self._joining.clients(WORKER_TIMEOUT_S, process.meter) as clients,
            deliverer_of(process, clients, lambda: known(clocks).now_ms()) as deliverer,
        ):
            for deployment in process.deployments:
                deployment.tell(lambda _: deliverer.carry(process.id))

            def access(client: RedisClient) -> ShardAccess:
                limit, breaking = host_limit_of(settings), breaking_of(settings)
                return ShardAccess.of_client(client, self._name, timing, kept_by(settings), limit, breaking)

            shards = {number: access(client) for number, client in enumerate(clients) if process.delivers_from(number)}
            self._warn_of_missing(len(clients))
            first = shards.get(0) or access(clients[0])
            clocks = {0: first.claims} | {number: shard.claims for number, shard in shards.items()}
            history = History(clients[0], self._name, timing)
            historian = Historian(history, clocks, process.outage, timing, process.meter)
            engine = Engine(
                shards,
                deliverer,
                policy,
                settings.concurrency,
                timing,
                self._observers(historian),
                kept_by(settings),
                len(clients),
                None if 0 in shards else first.limiting,
            )

            def serve(number: int) -> None:
                more = access(clients[number]) if process.delivers_from(number) else None
                if more is not None:
                    clocks[number] = more.claims
                engine.serve(number, more)

            self._joining.tell_more(serve)
            process.report.slots, process.report.seen = engine.slots, historian.seen
            process.meter.on_read += [historian.collect, lambda: tell_slots(process.meter, engine.slots)]
            async with historian.running():
                await engine.run(process.stop, process.hurry, settings.shutdown_grace)

    def _observers(self, historian: "Historian") -> "Observers":
        """Return all that are told what becomes of tasks: by the settings also more than log and history."""
        from redis_scheduler.engine.busiest import Busiest
        from redis_scheduler.engine.observer import Observer, Observers, log_of
        from redis_scheduler.engine.spanned import SpannedAttempts

        process, hosts = self._process, self._process.settings.metrics_hosts
        also_told: list[Observer] = [historian]
        if hosts:
            also_told.append(Busiest(process.meter, hosts))
        if process.tracer is not None:
            also_told.append(SpannedAttempts(process.tracer))
        return Observers(log_of(process.token), *also_told)
