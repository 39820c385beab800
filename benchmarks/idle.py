"""Idle: what does a process cost while nothing is due, with nothing scheduled and with a million tasks for tomorrow?

What is counted is what Redis says that it received from its clients (MONITOR), less what scripts called there.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler import keys
from redis_scheduler.embedded import EmbeddedServer
from redis_scheduler.models import record_tail
from redis_scheduler.settings import ALL, API, WORKER
from redis_scheduler.store import SCRIPTS, NewTask

COMMANDS_MARK = 3.0
"""A second, on the wire, of each process: DESIGN.md, section 8."""

CPU_MARK = 0.5
"""Percent of a core, of each process: DESIGN.md, section 8."""

ARRANGEMENTS: dict[str, Sequence[str]] = {
    "api": (API,),
    "worker": (WORKER,),
    "all": (ALL,),
    "workers": (WORKER, WORKER, WORKER),
}
"""The processes that are run."""

PRIVATE = "all_private"
"""All in one with a private Redis, which it watches."""

DAY_MS = 86_400_000
SEED_A_SECOND = 5_000
"""Tasks that even a slow machine seeds."""

NAMES = {script.sha: name for name, script in SCRIPTS.items()}


async def commands(url: str, seconds: float) -> Counter[str]:
    """Count by name what clients send to Redis for so long; a script is one command, by its own name."""
    found: Counter[str] = Counter()
    # MONITOR is silent for as long as all others are.
    client = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=None)
    async with client, client.monitor() as monitor:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for heard in monitor.listen():
                    if heard["client_type"] != "lua":
                        name, _, arguments = heard["command"].partition(" ")
                        found[NAMES.get(arguments.partition(" ")[0], name.upper())] += 1
    return found


async def watch(server: harness.Redis, pids: Sequence[int], seconds: float) -> dict[str, Any]:
    """Watch idle processes; return what they cost, each of them."""
    # Asked for before and after, so that it is not counted.
    redis_before_s = await server.cpu_s()
    before_s, started = harness.cpu_s(pids), time.monotonic()
    heard = await commands(server.url, seconds)
    used_s, elapsed_s = harness.cpu_s(pids) - before_s, time.monotonic() - started
    redis_used_s = await server.cpu_s() - redis_before_s
    processes = len(pids)
    return {
        "processes": processes,
        "commands_a_second": round(heard.total() / elapsed_s / processes, 2),
        "by_name": {name: round(count / elapsed_s / processes, 2) for name, count in heard.most_common()},
        "cpu_percent": round(100 * used_s / elapsed_s / processes, 2),
        "redis_cpu_percent": round(100 * redis_used_s / elapsed_s, 2),
    }


@asynccontextmanager
async def private(folder: Path) -> AsyncIterator[tuple[harness.Redis, list[int]]]:
    """Run all in one with a private Redis, as without any settings; yield that Redis, and the process's id."""
    data = folder / "private"
    async with harness.running(folder, [ALL], DATA_DIR=str(data)) as processes:
        embedded = EmbeddedServer(data)
        raw = redis.asyncio.Redis.from_url(embedded.url, decode_responses=True)
        async with raw:
            yield harness.Redis(embedded.url, embedded.description, raw), [processes[0][1].process.pid]


async def measure_all(options: argparse.Namespace, server: harness.Redis, folder: Path) -> dict[str, Any]:
    """Measure every arrangement that is asked for on this Redis, as it is now."""
    found = {}
    for name in ARRANGEMENTS if options.roles == "every" else (options.roles,):
        async with harness.running(folder, ARRANGEMENTS[name], REDIS_URL=server.url) as processes:
            await asyncio.sleep(options.settle)
            pids = [process.process.pid for _, process in processes]
            found[name] = await watch(server, pids, options.seconds)
    return found


def tomorrow(number: int) -> NewTask:
    """Return one of many tasks that are due in the course of tomorrow."""
    delay_ms = DAY_MS + number * 7_919 % DAY_MS
    record = record_tail("http://127.0.0.1:9000/orders", delay_ms / 1000, None, b'{"order":%d}' % number)
    return NewTask(keys.new_task_key(), delay_ms, record, None)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure with nothing scheduled, and with many tasks for tomorrow; return the whole report."""
    machine = report.machine()
    async with harness.redis_at(options.redis_url, folder) as server:
        nothing = await measure_all(options, server, folder)
        if options.roles == "every":
            async with private(folder) as (private_server, pids):
                await asyncio.sleep(options.settle)
                nothing[PRIVATE] = await watch(private_server, pids, options.seconds)
        await harness.seed(server.url, options.tasks, tomorrow)
        many = await measure_all(options, server, folder)
        scheduled = await server.raw.zcard(keys.DUE)
        assert scheduled == options.tasks, f"{scheduled} of {options.tasks} tasks are there"
        versions = report.versions(server.server)
    measured = (*nothing.values(), *many.values())
    most_commands = max(one["commands_a_second"] for one in measured)
    most_cpu = max(one["cpu_percent"] for one in measured)
    return {
        "settings": {name: getattr(options, name) for name in ("tasks", "seconds", "settle")},
        "marks": [
            report.mark(
                f"at most {COMMANDS_MARK:g} commands a second a process", most_commands, most_commands <= COMMANDS_MARK
            ),
            report.mark(f"at most {CPU_MARK:g} % of a core a process", most_cpu, most_cpu <= CPU_MARK),
        ],
        "nothing": nothing,
        "many": many,
        "machine": machine,
        "versions": versions,
    }


LABELS = {
    PRIVATE: "all in one, its private Redis",
    "all": "all in one",
    "api": "api",
    "worker": "worker",
    "workers": "3 workers",
}


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"idle: {settings['seconds']:g} s each, after {settings['settle']:g} s; commands and CPU of each process\n")
    rows = []
    for group, tasks in (("nothing", 0), ("many", settings["tasks"])):
        for name, label in LABELS.items():
            if name in found[group]:
                one = found[group][name]
                by_name = ", ".join(f"{command} {a_second:g}" for command, a_second in one["by_name"].items())
                figures = (f"{one[name]:.2f}" for name in ("commands_a_second", "cpu_percent", "redis_cpu_percent"))
                rows.append((label, f"{tasks:,}", *figures, by_name))
    print(report.table(("", "tasks", "commands a second", "CPU, %", "Redis' CPU, %", "by name"), rows))


def main() -> None:
    parser = harness.parser(__doc__, "idle")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="tasks for tomorrow")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which idle processes are watched")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds from the start of a process until then")
    parser.add_argument("--roles", choices=("every", *ARRANGEMENTS), default="every", help="the processes to watch")
    options = parser.parse_args()

    async def benchmark(folder: Path) -> None:
        found = await measure(options, folder)
        show(found)
        report.publish("idle", found, options.note, options.output)

    runs = 2 * len(ARRANGEMENTS) + 1
    harness.run(benchmark, limit_s=120 + runs * (options.settle + options.seconds + 20) + options.tasks / SEED_A_SECOND)


if __name__ == "__main__":
    main()
