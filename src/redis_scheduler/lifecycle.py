"""The life of a process: start order, signals, drain.

Start: the embedded Redis (if there is none), the port, then API, worker, timer and reclaimer. A Redis that is not there
yet is waited for. Stop, on any signal that would end the process: at once nothing is claimed, promoted or swept any
more; requests are taken for up to a second more, from who keeps a connection; what is in flight finishes within
SHUTDOWN_GRACE and is settled, the rest is released; then the embedded Redis stops. A second signal skips the wait. A
task that dies stops the process, with its error.

`begun` is the outside of this, which the command's own process has; inside runs a Service, or a Supervisor, whose
children run a Service each.

What only the API or only deliveries need is imported where it is used: uvicorn and aiohttp are half of what a start
costs, and a supervisor, or a process of one role, does without one of them or both.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from redis_scheduler import health
from redis_scheduler.announcement import announce
from redis_scheduler.api import stats
from redis_scheduler.embedded import EmbeddedServer, kept_token
from redis_scheduler.engine.timer import Timer
from redis_scheduler.settings import ALL, API, WORKER, Settings, hazards
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.neighbour import neighbours
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.transitions import Store
from redis_scheduler.store.views import Views
from redis_scheduler.task.retry import Policy

logger = logging.getLogger(__name__)

API_TIMEOUT_S = 0.9
"""One send to Redis for a request; two of them are the 2 s within which a client gets its 503."""

GC_THRESHOLD = 20_000
"""Objects that come and stay, until an API's youngest are collected: Python's own 700 cost a tenth of its time.

Not where deliveries are made: what failed attempts leave behind would come to 50 MB with receivers that send endlessly.
"""

ENDING: tuple[int, ...] = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF),
    # Linux has more that end a process; systemd, as one, stops a container with SIGRTMIN+3.
    *(getattr(signal, name) for name in ("SIGIO", "SIGPWR", "SIGSTKFLT") if sys.platform == "linux"),
    *(range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if sys.platform == "linux" else ()),
)
"""The signals that would end a process at once, its deliveries under way, and leave its Redis behind."""


def signal_name(number: int) -> str:
    """Return a signal's name; of the real-time ones only the first and the last have one of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


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
        logger.warning("hazard", extra={"fields": {"warning": warning}})
    return min(wanted or CONNECTIONS, room)


def process_name() -> str:
    """Return this process's name as a writer and consumer: new at every start."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Life:
    """One process: its role, its settings, its listening socket, what it knows of Redis, and whether it is to end."""

    def __init__(self, role: str, settings: Settings, listener: socket.socket | None = None) -> None:
        self.role = role
        self.settings = settings
        self.listener = listener
        self.redis_url = settings.redis_url or ""
        self.token = settings.api_auth or ""
        """Both are filled in where the settings left them open, once the life has begun."""
        self.outage = Outage()
        self.deployment = Deployment()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set when what is in flight is no longer waited for."""
        self.is_well: Callable[[], bool] = lambda: True
        """Whether the process may say that it is healthy."""
        self._was_asked = False

    def end(self, at_once: bool) -> None:
        """Ask for the stop, and that nothing is waited for if `at_once`."""
        self.stop.set()
        if at_once:
            self.hurry.set()

    def on_signal(self, number: int) -> None:
        """Stop; the second time, at once.

        SIGHUP does not count: a terminal that is closed sends it several times, and a service manager after SIGTERM.
        """
        again = self._was_asked and number != signal.SIGHUP
        self._was_asked = self._was_asked or number != signal.SIGHUP
        logger.info("stopping", extra={"fields": {"signal": signal_name(number), "at_once": again}})
        self.end(again)

    def listen_for_signals(self) -> None:
        """Stop in order on every signal that ends a process. One ignored at the start stays so, as under nohup."""
        for number in ENDING:
            # In the background of a script SIGINT is ignored, too; whoever sends it here means this process.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self.on_signal, number)


def run_process(main: Coroutine[Any, Any, None]) -> int:
    """Run a whole process; return its exit code. Raises StartError; the error of a task that died is logged."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    except BaseExceptionGroup as errors:
        logger.critical("died", exc_info=errors)
        return 1
    return 0


_API_PARTS, _WORKER_PARTS = ("api.app", "api.server"), ("delivery.attempt", "engine.reclaimer", "engine.worker")
_PARTS = {API: _API_PARTS, WORKER: _WORKER_PARTS, ALL: _API_PARTS + _WORKER_PARTS}
"""What a role needs, and others may do without."""


def _import_parts(role: str) -> None:
    gc.disable()  # what is imported stays: no collection looks at it, now or later
    for module in _PARTS[role]:
        importlib.import_module(f"redis_scheduler.{module}")
    gc.freeze()
    gc.enable()


@contextlib.asynccontextmanager
async def begun(role: str, settings: Settings) -> AsyncIterator[Life]:
    """Begin the life of the command's process; what it took and started ends with the block. Raises StartError."""
    life = Life(role, settings)
    life.listen_for_signals()
    if settings.processes == 1:
        _import_parts(role)  # before the start is told: who waits for that looks at a process that works
    life.token = settings.api_auth or kept_token(settings.data_dir)
    for hazard in hazards(settings, life.token, listens=role != WORKER):
        logger.warning("hazard", extra={"fields": {"warning": hazard}})
    if role != WORKER:
        from redis_scheduler.api.server import listen

        life.listener = listen(settings.listen_host, settings.port)
    with life.listener or contextlib.nullcontext():
        # From the first: the embedded Redis may have much to load.
        async with health.beating(lambda: life.is_well()), _redis_url(life) as life.redis_url:
            if not life.stop.is_set():
                announce(role, settings, life.token, life.listener)
            yield life
    logger.info("stopped", extra={"fields": {}})


