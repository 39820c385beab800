"""The life of a process: start order, signals, drain.

Start: the embedded Redis (if there is none), the port, then API, worker, timer and reclaimer. A Redis that is not there
yet is waited for. Stop, on SIGTERM or SIGINT: at once nothing is accepted, claimed, promoted or swept any more; what is
in flight finishes within SHUTDOWN_GRACE and is settled, the rest is released; then the embedded Redis stops. A second
signal skips the wait. A task that dies stops the process, with its error.
"""

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import socket
from collections.abc import AsyncIterator

from redis_scheduler import __version__, health, stats
from redis_scheduler.api.app import create_app
from redis_scheduler.api.server import create_server, listen
from redis_scheduler.blocking import Bell, QueueReader
from redis_scheduler.delivery import Deliverer
from redis_scheduler.embedded import EmbeddedServer, kept_token
from redis_scheduler.outage import Outage
from redis_scheduler.reclaimer import Reclaimer
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.retry import Policy
from redis_scheduler.settings import ALL, API, WORKER, Settings, hazards
from redis_scheduler.store import Store
from redis_scheduler.timer import Timer
from redis_scheduler.views import Views
from redis_scheduler.worker import Worker

logger = logging.getLogger(__name__)

API_TIMEOUT_S = 0.9
"""One send to Redis for a request; two of them are the 2 s within which a client gets its 503."""

WORKER_TIMEOUT_S = 3.0
"""One send of a worker; two and a back-off fit into a lease."""


def _raise_file_limit() -> None:
    """Allow as many sockets as the system lets this process have: a connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def process_name() -> str:
    """Return this process's name as a writer and consumer: new at every start."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Service:
    """One process in one role."""

    def __init__(self, role: str, settings: Settings) -> None:
        self._role = role
        self._settings = settings
        self._name = process_name()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._outage = Outage()

    async def run(self) -> None:
        """Start, serve until a signal, and stop. Raises StartError, or the error of a task that died."""
        settings = self._settings
        for hazard in hazards(settings):
            logger.warning("hazard", extra={"fields": {"warning": hazard}})
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        _raise_file_limit()
        token = settings.api_auth or kept_token(settings.data_dir)
        listener = listen(settings.listen_host, settings.port) if self._role != WORKER else None
        # From the first: the embedded Redis may have much to load.
        ended = asyncio.Event()
        beat = asyncio.create_task(health.beat(ended), name="health")
        with listener or contextlib.nullcontext():
            async with self._redis_url() as url, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._meet_redis(url), name="meet-redis")
                if listener is not None:
                    stats.prime()
                    tasks.create_task(self._run_api(url, token, listener), name="api")
                if self._role != API:
                    tasks.create_task(self._run_worker(url, token), name="worker")
                self._announce(listener, token)
        ended.set()
        await beat
        logger.info("stopped", extra={"fields": {}})

    def _on_signal(self, number: int) -> None:
        again = self._stop.is_set()
        logger.info("stopping", extra={"fields": {"signal": signal.Signals(number).name, "at_once": again}})
        (self._hurry if again else self._stop).set()

    @contextlib.asynccontextmanager
    async def _redis_url(self) -> AsyncIterator[str]:
        """Yield the URL of Redis: the one that is set, or that of a private one, which lives as long as this."""
        if self._settings.redis_url:
            yield self._settings.redis_url
            return
        server = EmbeddedServer(self._settings.data_dir)
        await server.start()
        logger.info(
            "embedded-redis",
            extra={"fields": {"server": server.description, "data": str(self._settings.data_dir.absolute())}},
        )
        ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.run(ended), name="embedded-redis")
                try:
                    yield server.url
                finally:
                    ended.set()
        finally:
            await server.stop()

    async def _run_api(self, url: str, token: str, listener: socket.socket) -> None:
        client = RedisClient(url, API_TIMEOUT_S, self._outage)
        try:
            app = create_app(client, self._name, token, self._settings.max_body)
            server = create_server(app, self._settings.shutdown_grace)
            await server.run_until(self._stop, self._hurry, listener)
        finally:
            await client.aclose()

    async def _run_worker(self, url: str, token: str) -> None:
        settings = self._settings
        client = RedisClient(url, WORKER_TIMEOUT_S, self._outage)
        outage = self._outage
        store = Store(client, self._name)
        policy = Policy(settings.retries, round(settings.retry_time * 1000))
        try:
            async with Deliverer(token, settings.timeout) as deliverer:
                reader = QueueReader(client, self._name)
                worker = Worker(store, reader, deliverer, policy, outage, settings.concurrency)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(worker.run(self._stop, self._hurry, settings.shutdown_grace), name="worker")
                    tasks.create_task(Timer(store, Bell(client), outage).run(self._stop), name="timer")
                    tasks.create_task(Reclaimer(store, worker, outage).run(self._stop), name="reclaimer")
        finally:
            await client.aclose()

    async def _meet_redis(self, url: str) -> None:
        """Once Redis is there, make the group, and say what of its configuration may cost its user tasks."""
        client = RedisClient(url, API_TIMEOUT_S, self._outage)
        done = asyncio.Event()

        async def check() -> None:
            # At the first contact, and not when it is missed: a Redis that is full by then would refuse it.
            await client.create_group()
            for warning in await Views(client).configuration_warnings():
                logger.warning("redis-configuration", extra={"fields": {"warning": warning}})
            done.set()

        async def give_up_on_stop() -> None:
            await self._stop.wait()
            done.set()

        try:
            async with asyncio.TaskGroup() as tasks:
                waiter = tasks.create_task(give_up_on_stop(), name="meet-redis-stop")
                await self._outage.ride(done, check)
                waiter.cancel()
        finally:
            await client.aclose()

    def _announce(self, listener: socket.socket | None, token: str) -> None:
        fields: dict[str, object] = {"version": __version__, "role": self._role}
        if listener is None:
            logger.info("started", extra={"fields": fields})
            return
        host, port = listener.getsockname()[:2]
        logger.info("started", extra={"fields": fields | {"host": host, "port": port}})
        if self._role == ALL and not self._settings.api_auth:
            # The one place where a token is shown: it was made here, for whoever reads this.
            address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            shown = f"[{address}]" if ":" in address else address
            print(_CURL.format(address=f"{shown}:{port}", token=token), flush=True)  # noqa: T201


_CURL = """
Schedule a webhook in 5 seconds:

  curl -X POST http://{address}/schedule -H 'Authorization: {token}' -H 'Content-Type: application/json' \\
    -d '{{"webhook": "http://127.0.0.1:9000/", "ttl": 5, "data": {{"hello": "world"}}}}'
"""
