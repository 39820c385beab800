"""Bulk: what does one thing done to many of a million tasks take, and what do others notice of it?

The tasks are of ten types, a hundred hosts and a hundred labels, one in ten has a key of its own; all are due tomorrow.
Each operation follows its cursor to the end, at first only to count, again and again. Meanwhile others schedule, read
and cancel tasks at a constant rate, and before and between the operations they do so alone. Then the tasks give way to
as many dead letters, of two errors, which have died in the last twenty days, and what is done to these is timed, too.

Redis notes how long a command took by the clock, which goes on while something else has its core: so where there are
several cores, it has the last one to itself.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report, slow_log
from benchmarks.bulk_tasks import DAY_S, DIED_DAYS, RARER, fill, fill_dead
from benchmarks.others import ALONE_S, beside, marks_beside
from redis_scheduler.settings import API
from tests.support.service import Client

CLIENTS = 4
"""So many do one thing to many at once, in one of the operations."""

COUNTED_S = 3.0
"""For which an operation that only counts is sent again: of under a hundred requests of others p99 is the longest."""

NOTED_MS = 1
"""Redis notes each command that takes longer."""

SLOW_SHOWN = 10
"""So many are kept of an operation: the longest."""

MARK_REQUEST_MS = 1_200
"""So long takes a request at most."""

TIMES = {"due_after": "due", "due_before": "due", "died_before": "died"}
"""How the table shows these filters, without their times."""

Filters = dict[str, str]


@dataclass(frozen=True)
class Operation:
    """What is done, to which tasks."""

    verb: str
    filters: Filters
    dry: bool = False
    at_once: int = 1
    """So many clients ask for it at the same time."""
    of: str = "schedules"
    """Or `dead`."""

    @property
    def name(self) -> str:
        """As the table shows it."""
        shown = [f"{name} {value}" for name, value in self.filters.items() if name not in TIMES]
        times = sorted({TIMES[name] for name in self.filters if name in TIMES})
        clients = [f"{self.at_once} at once"] if self.at_once > 1 else []
        verb = ("dead " if self.of == "dead" else "") + ("count" if self.dry else self.verb)
        return f"{verb}: {', '.join([*shown, *times, *clients])}"


def operations(now: float) -> list[Operation]:
    """Return what is measured, in this order: none counts on tasks that one before it has taken."""
    hour = {"due_after": _time(now + 1.5 * DAY_S), "due_before": _time(now + 1.5 * DAY_S + 3_600)}
    one_type, one_host, own = {"type": "type1"}, {"host": "host1.example"}, {"key_prefix": "own:1"}
    label = {"label": "order=7"}
    return [
        *(Operation("cancel", filters, True) for filters in (one_type, one_host, own, hour, label)),
        Operation("cancel", hour | {"host": "host1.example"}, True, CLIENTS),
        Operation("pause", one_type),
        Operation("resume", one_type | {"state": "paused"}),
        *(Operation("shift", one_type | {"by": str(by)}) for by in (3_600, -3_600)),
        Operation("pause", hour),
        Operation("resume", {"state": "paused"}),
        Operation("run", {"key_prefix": "own:2"}),
        Operation("cancel", own),
        Operation("cancel", one_host),
        Operation("cancel", one_type),
        Operation("cancel", hour),
        Operation("cancel", label),
    ]


def dead_operations(now: float) -> list[Operation]:
    """Return the same for dead letters."""

    def of_dead(verb: str, filters: Filters, dry: bool = False) -> Operation:
        return Operation(verb, filters, dry, of="dead")

    label, other, error = {"label": "order=7"}, {"label": "order=8"}, {"error": RARER}
    old = {"died_before": _time(now - (DIED_DAYS - 1) * DAY_S)}
    older = {"died_before": _time(now - (DIED_DAYS - 0.5) * DAY_S)}
    return [
        *(of_dead("replay", filters, True) for filters in (label, error, old)),
        of_dead("replay", label),
        of_dead("replay", {"type": "type1", "rate": "1000"}),
        of_dead("delete", other),
        of_dead("replay", older),
        of_dead("delete", old),
        of_dead("replay", error | {"host": "host1.example"}),
        of_dead("delete", error),
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def counted(client: Client, operation: Operation) -> dict[str, Any]:
    """Count again until others have sent enough requests for a p99; return what the slowest time took and did."""
    until_s, found = time.monotonic() + COUNTED_S, [await work(client, operation)]
    while time.monotonic() < until_s:
        found.append(await work(client, operation))
    return max(found, key=lambda one: one["longest_ms"])


async def work(client: Client, operation: Operation) -> dict[str, Any]:
    """Send an operation until it has no cursor any more; return what its requests took and did."""
    taken_ms, touched, looked_at = [], 0, 0
    cursor: str | None = ""
    began = time.monotonic()
    while cursor is not None:
        query = (
            operation.filters | ({"dry_run": "true"} if operation.dry else {}) | ({"cursor": cursor} if cursor else {})
        )
        sent = time.perf_counter()
        status, answer = await client.call("POST", f"/{operation.of}/{operation.verb}?{urlencode(query)}")
        taken_ms.append(1000 * (time.perf_counter() - sent))
        assert status == 200, answer
        if not operation.dry:  # an operation counts all of it each time
            touched = looked_at = 0
        touched, looked_at, cursor = touched + answer["touched"], looked_at + answer["looked_at"], answer["next"]
    return {
        "seconds": round(time.monotonic() - began, 2),
        "requests": len(taken_ms),
        "longest_ms": round(max(taken_ms), 1),
        "touched": touched,
        "looked_at": looked_at,
    }


async def part_cores(redis: harness.Redis) -> None:
    """Give Redis the last core, and the others to what runs here and is started from now on; of one alone, nothing."""
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        psutil.Process(int((await redis.raw.info("server"))["process_id"])).cpu_affinity([last])
        os.sched_setaffinity(0, others)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure each operation beside others; return what was found."""
    async with harness.redis_at(options.redis_url, folder) as redis:
        await fill(redis, options.tasks)
        await redis.settled()
        await slow_log.watch(redis, NOTED_MS)
        await part_cores(redis)
        async with harness.service(redis.url, folder, [API]) as service:
            alone_ms: list[float] = []
            rows = await timed(operations(time.time()), redis, service.client, options, alone_ms)
            status, answer = await service.client.call("POST", "/purge")
            assert status == 200, answer
            now = time.time()
            await fill_dead(redis, options.tasks, now)
            await redis.settled()
            rows += await timed(dead_operations(now), redis, service.client, options, alone_ms)
            stats = await service.client.stats()
            assert stats["ledger_balanced"], stats
    found = {"operations": rows, "alone_ms": report.spread(alone_ms)}
    return {**found, "marks": marks(found), "versions": report.versions(redis.server)}


