"""Failing: what does a receiver cost that answers 503 to all, and how soon is all delivered once it is well?

The tasks come due at one instant and fail from then on, each again after RETRY_TIME, without end. Beside it, in the
same run, the rate of as many deliveries that succeed.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report, wave
from redis_scheduler.settings import API, WORKER

SAMPLES = 30
"""Looks at the memory in a window."""

FLAT_PERCENT = 5
"""Memory is flat if its median in the last third of the window is at most so much above that of the first."""

MIB = 2**20


@dataclass
class Parts:
    """What takes part."""

    redis: harness.Redis
    receiver: harness.Receiver
    service: harness.Service

    async def memory_mib(self) -> dict[str, float]:
        """Return the resident memory of the workers, and what Redis has taken."""
        resident_bytes = sum(psutil.Process(pid).memory_info().rss for pid in self.service.pids(WORKER))
        return {"workers": resident_bytes / MIB, "redis": await self.redis.used_bytes() / MIB}


async def fail(parts: Parts, window_s: float) -> dict[str, Any]:
    """Measure for a while how tasks fail that fail already."""
    meter = await wave.meter_of(parts.service, parts.redis, parts.receiver)
    count, started = await parts.receiver.count(), time.monotonic()
    samples = []
    for number in range(1, SAMPLES + 1):
        await asyncio.sleep(started + number * window_s / SAMPLES - time.monotonic())
        samples.append(await parts.memory_mib())
    attempts, seconds = await parts.receiver.count() - count, time.monotonic() - started
    used = await meter.used()
    return {
        "attempts": attempts,
        "seconds": round(seconds, 2),
        "a_second": round(attempts / seconds, 1),
        "cpu_percent": used.percent(),
        "memory_mib": {part: growth([sample[part] for sample in samples]) for part in samples[0]},
    }


def growth(samples: list[float]) -> dict[str, Any]:
    """Return how the memory went: the medians of the first and the last third, and the most."""
    third = len(samples) // 3
    first, last = median(samples[:third]), median(samples[-third:])
    percent = 100 * (last / first - 1)
    return {
        "first": round(first, 1),
        "last": round(last, 1),
        "most": round(max(samples), 1),
        "growth_percent": round(percent, 1),
        "is_flat": percent <= FLAT_PERCENT,
    }


async def heal(parts: Parts, expected: list[str]) -> dict[str, Any]:
    """Let the receiver answer 200; return how long all deliveries then take."""
    # In two steps: to hand over many takes the receiver a while.
    attempts = len(await parts.receiver.take())
    healed_at = time.time()
    attempts += len(await parts.receiver.answer(200))
    stats = await parts.service.client.drained(wave.limit_s(len(expected)))
    arrivals = await parts.receiver.take()
    seconds = max(arrivals).at - healed_at
    return {
        "delivered_within_s": round(seconds, 2),
        "a_second": round(len(arrivals) / seconds, 1),
        "checks": {
            **report.whole(harness.checks(expected, arrivals)),
            "failures not written": attempts - stats["counters"]["failed"],
        },
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the burst that succeeds, then the one that fails; return what was found."""
    roles = [API] + [WORKER] * options.workers
    settings = {"RETRIES": "-1", "RETRY_TIME": str(options.retry_time)}
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as receiver,
        harness.service(redis.url, folder, roles, **settings) as service,
    ):
        parts = Parts(redis, receiver, service)
        delivered = await wave.deliver(service, redis, receiver, options.tasks)
        await redis.settled()
        start_mib = await parts.memory_mib()
        await receiver.answer(503)
        seeded = await wave.enter(redis.url, options.tasks, receiver.url)
        # As many attempts as tasks: from here on it is retries, at a steady pace.
        await wave.until_arrived(receiver, options.tasks)
        failing = await fail(parts, options.window)
        healed = await heal(parts, seeded.keys)
    return {
        "delivered": delivered,
        "start_mib": {part: round(size, 1) for part, size in start_mib.items()},
        "failing": failing,
        "ratio": round(failing["a_second"] / delivered["a_second"], 3),
        "healed": healed,
        "versions": report.versions(redis.server),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings, failing, healed = found["settings"], found["failing"], found["healed"]
    print(
        f"failing: {settings['tasks']:,} tasks, {settings['workers']} worker(s), again after {settings['retry_time']:g} s\n"
    )
    rates = {"deliveries, all answered 200": found["delivered"], "attempts, all answered 503": failing}
    print(report.table(("", *wave.HEADER), [wave.row(label, rate) for label, rate in rates.items()]))
    rows = []
    for part, one in failing["memory_mib"].items():
        sizes = [f"{size:.1f}" for size in (found["start_mib"][part], one["first"], one["last"], one["most"])]
        rows.append((part, *sizes, f"{one['growth_percent']:+.1f} %", "flat" if one["is_flat"] else "grows"))
    header = ("memory, MiB", "before", "first third", "last third", "most", "growth", "")
    print(f"\n{report.table(header, rows)}")
    print(f"\nratio     {found['ratio']:.2f} of the rate of deliveries")
    print(f"healed    all delivered within {healed['delivered_within_s']:.2f} s, {healed['a_second']:,.0f} a second")
    for label, one in (("delivered", found["delivered"]), ("healed", healed)):
        print(f"checks    {label}: {report.listing(one['checks'])}")


def main() -> None:
    parser = harness.parser(__doc__, "failing")
    parser.add_argument("--tasks", type=harness.positive, default=20_000, help="tasks that are due at one instant")
    parser.add_argument("--workers", type=harness.positive, default=1, help="worker processes")
    parser.add_argument("--retry-time", type=float, default=1.0, help="seconds from a failed attempt to the next")
    parser.add_argument("--window", type=float, default=15.0, help="seconds for which failures are measured")
    options = parser.parse_args()
    limit_s = 60 + options.retry_time + options.window + 3 * wave.limit_s(options.tasks)
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
