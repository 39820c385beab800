"""Moving: what do an export and an import of many tasks take, and what do others notice of them?

The tasks of bulk_tasks.py wait in one Redis, and are exported beside its service. They are imported into another Redis,
beside a service there, and exported once more: both files must hold the same tasks. Meanwhile others schedule, read and
cancel tasks at the service that is at work.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import bulk_tasks, harness, others, report, slow_log
from redis_scheduler.settings import API

LOOK_S = 0.05
"""Between two looks at the memory of a command."""


async def command(url: str, *arguments: str) -> dict[str, float]:
    """Run a command of the service on this Redis; return what it took."""
    environment = {name: value for name, value in os.environ.items() if name != "NAMESPACE"} | {"REDIS_URL": url}
    most_bytes, began = 0, time.monotonic()
    with subprocess.Popen(  # noqa: ASYNC220  # a millisecond
        [sys.executable, "-m", "redis_scheduler", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while process.poll() is None:
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    most_bytes = max(most_bytes, psutil.Process(process.pid).memory_info().rss)
                await asyncio.sleep(LOOK_S)
        finally:
            process.kill()
    if process.returncode:
        raise SystemExit(f"redis-scheduler {' '.join(arguments)} ended with {process.returncode}")
    return {"seconds": round(time.monotonic() - began, 2), "memory_mib": round(most_bytes / 2**20, 1)}


def tasks_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each task of a file: its key and its line."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)["key"], line


async def beside_others(
    redis: harness.Redis, service: harness.Service, options: argparse.Namespace, *arguments: str
) -> dict[str, Any]:
    """Run a command while others send requests; return what it took, and what theirs took then and alone."""
    alone_ms, beside_ms = list[float](), list[float]()
    async with others.beside(service.client, options.rate, alone_ms):
        await asyncio.sleep(options.alone)
    await slow_log.held(redis)
    async with others.beside(service.client, options.rate, beside_ms):
        found = await command(redis.url, *arguments)
    return {
        **found,
        "tasks_a_second": round(options.tasks / found["seconds"]),
        "alone_ms": report.spread(alone_ms),
        "others_ms": report.spread(beside_ms),
        "redis_held_ms": await slow_log.held(redis),
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Move the tasks from one Redis to the other; return what was found."""
    places, files = [folder / name for name in ("old", "new")], [folder / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    async with (
        harness.redis_at(options.redis_url, places[0]) as old,
        harness.redis_at(None, places[1]) as new,
        harness.service(old.url, places[0], [API]) as old_service,
        harness.service(new.url, places[1], [API]) as new_service,
    ):
        await bulk_tasks.fill(old, options.tasks)
        for redis in (old, new):
            await redis.settled()
            await slow_log.watch(redis, others.MARK_REDIS_MS)
        steps = {
            "export": await beside_others(old, old_service, options, "export", str(files[0])),
            "import": await beside_others(new, new_service, options, "import", str(files[0])),
            "export again": await beside_others(new, new_service, options, "export", str(files[1])),
        }
    # What others had scheduled while the walk passed may be in either.
    first, second = (dict(tasks_of(file)) for file in files)
    moved = {key: line for key, line in first.items() if b"/orders/" in line}
    same = [line for key, line in moved.items() if second.get(key) == line]
    checks = {"missing": options.tasks - len(same), "bytes_a_task": round(sum(map(len, same)) / max(1, len(same)))}
    return {
        "steps": steps,
        "checks": report.whole(checks),
        "marks": marks(steps),
        "versions": report.versions(old.server),
    }


def marks(steps: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the marks: of what held Redis longest, and of others beside the worst step."""
    held_ms = max((one["redis_held_ms"][0] for one in steps.values() if one["redis_held_ms"]), default=0.0)
    later_ms = max(one["others_ms"]["p99"] - one["alone_ms"]["p99"] for one in steps.values())
    return others.marks_beside(held_ms, later_ms)


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"moving: {found['settings']['tasks']:,} tasks, beside {found['settings']['rate']} requests a second\n")
    header = ("step", "seconds", "a second", "memory, MiB", "others p50", "p99", "max", "alone p50", "p99", "max")
    print(report.table(header, [row(name, one) for name, one in found["steps"].items()]))
    print(f"\nchecks    {report.listing(found['checks'])}")


def row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    spreads = [f"{one[which][percent]:.2f}" for which in ("others_ms", "alone_ms") for percent in ("p50", "p99", "max")]
    return (name, f"{one['seconds']:.1f}", f"{one['tasks_a_second']:,}", f"{one['memory_mib']:.0f}", *spreads)


def main() -> None:
    parser = harness.parser(__doc__, "moving")
    parser.add_argument("--tasks", type=harness.positive, default=100_000, help="that move")
    parser.add_argument("--rate", type=harness.positive, default=100, help="requests of others a second")
    parser.add_argument("--alone", type=float, default=others.ALONE_S, help="seconds of others alone before each step")
    options = parser.parse_args()
    harness.run(options, measure, show, 120 + options.tasks / 500)


if __name__ == "__main__":
    main()