async def timed(
    wanted: Sequence[Operation],
    redis: harness.Redis,
    client: Client,
    options: argparse.Namespace,
    alone_ms: list[float],
) -> list[dict[str, Any]]:
    """Measure operations one after another; add what others took alone before each."""
    rows = []
    await slow_log.held(redis)
    for operation in wanted:
        async with beside(client, options.rate, alone_ms):
            await asyncio.sleep(options.alone)
        before, beside_ms = await slow_log.held(redis), list[float]()
        async with beside(client, options.rate, beside_ms):
            async with asyncio.TaskGroup() as tasks:
                send = counted if operation.dry else work
                asked = [tasks.create_task(send(client, operation)) for _ in range(operation.at_once)]
            found = max((one.result() for one in asked), key=lambda one: one["longest_ms"])
        commands = await slow_log.slow(redis)
        rows.append(
            {
                "operation": operation.name,
                **found,
                "others_ms": report.spread(beside_ms),
                "redis_held_ms": [ms for ms, _ in commands[:SLOW_SHOWN]],
                "redis_held_by": [name for _, name in commands[:SLOW_SHOWN]],
                "redis_held_alone_ms": before[:SLOW_SHOWN],
            }
        )
    return rows


def marks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the marks: of the slowest request, of what held Redis longest, of others beside the worst operation."""
    rows = found["operations"]
    longest_ms = max(row["longest_ms"] for row in rows)
    held_ms = max((row["redis_held_ms"][0] for row in rows if row["redis_held_ms"]), default=0.0)
    later_ms = max(row["others_ms"]["p99"] for row in rows) - found["alone_ms"]["p99"]
    longest = report.mark(f"the longest request <= {MARK_REQUEST_MS:,} ms", longest_ms, longest_ms <= MARK_REQUEST_MS)
    return [longest, *marks_beside(held_ms, later_ms)]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"bulk: on {found['settings']['tasks']:,} tasks, beside {found['settings']['rate']} requests a second\n")
    alone = found["alone_ms"]
    header = (
        "operation",
        "tasks",
        "looked at",
        "requests",
        "longest, ms",
        "seconds",
        "others p50",
        "p99",
        "max",
        "Redis held",
    )
    rows = [row(one) for one in found["operations"]]
    print(report.table(header, [("alone", *5 * ("",), *_others(alone), ""), *rows]))


def row(one: dict[str, Any]) -> Sequence[str]:
    """Return a line of the table."""
    counts = [f"{one[name]:,}" for name in ("touched", "looked_at", "requests", "longest_ms", "seconds")]
    held_ms = one["redis_held_ms"]
    return (
        one["operation"],
        *counts,
        *_others(one["others_ms"]),
        f"{held_ms[0]:.1f} ms, {one['redis_held_by'][0]}" if held_ms else "",
    )


def _others(spread: dict[str, float]) -> Sequence[str]:
    return [f"{spread[name]:.2f}" for name in ("p50", "p99", "max")]


def main() -> None:
    parser = harness.parser(__doc__, "bulk")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="that wait")
    parser.add_argument("--rate", type=harness.positive, default=100, help="requests of others a second")
    parser.add_argument("--alone", type=float, default=ALONE_S, help="seconds of others alone before each operation")
    options = parser.parse_args()
    harness.run(options, measure, show, 300 + options.tasks / 500)


if __name__ == "__main__":
    main()
