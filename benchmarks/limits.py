"""Limits: are rate and concurrency kept by all workers together, and what do other hosts notice of their backlogs?

A host, and a limit_key that tasks of many hosts name, have in turn a rate and a concurrency, and more tasks than these
take within the window. Other hosts have tasks at a steady pace: alone, beside the same load without a limit, and beside
each of these backlogs.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import record_tail
from tests.support.waiting import wait_until

OFF_MARK_PERCENT = 2
"""How far a rate may be off, and how much of a concurrency may stand empty."""

NEIGHBOURS_MARK_MS = 1.0
"""The p99 of other hosts may be so much above that beside the same load without a limit."""

LEAD_S = 3.0
"""The tasks of other hosts begin to come due so much later, and the window is looked at from then on."""

NOTICED_S = 2.0
"""Every worker has noticed a limit by then, and the last of what arrives has arrived."""

LIMIT_KEY = "tenant"
RATE, CONCURRENCY = "rate", "concurrency"
KINDS = tuple(f"{limit} of {what}" for what in ("a host", "a limit_key") for limit in (RATE, CONCURRENCY))


async def enter(
    redis_url: str, webhooks: Sequence[str], dues: Sequence[float], options: Options = NONE
) -> dict[str, float]:
    """Schedule a task for each due time (0: now), the webhooks in turn; return the due times by key."""
    known: dict[str, float] = {}

    def task(number: int) -> NewTask:
        key, due = new_task_key(), dues[number]
        known[key] = due
        tail = record_tail(webhooks[number % len(webhooks)], -1, None, b"1", options)
        return NewTask(key, -round(due * 1000), tail, None)

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


@dataclass
class Course:
    """The service, with two receivers: one that is limited, and one for all others."""

    service: harness.Service
    redis: harness.Redis
    limited: harness.Receiver
    others: harness.Receiver
    options: argparse.Namespace

    async def steady(self) -> tuple[dict[str, float], float]:
        """Schedule the tasks of the other hosts; return them and when the first is due."""
        options, start = self.options, time.time() + LEAD_S
        count = round(options.window * options.others)
        dues = [start + number / options.others for number in range(count)]
        return await enter(self.redis.url, self.others.bases, dues), start

    async def alone(self) -> dict[str, Any]:
        """Measure the others alone."""
        known, start = await self.steady()
        await asyncio.sleep(start + self.options.window + NOTICED_S - time.time())
        return lateness(known, await self.others.take())

    async def unlimited(self) -> dict[str, Any]:
        """Measure the others beside as many tasks as a rate lets through, for a host without a limit."""
        options = self.options
        known, start = await self.steady()
        dues = [start + number / options.rate for number in range(round(options.rate * options.window))]
        await enter(self.redis.url, self.limited.bases[:1], dues)
        await asyncio.sleep(start + options.window + NOTICED_S - time.time())
        await self.limited.take()
        return lateness(known, await self.others.take())

    async def beside(self, kind: str) -> dict[str, Any]:
        """Measure the others beside the backlog of what has a limit, and how that is kept."""
        options, limited = self.options, self.limited
        of_key, is_rate = "limit_key" in kind, kind.startswith(RATE)
        name = f"@{LIMIT_KEY}" if of_key else urlsplit(limited.url).netloc
        most = options.rate if is_rate else options.concurrency
        await limited.delay(0 if is_rate else options.delay)
        status, _ = await self.service.client.call(
            "PUT", f"/hosts/{name}", json={RATE if is_rate else CONCURRENCY: most}
        )
        assert status == 200
        await asyncio.sleep(NOTICED_S)
        a_second = most if is_rate else most / options.delay
        backlog = await enter(
            self.redis.url,
            limited.bases if of_key else limited.bases[:1],
            [0.0] * round(a_second * (options.window + 4 * LEAD_S)),
            Options(limit_key=LIMIT_KEY) if of_key else NONE,
        )
        known, start = await self.steady()
        await asyncio.sleep(max(0, start - time.time()))
        await limited.flights()
        began, cpu_s = time.monotonic(), await self.redis.cpu_s()
        await asyncio.sleep(start + options.window - time.time())
        at_once, busy_s = await limited.flights()
        took_s, cpu_s = time.monotonic() - began, await self.redis.cpu_s() - cpu_s
        await asyncio.sleep(NOTICED_S)
        arrivals = await limited.take()
        found: dict[str, Any] = {"others": lateness(known, await self.others.take())}
        found["redis_cpu_percent"] = round(100 * cpu_s / options.window, 1)
        came = [arrival.at for arrival in arrivals if arrival.key in backlog]
        found["a_second"] = round(sum(start <= at < start + options.window for at in came) / options.window, 2)
        if not is_rate:
            used = busy_s / took_s / most
            found |= {
                "at_once": at_once,
                "used_percent": round(100 * used, 2),
                "empty_ms": round(1000 * options.delay * (1 / used - 1), 1),
            }
        await self._clear(name)
        return found

    async def _clear(self, name: str) -> None:
        """Leave nothing of what was limited."""
        call = self.service.client.call
        await call("POST", "/purge")

        async def is_empty() -> bool:
            return not (await call("GET", f"/hosts/{name}"))[1]["data"]["running"]

        await wait_until(is_empty, "all permits have ended", 30)
        await call("DELETE", f"/hosts/{name}")
        await self.limited.take()


def marks(found: Mapping[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return how what was found stands beside what is wanted."""
    marked = []
    for kind, one in found["limited"].items():
        if kind.startswith(RATE):
            off = round(100 * abs(one["a_second"] / options.rate - 1), 2)
            marked.append(report.mark(f"{kind} off by <= {OFF_MARK_PERCENT} %", off, off <= OFF_MARK_PERCENT))
        else:
            at_once, used, wanted = one["at_once"], one["used_percent"], 100 - OFF_MARK_PERCENT
            marked.append(report.mark(f"{kind} at most {options.concurrency}", at_once, at_once <= options.concurrency))
            marked.append(report.mark(f"{kind} used to >= {wanted} %", used, used >= wanted))
        more_ms = round(one["others"]["p99_ms"] - found["unlimited"]["p99_ms"], 2)
        wanted_text = f"p99 of others beside {kind} <= {NEIGHBOURS_MARK_MS:g} ms above that without it"
        marked.append(report.mark(wanted_text, more_ms, more_ms <= NEIGHBOURS_MARK_MS))
    return marked


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the others alone, beside a load without a limit, and beside each kind of limit."""
    roles = [API] + [WORKER] * options.workers
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as limited,
        harness.receiving() as others,
        harness.service(redis.url, folder, roles) as service,
    ):
        course = Course(service, redis, limited, others, options)
        found: dict[str, Any] = {"alone": await course.alone(), "unlimited": await course.unlimited()}
        found["limited"] = {kind: await course.beside(kind) for kind in options.kinds}
    return {**found, "marks": marks(found, options), "versions": report.versions(redis.server)}


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(
        f"limits: {settings['rate']:g} a second, or {settings['concurrency']} at once for {settings['delay']:g} s each, "
        f"by {settings['workers']} workers over {settings['window']:g} s\n"
    )
    rows = [
        (label, "", "", "", *_late(found[name]))
        for label, name in (("others alone", "alone"), ("beside the load without a limit", "unlimited"))
    ]
    rows += [
        (
            f"beside a {kind}",
            f"{one['a_second']:.2f}",
            f"{one['used_percent']:.2f}, {one['empty_ms']:.1f}" if "used_percent" in one else "",
            f"{one['redis_cpu_percent']:.1f}",
            *_late(one["others"]),
        )
        for kind, one in found["limited"].items()
    ]
    print(report.table(("", "a second", "used %, ms empty", "Redis %", "others p50 ms", "p99 ms"), rows))


def _late(one: Mapping[str, Any]) -> tuple[str, str]:
    return f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}"


def main() -> None:
    parser = harness.parser(__doc__, "limits")
    parser.add_argument("--workers", type=harness.positive, default=3, help="worker processes")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="the limits that are measured")
    parser.add_argument("--rate", type=float, default=300.0, help="deliveries a second that the host takes")
    parser.add_argument("--concurrency", type=harness.positive, default=50, help="deliveries at once that it takes")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that each of these takes")
    parser.add_argument("--others", type=float, default=100.0, help="deliveries a second to all other hosts")
    parser.add_argument("--window", type=float, default=60.0, help="seconds for which each is measured")
    options = parser.parse_args()
    harness.run(options, measure, show, 120 + (2 + len(options.kinds)) * (options.window + 45))


if __name__ == "__main__":
    main()