@contextlib.asynccontextmanager
async def _redis_url(life: Life) -> AsyncIterator[str]:
    """Yield the URL of Redis: the one that is set, or that of a private one, which lives as long as this.

    A stop that comes while that one loads its data ends it; the life is over then.
    """
    if life.settings.redis_url:
        yield life.settings.redis_url
        return
    server = EmbeddedServer(life.settings.data_dir)
    ended = asyncio.Event()
    try:
        if await _finished(server.start(), life.stop):
            fields = {"server": server.description, "data": str(life.settings.data_dir.absolute())}
            logger.info("embedded-redis", extra={"fields": fields})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(ended), name="embedded-redis")
            try:
                yield server.url
            finally:
                ended.set()
    finally:
        await server.stop()


async def _finished(step: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Run a step to its end; give it up, and return False, when `stop` is set before. Raises the step's error."""
    task, waiter = asyncio.create_task(step), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return not task.cancelled()
    finally:
        waiter.cancel()
        task.cancel()


async def meet_redis(life: Life, warns: bool) -> None:
    """Once Redis serves, make the group; if `warns`, say what of its configuration, or in its keys, may do harm."""
    client = RedisClient(life.redis_url, API_TIMEOUT_S, life.outage)
    done = asyncio.Event()

    async def check() -> None:
        await client.meet()
        # At the first contact, and not when it is missed: a Redis that is full by then would refuse it.
        await client.create_group()
        for warning in await Views(client).configuration_warnings() if warns else ():
            logger.warning("redis-configuration", extra={"fields": {"warning": warning}})
        # A private Redis has no neighbours.
        for warning in await neighbours(client, life.token) if warns and life.settings.redis_url else ():
            logger.warning("hazard", extra={"fields": {"warning": warning}})
        done.set()

    async def give_up_on_stop() -> None:
        await life.stop.wait()
        done.set()

    try:
        async with asyncio.TaskGroup() as tasks:
            waiter = tasks.create_task(give_up_on_stop(), name="meet-redis-stop")
            await life.outage.ride(done, check)
            waiter.cancel()
    finally:
        await client.aclose()


class Service:
    """What one process does in its role: the API, deliveries, or both."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._name = process_name()

    async def run(self, is_supervised: bool = False) -> None:
        """Serve until the end of the life; raises the error of a task that died.

        One that is supervised leaves the warnings of Redis' configuration to its supervisor: one log has them once.
        """
        life = self._life
        _import_parts(life.role)
        if life.role == API:
            gc.set_threshold(GC_THRESHOLD)
        _raise_file_limit()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(meet_redis(life, warns=not is_supervised), name="meet-redis")
            tasks.create_task(self._join(), name="deployment")
            if life.listener is not None:
                stats.prime()
                tasks.create_task(self._run_api(life.listener), name="api")
            if life.role != API:
                tasks.create_task(self.run_worker(), name="worker")

    async def _join(self) -> None:
        life = self._life
        client = RedisClient(life.redis_url, API_TIMEOUT_S, life.outage)
        try:
            await life.deployment.run(client, life.outage, life.stop)
        finally:
            await client.aclose()

    async def _run_api(self, listener: socket.socket) -> None:
        from redis_scheduler.api.app import create_app
        from redis_scheduler.api.server import create_server

        life, settings = self._life, self._life.settings
        client = RedisClient(life.redis_url, API_TIMEOUT_S, life.outage)
        try:
            app = create_app(client, self._name, life.token, settings.max_body, life.deployment, life.stop.is_set)
            connections = _connections(life.role, settings.api_connections)
            server = create_server(app, settings.shutdown_grace, connections)
            await server.run_until(life.stop, life.hurry, listener)
        finally:
            await client.aclose()

    async def run_worker(self) -> None:
        """Deliver until the end of the life."""
        from redis_scheduler.delivery.attempt import Deliverer
        from redis_scheduler.engine.reclaimer import Reclaimer
        from redis_scheduler.engine.worker import Worker

        life, settings = self._life, self._life.settings
        # No delivery without the id, and without Redis there is none anyway.
        if not await _finished(life.deployment.joined.wait(), life.stop):
            return
        client = RedisClient(life.redis_url, WORKER_TIMEOUT_S, life.outage)
        store = Store(client, self._name)
        policy = Policy(settings.retries, round(settings.retry_time * 1000))
        try:
            async with Deliverer(life.token, settings.timeout, resends=settings.retries != 0) as deliverer:
                life.deployment.tell(deliverer.carry)
                reader = QueueReader(client, self._name)
                worker = Worker(store, reader, deliverer, policy, life.outage, settings.concurrency)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(worker.run(life.stop, life.hurry, settings.shutdown_grace), name="worker")
                    tasks.create_task(Timer(worker.promote, Bell(client), life.outage).run(life.stop), name="timer")
                    tasks.create_task(Reclaimer(store, worker, life.outage).run(life.stop), name="reclaimer")
        finally:
            await client.aclose()
