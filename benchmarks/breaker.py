"""Breaker: what does a receiver cost that dies, flaps and heals, with a breaker and without one?

One host gets tasks at a steady pace while it is well, answers 503 to all, is well again, and does both in turn. Other
hosts have tasks at a steady pace all the time: how late are these?
"""

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, limits, report
from redis_scheduler.settings import API, WORKER
from tests.support.waiting import wait_until

LEAD_S = 2.0
"""Tasks are scheduled so long before the first of them is due."""

COME_MOST_S = 30.0
"""The last of the other hosts' tasks may be so late, before the next phase."""

POLL_S = 0.25
SETTLED_MOST_S = 150.0
"""Until a host that is well again has got all that waited: its next probe may be a minute away."""

PARTS = ("tasks", "attempts", "failed", "opened", "probed", "closed")

WELL, FAILING = 200, 503


@dataclass
class Course:
    """A run, with a breaker or without one."""

    service: harness.Service
    redis_url: str
    sick: harness.Receiver
    others: harness.Receiver
    options: argparse.Namespace
    found: dict[str, Any] = field(default_factory=dict)

    async def phase(self, name: str, statuses: Sequence[int], seconds: float) -> None:
        """Let the host answer so, one after the other, and well again at the end; note what it cost."""
        options = self.options
        await self.others.take()
        await self.sick.answer(statuses[0])
        start = time.time() + LEAD_S
        count = round(seconds * options.rate)
        await limits.enter(self.redis_url, [self.sick.url], [start + at / options.rate for at in range(count)])
        dues = [start + at / options.others for at in range(round(seconds * options.others))]
        known = await limits.enter(self.redis_url, self.others.bases, dues)
        arrivals, failed = list[harness.Arrival](), 0
        for number, status in enumerate(statuses):
            await asyncio.sleep(max(0, start + (number + 1) * seconds / len(statuses) - time.time()))
            came = await self.sick.answer([*statuses[1:], WELL][number])
            arrivals += came
            failed += len(came) if status == FAILING else 0
        seconds_of = [math.floor(arrival.at - start) for arrival in arrivals]
        await self.others.wait_for(len(known), COME_MOST_S)
        others = await self.others.take()
        self.found[name] = {
            "tasks": count,
            "attempts": len(arrivals),
            "failed": failed,
            "others": limits.lateness(known, others),
            **self.said(start),
            "by_second": [seconds_of.count(second) for second in range(round(seconds))],
        }

    def said(self, since: float) -> dict[str, int]:
        """Return how often the workers' logs say since then that the breaker opened, was probed in vain and closed."""
        return {
            name: sum(at >= since for at in self.times(f"breaker-{name}")) for name in ("opened", "probed", "closed")
        }

    def times(self, event: str) -> list[float]:
        """Return when the logs say so."""
        found = (line for _, process in self.service.processes for line in process.events(event))
        return sorted(datetime.fromisoformat(line["at"]).timestamp() for line in found)

    async def settled(self) -> bool:
        """Whether nothing waits any more."""
        return bool((await self.service.client.stats())["running_schedules"] == 0)


async def run_course(options: argparse.Namespace, folder: Path, failures: int) -> dict[str, Any]:
    """Run it once."""
    variables = {"BREAKER_FAILURES": str(failures), "RETRIES": "-1", "RETRY_TIME": str(options.retry_time)}
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as sick,
        harness.receiving() as others,
        harness.service(redis.url, folder, [API] + [WORKER] * options.workers, **variables) as service,
    ):
        limit = {"rate": options.most}
        status, _ = await service.client.call("PUT", f"/hosts/{urlsplit(sick.url).netloc}", json=limit)
        assert status == 200
        course = Course(service, redis.url, sick, others, options)
        await course.phase("well", [WELL], options.phase)
        await course.phase("dead", [FAILING], options.dead)
        await course.phase("healed", [WELL], options.phase)
        await course.phase("flapping", [WELL, FAILING] * 3, options.phase)
        await course.phase("healed_again", [WELL], options.phase)
        await wait_until(course.settled, "all that waited has arrived", SETTLED_MOST_S, POLL_S)
        return {**course.found, "versions": report.versions(redis.server)}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run it with a breaker, then without."""
    found = dict[str, Any]()
    for name, failures in (("with", options.failures), ("without", 0)):
        if options.only in (None, name):
            (folder / name).mkdir()
            found[name] = await run_course(options, folder / name, failures)
            found["versions"] = found[name].pop("versions")
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    for name in ("with", "without"):
        if name not in found:
            continue
        rows = [
            [phase]
            + [str(one[part]) for part in PARTS]
            + [f"{one['others'][part]:.2f}" for part in ("p50_ms", "p99_ms")]
            for phase, one in found[name].items()
        ]
        print(f"{name} a breaker\n")
        print(report.table(("", *PARTS, "others late p50", "p99 ms"), rows))
        for phase in ("healed", "healed_again"):
            print(f"{phase}, each second: {' '.join(map(str, found[name][phase]['by_second']))}")
        print()


def main() -> None:
    parser = harness.parser(__doc__, "breaker")
    parser.add_argument("--workers", type=harness.positive, default=3, help="worker processes")
    parser.add_argument("--failures", type=harness.positive, default=20, help="BREAKER_FAILURES")
    parser.add_argument("--retry-time", type=float, default=5.0, help="RETRY_TIME")
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second for the host that dies")
    parser.add_argument("--most", type=float, default=200.0, help="its limit: attempts a second")
    parser.add_argument("--others", type=float, default=100.0, help="tasks a second for all others")
    parser.add_argument("--dead", type=float, default=30.0, help="seconds for which the host is dead")
    parser.add_argument("--phase", type=float, default=30.0, help="seconds for which it is well, flaps, and so on")
    parser.add_argument("--only", choices=("with", "without"), help="one of both")
    options = parser.parse_args()
    harness.run(options, measure, show, 2 * (options.dead + 4 * options.phase + 10 * LEAD_S + SETTLED_MOST_S + 30))


if __name__ == "__main__":
    main()
