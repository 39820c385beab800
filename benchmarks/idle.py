"""Idle: what does a process cost while nothing is due, with nothing scheduled and with a million tasks for tomorrow?

What is counted is what Redis says that it received from its clients (MONITOR), less what scripts called there. Beside
it stand a Redis that nobody uses, and a process that does nothing: loop.py.
"""

import argparse
import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import redis.asyncio

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.meter import Meter, Part
from redis_scheduler.process.embedded import EmbeddedServer
from redis_scheduler.settings import ALL, API, WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.script import Script
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.names import KEYS
from tests.support.service import Process
from tests.support.waiting import wait_until

COMMANDS_MARK = 3.0
"""A second, on the wire, of each process."""

CPU_MARK = 0.5
"""Percent of a core, of each process."""

CHILDREN = 2
SUPERVISED = f"{WORKER} --processes {CHILDREN}"

ARRANGEMENTS: dict[str, Sequence[str]] = {
    "api": (API,),
    "worker": (WORKER,),
    "all": (ALL,),
    "workers": (WORKER, WORKER, WORKER),
    "supervised": (SUPERVISED,),
}
"""The processes that are run."""

OVER_SHARDS = {"worker_8": 8, "worker_15": 15}
"""A worker over so many shards of one server."""

PRIVATE = "all_private"
"""All in one with a private Redis, which it watches."""

DAY_MS = 86_400_000
SEED_A_SECOND = 5_000
"""Tasks that even a slow machine seeds."""

_LUA = resources.files("redis_scheduler.store") / "lua"
NAMES = {Script(path.name[:-4]).sha: path.name[:-4] for path in _LUA.iterdir() if path.name.endswith(".lua")}


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


def parts_of(processes: Sequence[tuple[str, Process]]) -> dict[str, Part]:
    """Return each process under its name: one by one, and under a supervisor its children apart."""
    if len(processes) > 1:
        return {f"{role} {number}": [one.process.pid] for number, (role, one) in enumerate(processes, 1)}
    [(role, supervisor)] = processes
    if role != SUPERVISED:
        return {role: [supervisor.process.pid]}
    children = psutil.Process(supervisor.process.pid).children()
    names = {f"child {number}": [child.pid] for number, child in enumerate(children, 1)}
    return {"supervisor": [supervisor.process.pid], **names}


async def watch(server: harness.Redis, parts: dict[str, Part], seconds: float) -> dict[str, Any]:
    """Watch idle processes; return what each of them costs. A supervisor sends no commands, so it has no share in
    them."""
    workers = len(parts.keys() - {"supervisor"})
    # Redis is asked before and after, so that it is not counted.
    meter = await Meter.start(redis=server, **parts)
    heard = await commands(server.url, seconds)
    used = await meter.used()
    cpu_percent = used.percent(2)
    redis_percent = cpu_percent.pop("redis")
    return {
        "processes": len(parts),
        "commands_a_second": round(heard.total() / used.seconds / workers, 2),
        "by_name": {name: round(count / used.seconds / workers, 2) for name, count in heard.most_common()},
        "cpu_percent": cpu_percent,
        "redis_cpu_percent": redis_percent,
    }


@asynccontextmanager
async def private(folder: Path) -> AsyncIterator[tuple[harness.Redis, dict[str, Part]]]:
    """Run all in one with a private Redis, as without any settings; yield that Redis, and the process."""
    data = folder / "private"
    async with harness.running(folder, [ALL], DATA_DIR=str(data)) as processes:
        embedded = EmbeddedServer(data)
        raw = redis.asyncio.Redis.from_url(embedded.url, decode_responses=True)
        async with raw:
            yield harness.Redis(embedded.url, embedded.description, raw), parts_of(processes)


async def over_shards(options: argparse.Namespace, folder: Path, shards: int) -> dict[str, Any]:
    """Measure a worker that serves so many shards of a Redis of their own."""
    async with (
        harness.redis_at(None, folder) as server,
        harness.running(folder, (WORKER,), REDIS_URL=server.url, SHARDS=str(shards)) as processes,
    ):
        await asyncio.sleep(options.settle)
        return await watch(server, parts_of(processes), options.seconds)


async def children_listen(server: harness.Redis) -> None:
    """Wait until the workers under a supervisor listen for new tasks: it says that it has started before they have."""

    async def is_heard() -> bool:
        [(_, listeners)] = await server.raw.pubsub_numsub(KEYS.bell)
        return int(listeners) == CHILDREN

    await wait_until(is_heard, f"{CHILDREN} workers listen")


