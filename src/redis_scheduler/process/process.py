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
from redis_scheduler.logs import Events
from redis_scheduler.metrics.meter import Meter
from redis_scheduler.metrics.snapshots import Snapshots
from redis_scheduler.process.sealing import keys_of
from redis_scheduler.process.signals import ENDING, signal_name
from redis_scheduler.settings import Settings
from redis_scheduler.spans import Tracer
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.workers import format_suffix
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
        self.keys = keys_of(settings)
        self.credentials: Credentials | None = None
        """What deliveries show, if `started` has read it; a child of a supervisor reads it itself."""
        self.meter = Meter(snapshots.own() if snapshots else None)
        self.snapshots = snapshots
        """What the children of a supervisor have counted, for each of them."""
        self.tracer: Tracer | None = None
        """Who is told of schedules and attempts, with TRACES_URL."""
        self.outage = Outage()
        self.deployment = Deployment()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        """Set when the stop no longer waits for what is in flight."""
        self.is_well: Callable[[], bool] = lambda: True
        """Whether the process may say that it is healthy."""
        self._was_asked = False

    @property
    def token(self) -> str:
        """The service's own token: of two, while it is changed, the first."""
        return self.auth.partition(" ")[0]

    @property
    def shard(self) -> Shard:
        """Where this deployment's tasks stand."""
        return Shard(self.redis_url, self.keys)

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
        """Stop in order on every signal that ends a process. A signal that is ignored at the start stays ignored
        (nohup)."""
        for number in ENDING:
            # But for SIGINT: a script ignores it for what it starts in the background, yet who sends it means the
            # process.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
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
