"""Lateness: how long after its due time does a delivery arrive, under a constant load?

Tasks are scheduled at a constant rate, each with the same ttl, so that after the first ttl the API is as busy as the
worker. Lateness is the time of the arrival at the receiver less the due time that the API answered. Beside each rate
stands a bare client that knows all due times: sleeper.py.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report, sleeper
from benchmarks.meter import Meter
from benchmarks.webhooks import ONE
from redis_scheduler.settings import ALL, API, WORKER
from tests.support.service import Client

ARRANGEMENTS = {"apart": (API, WORKER), "all": (ALL,)}
"""The processes that are run: API and worker, or all in one."""

MARK_RATE = 300
MARKS_MS = {"p50": 2, "p99": 10}
"""The most, at MARK_RATE a second."""

WAIT_S = 30.0
"""For the last to arrive after the last was scheduled, beyond its ttl."""


async def schedule_at_rate(
    client: Client, webhook: Callable[[int], str], rate: int, seconds: int, ttl: float
) -> dict[str, float]:
    """Schedule at a constant rate, whatever the answers take; return the due times (time.time()) by key."""
    due_times: dict[str, float] = {}

    async def post(number: int) -> None:
        task = {"webhook": webhook(number), "ttl": ttl, "data": {"order": number, "status": "shipped"}}
        status, answer = await client.call("POST", "/schedule", json=task)
        assert status == 200, answer
        due_times[answer["key"]] = datetime.fromisoformat(answer["due"]).timestamp()

    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(rate * seconds):
            await asyncio.sleep(started + number / rate - time.monotonic())
            tasks.create_task(post(number))
    return due_times


def figures(due_times: dict[str, float], arrivals: Sequence[harness.Arrival]) -> dict[str, Any]:
    """Return the lateness of first arrivals in ms, and what tells whether it is to be trusted."""
    first_arrivals = {arrival.key: arrival.at for arrival in sorted(arrivals, reverse=True)}
    late_ms = [1000 * (at - due_times[key]) for key, at in first_arrivals.items()]
    interval_s = max(due_times.values()) - min(due_times.values())
    assert late_ms, "nothing arrived"
    return {
        "arrivals": len(arrivals),
        "late_ms": report.spread(late_ms),
        "due_a_second": round((len(due_times) - 1) / interval_s, 1) if interval_s else 0.0,
        **harness.checks(due_times, arrivals),
    }


async def lateness(
    options: argparse.Namespace, rate: int, roles: Sequence[str], redis: harness.Redis, folder: Path
) -> dict[str, Any]:
    """Measure one arrangement of processes at one rate."""
    async with harness.receiving() as receiver, harness.service(redis.url, folder, roles) as service:
        meter = await Meter.start(service=service.pids())
        webhooks = receiver.webhooks(ONE)
        due_times = await schedule_at_rate(service.client, webhooks.of, rate, options.seconds, options.ttl)
        await receiver.wait_for(len(due_times), options.ttl + WAIT_S)
        used = await meter.used()
        await service.client.drained()
        found = figures(due_times, await receiver.take())
    report.whole(found)
    return {"rate": rate, **found, "cpu_percent": used.percent()}


async def refer(options: argparse.Namespace, rate: int) -> dict[str, Any]:
    """Measure the bare client at one rate."""
    tasks = rate * options.seconds
    async with harness.receiving() as receiver:
        async with harness.script("sleeper", receiver.url, str(rate), str(tasks)) as (first_due, pid):
            meter = await Meter.start(client=[pid])
            await receiver.wait_for(tasks, sleeper.LEAD_S + options.seconds + WAIT_S)
            used = await meter.used()
        found = figures(sleeper.due_times(float(first_due), rate, tasks), await receiver.take())
    report.whole(found)
    return {"rate": rate, **found, "cpu_percent": used.percent()}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure every arrangement that is asked for, and the bare client; return what was found."""
    names = ARRANGEMENTS if options.roles == "both" else (options.roles,)
    async with harness.redis_at(options.redis_url, folder) as redis:
        runs = [
            {"roles": name, **await lateness(options, rate, ARRANGEMENTS[name], redis, folder)}
            for rate in options.rate
            for name in names
        ]
    references = [await refer(options, rate) for rate in options.rate]
    return {
        "runs": runs,
        "references": references,
        "marks": marks(runs),
        "versions": report.versions(redis.server),
    }


def marks(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the marks of the runs at MARK_RATE; a rate that was not kept meets none."""
    return [
        report.mark(
            f"{one['roles']}, {MARK_RATE} a second: {name} <= {most_ms} ms",
            one["late_ms"][name],
            one["late_ms"][name] <= most_ms and one["due_a_second"] >= 0.99 * MARK_RATE,
        )
        for one in runs
        for name, most_ms in MARKS_MS.items()
        if one["rate"] == MARK_RATE
    ]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"lateness: for {settings['seconds']} s, ttl {settings['ttl']:g} s; in ms\n")
    rows = [row(" + ".join(ARRANGEMENTS[one["roles"]]), one) for one in found["runs"]]
    rows += [row("a bare client and its timer", one) for one in found["references"]]
    header = ("processes", "a second", "min", "p50", "p99", "max", "due a second", "missing", "duplicates", "CPU, %")
    print(report.table(header, rows))


def row(label: str, one: dict[str, Any]) -> Sequence[str]:
    """Return a line of the table."""
    late = [f"{late_ms:.2f}" for late_ms in one["late_ms"].values()]
    counts = [str(one[column]) for column in ("due_a_second", "missing", "duplicates")]
    return (label, f"{one['rate']:,}", *late, *counts, *map(str, one["cpu_percent"].values()))


def main() -> None:
    parser = harness.parser(__doc__, "lateness")
    parser.add_argument("--rate", type=harness.positive, nargs="+", default=[100, 300, 1_000], help="tasks a second")
    parser.add_argument("--seconds", type=harness.positive, default=20, help="for which tasks are scheduled")
    parser.add_argument("--ttl", type=float, default=2.0, help="seconds from the schedule to the due time")
    parser.add_argument("--roles", choices=("both", *ARRANGEMENTS), default="both", help="API and worker apart, or all")
    options = parser.parse_args()
    limit_s = 3 * len(options.rate) * (options.seconds + options.ttl + WAIT_S + 30)
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
