"""Limits: is a host's rate kept by all workers together, and what do other hosts notice of its backlog?

A host has a rate, and more tasks than it takes within the window; other hosts have tasks at a steady pace, first alone
and then beside that backlog.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail

RATE_MARK_PERCENT = 2
"""How far the rate may be off."""

LEAD_S = 3.0
"""The tasks of other hosts begin to come due so much later, and the window is looked at from then on."""


async def enter(redis_url: str, webhooks: Sequence[str], dues: Sequence[float]) -> dict[str, float]:
    """Schedule a task for each due time (0: now), the webhooks in turn; return the due times by key."""
    known: dict[str, float] = {}

    def task(number: int) -> NewTask:
        key, due = new_task_key(), dues[number]
        known[key] = due
        return NewTask(key, -round(due * 1000), record_tail(webhooks[number % len(webhooks)], -1, None, b"1"), None)

    await harness.seed(redis_url, len(dues), task)
    return known


def lateness(known: Mapping[str, float], arrivals: Sequence[harness.Arrival]) -> dict[str, Any]:
    """Return how late the tasks arrived, in ms, and what must be 0."""
    mine = [arrival for arrival in arrivals if arrival.key in known]
    late = [(arrival.at - known[arrival.key]) * 1000 for arrival in mine]
    return {
        "p50_ms": round(report.percentile(late, 50), 2),
        "p99_ms": round(report.percentile(late, 99), 2),
        "checks": report.whole(harness.checks(known, mine)),
    }


async def steady(url: str, hosts: Sequence[str], options: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Schedule the tasks of the other hosts; return them and when the first is due."""
    start = time.time() + LEAD_S
    count = round(options.window * options.others)
    return await enter(url, hosts, [start + number / options.others for number in range(count)]), start


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the others alone, then beside the host that has a rate."""
    roles = [API] + [WORKER] * options.workers
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as receiver,
        harness.service(redis.url, folder, roles) as service,
    ):
        limited, *hosts = receiver.bases
        known, start = await steady(redis.url, hosts, options)
        await asyncio.sleep(start + options.window + 2 - time.time())
        alone = lateness(known, await receiver.take())
        status, _ = await service.client.call("PUT", f"/hosts/{urlsplit(limited).netloc}", json={"rate": options.rate})
        assert status == 200
        await asyncio.sleep(2)  # every worker has noticed
        backlog = await enter(redis.url, [limited], [0.0] * round(options.rate * (options.window + 4 * LEAD_S)))
        known, start = await steady(redis.url, hosts, options)
        await asyncio.sleep(max(0, start - time.time()))
        cpu_s = await redis.cpu_s()
        await asyncio.sleep(start + options.window - time.time())
        cpu_s = await redis.cpu_s() - cpu_s
        await asyncio.sleep(2)
        arrivals = await receiver.take()
        beside = lateness(known, arrivals)
        times = [arrival.at for arrival in arrivals if arrival.key in backlog]
        a_second = sum(start <= at < start + options.window for at in times) / options.window
        await service.client.call("POST", "/purge")
    off_percent = 100 * abs(a_second / options.rate - 1)
    return {
        "others_alone": alone,
        "others_beside": beside,
        "a_second": round(a_second, 2),
        "redis_cpu_percent": round(100 * cpu_s / options.window, 1),
        "marks": [
            report.mark(
                f"rate off by <= {RATE_MARK_PERCENT} %", round(off_percent, 2), off_percent <= RATE_MARK_PERCENT
            )
        ],
        "versions": report.versions(redis.server),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"limits: {settings['rate']:g} a second by {settings['workers']} workers over {settings['window']:g} s\n")
    rows = [
        (label, f"{found[name]['p50_ms']:.2f}", f"{found[name]['p99_ms']:.2f}", report.listing(found[name]["checks"]))
        for label, name in (("alone", "others_alone"), ("beside the backlog", "others_beside"))
    ]
    print(report.table(("other hosts, late by ms", "p50", "p99", "checks"), rows))
    print(f"\nrate      {found['a_second']:.2f} a second")
    print(f"Redis     {found['redis_cpu_percent']:.1f} % of a core")


def main() -> None:
    parser = harness.parser(__doc__, "limits")
    parser.add_argument("--workers", type=harness.positive, default=3, help="worker processes")
    parser.add_argument("--rate", type=float, default=300.0, help="deliveries a second that the host takes")
    parser.add_argument("--others", type=float, default=100.0, help="deliveries a second to all other hosts")
    parser.add_argument("--window", type=float, default=60.0, help="seconds for which each is measured")
    options = parser.parse_args()
    harness.run(options, measure, show, 120 + 3 * options.window)


if __name__ == "__main__":
    main()
