"""The supervisor: it starts several processes of a role, replaces those that die, and passes signals on.

It holds what the children share: the private Redis, the token, and the listening sockets, as start.py took them, from
which each child accepts; and the memory of what they count. A child is `python -m redis_scheduler.process.supervisor`:
a whole process with its own event loop.

- A child gets its settings as variables, since others can see a command line. It imports nothing from the working
  folder (-P).
- A child's stdin is a pipe whose other end only the supervisor holds. End of file means that the supervisor is gone,
  even if it was killed; then the child stops as on SIGTERM.
- A child has a session of its own, so the Ctrl-C of a terminal reaches it once, through the supervisor.
- SIGTERM asks a child to stop, however often it comes, and so does every other signal that would end it; SIGINT asks
  for haste. systemd sends SIGTERM to every process of a service, and deliveries must still have their time to finish.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as Child

import msgspec

from redis_scheduler import logs
from redis_scheduler.loading import SOURCES, load, sources, variables
from redis_scheduler.logs import Events
from redis_scheduler.metrics.snapshots import Snapshots, leave_counters, shared_memory
from redis_scheduler.process import health, streams
from redis_scheduler.process.process import Process, run_process
from redis_scheduler.process.service import Service
from redis_scheduler.process.signals import ENDING, signal_name
from redis_scheduler.process.start import prepare_redis
from redis_scheduler.settings import Settings
from redis_scheduler.stopping import stop_or_interval

logger = Events(__name__)

RESTART_S = 1.0
"""The least time from one start of a child that dies to the next."""

END_S = 10.0
"""A child that has not ended so long after its grace is killed: one that stands still never ends by itself."""

YOUNG_S = 10.0
"""If a child dies younger, something is wrong: the supervisor is not healthy for as long after it."""


class Supervisor:
    """Keeps PROCESSES children running until the stop, and returns when all have ended."""

    def __init__(self, process: Process, end_s: float = END_S) -> None:
        self._process = process
        self._end_s = end_s
        self._children: set[Child] = set()
        self._unwell_until = 0.0
        self._memory = shared_memory(process.settings.processes)
        process.is_well = lambda: time.monotonic() >= self._unwell_until

    async def run(self) -> None:
        """Run the children. A child that dies is no error."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._process.listed):
                    tasks.create_task(prepare_redis(self._process, warns=True, number=number), name="prepare-redis")
                forwarder = tasks.create_task(self._forward_signals(), name="forward-signals")
                async with asyncio.TaskGroup() as children:
                    for place in range(self._process.settings.processes):
                        children.create_task(self._keep(place), name="child")
                forwarder.cancel()
        finally:
            # After a fault of this program some may be left, and their private Redis is about to stop.
            self._signal(signal.SIGTERM)

    async def _forward_signals(self) -> None:
        process = self._process
        await process.stop.wait()
        for listener in (process.listener, process.metrics_listener):
            if listener is not None:
                listener.close()  # else new connections would wait for nobody
        self._signal(signal.SIGTERM)
        await stop_or_interval(process.hurry, process.settings.shutdown_grace + self._end_s)
        if process.hurry.is_set():
            self._signal(signal.SIGINT)
            await asyncio.sleep(self._end_s)
        for child in self._children:
            logger.warning("process-killed", pid=child.pid)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    async def _keep(self, place: int) -> None:
        """Run one child after the other until the stop. Each goes on with what the one before has counted."""
        stop = self._process.stop
        while not stop.is_set():
            started_at = time.monotonic()
            try:
                child = await self._start(place)
            except OSError:  # out of processes, memory or descriptors: the other children go on
                logger.exception("process-start-failed")
            else:
                await self._watch(child)
                leave_counters(self._memory, place)
            if stop.is_set():
                return
            ended_at = time.monotonic()
            if ended_at < started_at + YOUNG_S:
                self._unwell_until = ended_at + YOUNG_S
            await stop_or_interval(stop, started_at + RESTART_S - ended_at)

    async def _start(self, place: int) -> Child:
        process = self._process
        settings = dataclasses.replace(
            process.settings,
            redis_url=process.redis_url,
            api_auth=process.auth,
            delivery_auth=process.settings.carried,
        )
        inherited = {"memory": self._memory}
        for name, listener in (("listener", process.listener), ("metrics_listener", process.metrics_listener)):
            if listener is not None:
                inherited[name] = listener.fileno()
        arguments = (f"{name}={number}" for name, number in (*inherited.items(), ("place", place)))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", __name__, process.role, *arguments),
            stdin=PIPE,
            pass_fds=tuple(inherited.values()),
            env=os.environ | variables(settings) | {SOURCES: msgspec.json.encode(sources(process.settings)).decode()},
            start_new_session=True,
        )

    async def _watch(self, child: Child) -> None:
        stop = self._process.stop
        self._children.add(child)
        logger.info("process-started", pid=child.pid)
        if stop.is_set():  # the child started after the signal had been passed on
            self._signal(signal.SIGTERM)
        code = await child.wait()
        self._children.discard(child)
        health.clear()
        if not stop.is_set() or code not in (0, -signal.SIGTERM):
            logger.warning("process-died", pid=child.pid, **_ending(code))


def _ending(code: int) -> dict[str, int | str]:
    if code >= 0:
        return {"exit": code}
    with contextlib.suppress(ValueError):
        return {"signal": signal_name(-code)}
    return {"signal": -code}  # it has no name


async def _run_child(role: str, settings: Settings, inherited: dict[str, int]) -> None:
    listener, metrics_listener = (
        socket.socket(fileno=inherited[name]) if name in inherited else None
        for name in ("listener", "metrics_listener")
    )
    snapshots = Snapshots(inherited["memory"], inherited["place"])
    process = Process(role, settings, listener, metrics_listener, snapshots)
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, process.end, number == signal.SIGINT)

    def on_end_of_file() -> None:
        loop.remove_reader(sys.stdin)
        logger.warning("supervisor-gone")
        process.end(at_once=False)

    loop.add_reader(sys.stdin, on_end_of_file)
    async with health.beating():
        await Service(process).run(is_supervised=True)


def main(role: str, *inherited: str) -> int:
    """Run a child with the settings of its environment; return its exit code.

    `inherited`: as name=number the descriptors of the sockets to listen at and of the memory of what is counted, and
    the child's place in that.
    """
    for name in ("stdout", "stderr"):
        streams.never_wait(name)
    settings = load(role)
    logs.configure(settings.log_level, settings.log_format, os.getpid())
    given = {name: int(number) for name, _, number in (one.partition("=") for one in inherited)}
    return run_process(_run_child(role, settings, given))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
