"""The life of a process: start order, signals, drain.

Start: the embedded Redis (if there is none), the port, then API, worker, timer and reclaimer. A Redis that is not there
yet is waited for. Stop, on any signal that would end the process: at once nothing is claimed, promoted or swept any
more; requests are taken for up to a second more, from who keeps a connection; what is in flight finishes within
SHUTDOWN_GRACE and is settled, the rest is released; then the embedded Redis stops. A second signal skips the wait. A
task that dies stops the process, with its error.

start.py is the outside of this, which the command's own process has; inside runs a Service, or a Supervisor, whose
children run a Service each.
"""

import asyncio
import contextlib
import gc
import resource
import socket

from redis_scheduler.api import stats
from redis_scheduler.engine.timer import Timer
from redis_scheduler.logs import Events
from redis_scheduler.process.imports import import_parts
from redis_scheduler.process.process import Process, process_name
from redis_scheduler.process.start import API_TIMEOUT_S, prepare_redis
from redis_scheduler.settings import API
from redis_scheduler.stopping import finished
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.retry import Policy
from redis_scheduler.task.timing import DEFAULT, Timing

logger = Events(__name__)


GC_THRESHOLD = 20_000
"""Objects that come and stay, until an API's youngest are collected: Python's own 700 cost a tenth of its time.

Not where deliveries are made: what failed attempts leave behind would come to 50 MB with receivers that send endlessly.
"""


WORKER_TIMEOUT_S = 3.0
"""One send of a worker; two and a back-off fit into a lease."""


FILES_OF_ITS_OWN = 64
"""What an API has open besides its clients' connections: to Redis, logs, libraries that are loaded."""


def _raise_file_limit() -> None:
    """Allow as many sockets as the system lets this process have: a connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _connections(role: str, wanted: int | None) -> int:
    """Return how many connections the API takes: clients must leave room for deliveries."""
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


class Service:
    """What one process does in its role: the API, deliveries, or both."""

    def __init__(self, process: Process, timing: Timing = DEFAULT) -> None:
        self._process = process
        self._timing = timing
        self._name = process_name()

    async def run(self, is_supervised: bool = False) -> None:
        """Serve until the end of the life; raises the error of a task that died.

        One that is supervised leaves the warnings of Redis' configuration to its supervisor: one log has them once.
        """
        process = self._process
        import_parts(process.role)
        if process.role == API:
            gc.set_threshold(GC_THRESHOLD)
        _raise_file_limit()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(prepare_redis(process, warns=not is_supervised), name="prepare-redis")
            tasks.create_task(self._join(), name="deployment")
            if process.listener is not None:
                stats.prime()
                tasks.create_task(self._run_api(process.listener), name="api")
            if process.role != API:
                tasks.create_task(self.run_worker(), name="worker")

    async def _join(self) -> None:
        process = self._process
        client = RedisClient(process.redis_url, API_TIMEOUT_S, process.keys, process.outage)
        try:
            await process.deployment.run(client, process.outage, process.stop)
        finally:
            await client.aclose()

    async def _run_api(self, listener: socket.socket) -> None:
        from redis_scheduler.api.app import create_app
        from redis_scheduler.api.server import create_server

        process, settings = self._process, self._process.settings
        client = RedisClient(process.redis_url, API_TIMEOUT_S, process.keys, process.outage)
        try:
            app = create_app(
                client,
                self._name,
                process.token,
                settings.max_body,
                process.deployment,
                process.stop.is_set,
                self._timing,
            )
            connections = _connections(process.role, settings.api_connections)
            server = create_server(app, settings.shutdown_grace, connections)
            await server.run_until(process.stop, process.hurry, listener)
        finally:
            await client.aclose()

    async def run_worker(self) -> None:
        """Deliver until the end of the life."""
        from redis_scheduler.delivery.attempt import Deliverer
        from redis_scheduler.engine.reclaimer import Reclaimer
        from redis_scheduler.engine.worker import Worker

        process, settings = self._process, self._process.settings
        # No delivery without the id, and without Redis there is none anyway.
        if not await finished(process.deployment.joined.wait(), process.stop):
            return
        client = RedisClient(process.redis_url, WORKER_TIMEOUT_S, process.keys, process.outage)
        store = Claims(client, self._name, self._timing)
        policy = Policy(settings.retries, round(settings.retry_time * 1000))
        try:
            async with Deliverer(process.token, settings.timeout, resends=settings.retries != 0) as deliverer:
                process.deployment.tell(deliverer.carry)
                reader = QueueReader(client, self._name, self._timing)
                worker = Worker(store, reader, deliverer, policy, process.outage, settings.concurrency, self._timing)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(worker.run(process.stop, process.hurry, settings.shutdown_grace), name="worker")
                    tasks.create_task(
                        Timer(worker.promote, Bell(client), process.outage, self._timing).run(process.stop),
                        name="timer",
                    )
                    tasks.create_task(
                        Reclaimer(store, worker, process.outage, self._timing).run(process.stop), name="reclaimer"
                    )
        finally:
            await client.aclose()