async def measure_all(options: argparse.Namespace, server: harness.Redis, folder: Path) -> dict[str, Any]:
    """Measure every arrangement that is asked for on this Redis, as it is now."""
    found = {}
    for name in options.roles or ARRANGEMENTS:
        async with harness.running(folder, ARRANGEMENTS[name], REDIS_URL=server.url) as processes:
            if ARRANGEMENTS[name] == (SUPERVISED,):
                await children_listen(server)
            await asyncio.sleep(options.settle)
            found[name] = await watch(server, parts_of(processes), options.seconds)
    return found


def tomorrow(number: int) -> NewTask:
    """Return one of many tasks that are due in the course of tomorrow."""
    delay_ms = DAY_MS + number * 7_919 % DAY_MS
    record = record_tail("http://127.0.0.1:9000/orders", delay_ms / 1000, None, b'{"order":%d}' % number)
    return NewTask(new_task_key(), delay_ms, record, None)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure with nothing scheduled, and with many tasks for tomorrow; return what was found."""
    async with harness.redis_at(options.redis_url, folder) as server:
        unused = folder / "unused"
        async with harness.redis_at(None, unused) as unused_redis, harness.script("loop") as (_, pid):
            # For as long as everything else is measured: the longer, the finer.
            meter = await Meter.start(redis=unused_redis, loop=[pid])
            nothing = await measure_all(options, server, folder)
            if not options.roles:
                async with private(folder) as (private_server, parts):
                    await asyncio.sleep(options.settle)
                    nothing[PRIVATE] = await watch(private_server, parts, options.seconds)
                for name, shards in OVER_SHARDS.items():
                    nothing[name] = await over_shards(options, folder / name, shards)
            used = await meter.used()
        await server.settled()
        await harness.seed(server.url, options.tasks, tomorrow)
        await server.settled()
        many = await measure_all(options, server, folder)
        scheduled = await server.raw.zcard(KEYS.due)
        assert scheduled == options.tasks, f"{scheduled} of {options.tasks} tasks are there"
    return {
        "marks": marks([*nothing.values(), *many.values()]),
        "nothing": nothing,
        "many": many,
        "references": {"seconds": round(used.seconds, 1), "cpu_percent": used.percent(3)},
        "versions": report.versions(server.server),
    }


def marks(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the marks: the one of the CPU is asked of the process that took most."""
    most_commands = max(one["commands_a_second"] for one in measured)
    most_cpu = max(percent for one in measured for percent in one["cpu_percent"].values())
    commands_wanted = f"at most {COMMANDS_MARK:g} commands a second a process"
    cpu_wanted = f"at most {CPU_MARK:g} % of a core, the process with most"
    return [
        report.mark(commands_wanted, most_commands, most_commands <= COMMANDS_MARK),
        report.mark(cpu_wanted, most_cpu, most_cpu <= CPU_MARK),
    ]


LABELS = {
    PRIVATE: "all in one, its private Redis",
    "all": "all in one",
    "api": "api",
    "worker": "worker",
    "worker_8": "worker, 8 shards",
    "worker_15": "worker, 15 shards",
    "workers": "3 workers",
    "supervised": "2 workers under a supervisor",
}


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"idle: {settings['seconds']:g} s each, after {settings['settle']:g} s; commands of each process\n")
    cpu_percent = found["references"]["cpu_percent"]
    rows = [
        ("a Redis that nobody uses", "0", "", f"{cpu_percent['redis']:.2f}", "", ""),
        ("an empty event loop", "0", "", "", "", f"loop {cpu_percent['loop']:.2f}"),
    ]
    for group, tasks in (("nothing", 0), ("many", settings["tasks"])):
        for name, label in LABELS.items():
            if name in found[group]:
                one = found[group][name]
                cpu = report.listing(one["cpu_percent"], ".2f")
                figures = (f"{one['commands_a_second']:.2f}", f"{one['redis_cpu_percent']:.2f}")
                rows.append((label, f"{tasks:,}", *figures, report.listing(one["by_name"], "g"), cpu))
    print(report.table(("", "tasks", "commands a second", "Redis' CPU, %", "by name", "CPU of each, %"), rows))
    print("\nthe first two: beside all that is measured with nothing scheduled")


def main() -> None:
    parser = harness.parser(__doc__, "idle")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="tasks for tomorrow")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which idle processes are watched")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds from the start of a process until then")
    parser.add_argument("--roles", nargs="+", choices=ARRANGEMENTS, help="the processes to watch (all of them)")
    options = parser.parse_args()
    runs = 2 * len(ARRANGEMENTS) + 1 + len(OVER_SHARDS)
    limit_s = 120 + runs * (options.settle + options.seconds + 20) + options.tasks / SEED_A_SECOND
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
