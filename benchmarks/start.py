"""Start: how long from the start of a process to its first answer, and from SIGTERM to its end?

An answer is one that needs Redis: GET /stats, or for a worker the delivery of a task that is already due. The process
is stopped a moment later, when it has nothing to do.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client, Process
from tests.support.waiting import wait_until

LIMIT_S = 30.0
"""For one start, and one stop."""

POLL_S = 0.002
"""Between two tries to connect, and two looks whether a process has ended: what a figure is good to."""

IDLE_S = 0.3
"""From the first answer to SIGTERM: what a start still does is done by then."""

INTERPRETER = "pass"
PACKAGES = "import aiohttp, starlette, uvicorn, redis"
OWN_IMPORTS = """import time
started = time.perf_counter()
import uvloop, redis_scheduler.cli, redis_scheduler.process.service, redis_scheduler.process.supervisor
print(1000 * (time.perf_counter() - started))"""

Timed = Callable[[], Awaitable[dict[str, float]]]
"""One try; what it took, in ms."""


async def script(code: str) -> dict[str, float]:
    """Time an interpreter that runs this code and ends; if it prints a time, that is taken."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0, f"python -c {code!r} ended with {process.returncode}"
    return {"start_ms": float(printed or 1000 * (time.perf_counter() - started))}


@asynccontextmanager
async def spawned(folder: Path, *arguments: str, **variables: str) -> AsyncIterator[Process]:
    """Start a process, without waiting for it; end it if that is still to be done."""
    process = Process(folder, *arguments, HOST="127.0.0.1", API_AUTH=TOKEN, **variables)
    try:
        yield process
    finally:
        await process.stop()


async def stopped(process: Process) -> float:
    """Stop an idle process; return the ms that it took."""
    await asyncio.sleep(IDLE_S)
    signalled = time.perf_counter()
    process.signal(signal.SIGTERM)
    # Popen.wait looks ever more rarely, up to 50 ms apart.
    await wait_until(lambda: process.process.poll() is not None, "the process ends", LIMIT_S, POLL_S)
    stop_ms = 1000 * (time.perf_counter() - signalled)
    assert process.process.returncode == 0, process.log
    return stop_ms


async def serve(folder: Path, *arguments: str, **variables: str) -> dict[str, float]:
    """Start a process with the API; time its first answer, and its stop."""
    port = free_port()
    # A connection that is kept would have to be closed in the stop.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        client = Client(session, f"http://127.0.0.1:{port}")
        started = time.perf_counter()
        async with spawned(folder, *arguments, PORT=str(port), **variables) as process:

            async def answers() -> bool:
                assert process.process.poll() is None, process.log
                try:
                    status, _ = await client.call("GET", "/stats")
                except aiohttp.ClientConnectorError:
                    return False
                return status == 200

            await wait_until(answers, "the first answer", LIMIT_S, POLL_S)
            start_ms = 1000 * (time.perf_counter() - started)
            return {"start_ms": start_ms, "stop_ms": await stopped(process)}


async def deliver(folder: Path, redis_url: str, receiver: harness.Receiver) -> dict[str, float]:
    """Start a worker when a task is due; time its delivery, and the worker's stop."""
    record = record_tail(receiver.url, 0, None, b"1")
    await harness.seed(redis_url, 1, lambda _: NewTask(new_task_key(), 0, record, None))
    started = time.time()
    async with spawned(folder, WORKER, REDIS_URL=redis_url) as process:
        await receiver.wait_for(1, LIMIT_S)
        (arrival,) = await receiver.take()
        return {"start_ms": 1000 * (arrival.at - started), "stop_ms": await stopped(process)}


def ranks(tries: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return median and worst of each time."""
    return {
        name: {
            "median": round(report.percentile([one[name] for one in tries], 50), 1),
            "worst": round(max(one[name] for one in tries), 1),
        }
        for name in tries[0]
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all starts; return what was found."""
    folders = [str(folder / f"data-{number}") for number in range(options.tries)]
    fresh = iter(folders)
    async with harness.redis_at(options.redis_url, folder) as redis, harness.receiving() as receiver:
        rows: dict[str, Timed] = {
            "all_fresh": lambda: serve(folder, DATA_DIR=next(fresh)),
            "all_used": partial(serve, folder, DATA_DIR=folders[0]),
            "api": partial(serve, folder, API, REDIS_URL=redis.url),
            "worker": partial(deliver, folder, redis.url, receiver),
            "interpreter": partial(script, INTERPRETER),
            "packages": partial(script, PACKAGES),
            "own_imports": partial(script, OWN_IMPORTS),
        }
        # In turns, so that a busy moment of the machine is not that of one kind.
        tries = [{name: await timed() for name, timed in rows.items()} for _ in range(options.tries)]
    found = {name: ranks([one[name] for one in tries]) for name in rows}
    return {**found, "versions": report.versions(redis.server)}


LABELS = {
    "all_fresh": "all in one, a fresh folder",
    "all_used": "all in one, a folder that was used",
    "api": "api, on a running Redis",
    "worker": "worker, on a running Redis",
    "interpreter": f"python -c '{INTERPRETER}'",
    "packages": f"python -c '{PACKAGES}'",
    "own_imports": "the imports of the service alone",
}


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"start: {found['settings']['tries']} tries each; ms to the first answer, and from SIGTERM to the end\n")
    rows = []
    for name, label in LABELS.items():
        times = [found[name].get(part, {}) for part in ("start_ms", "stop_ms")]
        rows.append((label, *(f"{time[rank]:.0f}" if time else "" for time in times for rank in ("median", "worst"))))
    print(report.table(("", "start, median", "worst", "stop, median", "worst"), rows))
    start = {name: found[name]["start_ms"]["median"] for name in LABELS}
    print(
        f"\nprofile   of {start['all_fresh']:.0f} ms all in one: the interpreter {start['interpreter']:.0f}, "
        f"imports {start['own_imports']:.0f}, "
        f"what the service does {start['api'] - start['interpreter'] - start['own_imports']:.0f}, "
        f"the private Redis {start['all_fresh'] - start['api']:.0f}"
    )


def main() -> None:
    parser = harness.parser(__doc__, "start")
    parser.add_argument("--tries", type=harness.positive, default=10, help="starts of each kind")
    options = parser.parse_args()
    harness.run(options, measure, show, limit_s=60 + 30 * options.tries)


if __name__ == "__main__":
    main()
