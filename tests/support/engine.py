"""Parts of the engine as a process of its own: `python -m tests.support.engine <part>`, with the service's own
variables.

    timers 5    so many timers, and nothing else
    workers 20  so many whole workers, each a consumer with timer and reclaimer
    faulty …    the service itself, whose sweep meets a fault of the program
    service …   the service itself, as `redis-scheduler …`
    worker …    the same, as `redis-scheduler worker …`

LEASE_MS, WINDOW_MS, BATCH_LIMIT, RETIRE_IDLE_MS, RETIRE_INTERVAL_S, BUFFER_BYTES, REJOIN_INTERVAL_S, STALE_S,
CHILD_END_S (a supervisor's `end_s`) and SERVER_STOP_S (the private Redis' `stop_s`) shorten what the product takes, so
that a case need not wait for it; a lease is still renewed three times. OPEN_FILES is how many files the process may
have open, KEEPALIVE_S how long it keeps idle connections to receivers. With LONG_OWN_LEASE a worker takes its leases
for as long as ever, whatever Redis was told. With UNWATCHED it delivers alerts, and looks for nothing to tell: the test
does.
"""

import asyncio
import functools
import os
import resource
import signal
import sys
from dataclasses import replace

import uvloop

from redis_scheduler import cli, loading, logs, settings
from redis_scheduler.delivery import pool
from redis_scheduler.engine import engine, reclaimer
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.timer import Timer
from redis_scheduler.logs import Events
from redis_scheduler.process import alerting, embedded, service, streams, supervisor
from redis_scheduler.process.alerting import Watch
from redis_scheduler.process.process import Process, process_name
from redis_scheduler.process.service import WORKER_TIMEOUT_S, Service
from redis_scheduler.store import claims, generations
from redis_scheduler.store.blocking import Bell
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.support.names import KEYS

logger = Events(__name__)

MODULE = "tests.support.engine"
"""What `Process` is told to run instead of the service."""


def _shortened() -> Timing:
    """Shorten what the variables ask for; return the timing."""
    timing = DEFAULT
    if lease_ms := int(os.environ.get("LEASE_MS", "0")):
        interval_s = lease_ms / 3000
        timing = replace(timing, lease_ms=lease_ms, renew_interval_s=interval_s, recovery_interval_s=interval_s)
    if window_ms := int(os.environ.get("WINDOW_MS", "0")):
        timing = replace(timing, window_ms=window_ms)
    if batch_limit := int(os.environ.get("BATCH_LIMIT", "0")):
        timing = replace(timing, batch_limit=batch_limit)
    if idle_ms := int(os.environ.get("RETIRE_IDLE_MS", "0")):
        timing = replace(timing, retire_idle_ms=idle_ms)
    if os.environ.get("LONG_OWN_LEASE"):
        vars(engine)["Holdings"] = lambda has_room, _: Holdings(has_room)
    if buffer_bytes := int(os.environ.get("BUFFER_BYTES", "0")):
        streams.BUFFER_BYTES = buffer_bytes
    if interval_s := float(os.environ.get("RETIRE_INTERVAL_S", "0")):
        timing = replace(timing, retire_interval_s=interval_s)
    if interval_s := float(os.environ.get("REJOIN_INTERVAL_S", "0")):
        timing = replace(timing, rejoin_interval_s=interval_s)
    if stale_s := float(os.environ.get("STALE_S", "0")):
        generations.STALE_S = stale_s
    if files := int(os.environ.get("OPEN_FILES", "0")):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if keepalive_s := float(os.environ.get("KEEPALIVE_S", "0")):
        pool.KEEPALIVE_S = keepalive_s
        vars(pool)["_Host"] = functools.partial(pool._Host, keep_s=keepalive_s)
    if end_s := float(os.environ.get("CHILD_END_S", "0")):
        vars(supervisor)["Supervisor"] = functools.partial(supervisor.Supervisor, end_s=end_s)
    if stop_s := float(os.environ.get("SERVER_STOP_S", "0")):
        vars(embedded)["EmbeddedServer"] = functools.partial(embedded.EmbeddedServer, stop_s=stop_s)
    if os.environ.get("UNWATCHED"):
        vars(alerting)["Watch"] = _Unwatched
    return timing


class _Unwatched(Watch):
    async def look(self) -> None:
        pass


async def _run_timers(url: str, count: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clients = [RedisClient(url, WORKER_TIMEOUT_S, KEYS) for _ in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            timer = Timer(claims.Claims(client, process_name()), Bell(client), client.outage)
            tasks.create_task(timer.run(stop), name="timer")
        logger.info("started", timers=count)
    for client in clients:
        await client.aclose()


async def _run_workers(options: settings.Settings, count: int, timing: Timing) -> None:
    processes = [Process(settings.WORKER, options) for _ in range(count)]

    def on_sigterm() -> None:
        for process in processes:
            process.end(at_once=False)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    async with asyncio.TaskGroup() as tasks:
        for process in processes:
            tasks.create_task(Service(process, timing).run(is_supervised=True), name="worker")
        logger.info("started", workers=count)


async def _fault(self: reclaimer.Reclaimer) -> float:
    raise ZeroDivisionError


def main(part: str, *arguments: str) -> int:
    """Run one part until SIGTERM; return the exit code."""
    timing = _shortened()
    # The command makes its own.
    vars(service)["Service"] = functools.partial(Service, timing=timing)
    if part == "faulty":
        reclaimer.Reclaimer.run_once = _fault  # type: ignore[method-assign]  # a fault of the program
        return cli.main(arguments)
    if part == "service":
        return cli.main(arguments)
    if part not in ("timers", "workers"):
        return cli.main([part, *arguments])
    options = loading.load(settings.WORKER)
    logs.configure(options.log_level, options.log_format)
    count = int(arguments[0])
    running = _run_timers(options.redis_url or "", count) if part == "timers" else _run_workers(options, count, timing)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(running)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
