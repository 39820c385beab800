"""Tenants: how late are the tasks of one token beside another that floods a worker with hosts that hang or are slow?

One token has tasks for a few hosts that answer, at a steady pace: first alone, and then while another has several
tasks for each of many hosts, of which one half never answers and the other is slow. And then beside one whose receivers
answer, but that has many tasks due at once: again and again as many as a limit lets it have; a large backlog that comes
due before the steady token's next task, and one that stands in Redis before, due with it.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.limits import LEAD_S
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import TOKEN_MARK
from redis_scheduler.task.record import record_tail
from tests.support.receiver import receiving

FLOODING, STEADY = "f" * 10, "5" * 10
"""The ids of the tokens."""

LATE_MARK_MS = 100.0
"""The p99 of the steady token may be so much above that alone."""

SLOW_S = 1.0
TIMEOUT_S = 10
AGAIN_S = 0.5
"""After so long there are as many as may be once more."""

STEADY_HOSTS = 5

SEEDED_PER_S = 5_000
"""So many tasks a second are written at least, however busy the machine is."""


async def enter(redis_url: str, token: str, webhooks: Sequence[str], dues: Sequence[float]) -> dict[str, float]:
    """Schedule a task of a token for each due time, the webhooks in turn; return the due times by key."""
    known: dict[str, float] = {}

    def task(number: int) -> NewTask:
        key, due = new_task_key(), dues[number]
        known[key] = due
        tail = record_tail(webhooks[number % len(webhooks)], -1, None, b"1", token=token)
        return NewTask(key, -round(due * 1000), tail, TOKEN_MARK + token)

    await harness.seed(redis_url, len(dues), task)
    return known


async def hang_or_wait(request: web.Request) -> web.Response:
    """Answer late, or never."""
    await asyncio.sleep(SLOW_S if request.path == "/slow" else 10 * TIMEOUT_S)
    return web.Response()


def flooded(hosts: int, port: int) -> list[str]:
    """Return URLs of so many hosts that are all this machine."""
    paths = ("hangs", "slow")
    return [
        f"http://127.{7 + number // 250}.0.{1 + number % 250}:{port}/{paths[number % 2]}" for number in range(hosts)
    ]


async def steady(redis_url: str, receiver: harness.Receiver, options: argparse.Namespace) -> dict[str, Any]:
    """Let the steady token have its tasks for a while; return how late they came, and how many did not in time."""
    start, count = time.time() + LEAD_S, round(options.window * options.rate)
    dues = [start + number / options.rate for number in range(count)]
    known = await enter(redis_url, STEADY, receiver.bases[:STEADY_HOSTS], dues)
    await asyncio.sleep(dues[-1] + options.patience - time.time())
    arrivals = [one for one in await receiver.take() if one.key in known]
    late_ms = [(one.at - known[one.key]) * 1000 for one in arrivals] or [float("nan")]
    return {
        "p50_ms": round(report.percentile(late_ms, 50), 2),
        "p99_ms": round(report.percentile(late_ms, 99), 2),
        "missing": count - len({one.key for one in arrivals}),
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the steady token alone, then beside the one that floods; and both as one token."""
    found: dict[str, Any] = {}
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as receiver,
        receiving(everywhere=True) as flood,
    ):
        flood.behaviour = hang_or_wait
        for name, other in (("alone", None), ("beside", FLOODING), ("as_one", STEADY)):
            # What is known of hosts goes with the process.
            async with harness.service(redis.url, folder, [API, WORKER], TIMEOUT=str(TIMEOUT_S)) as service:
                if other is not None:
                    urls = flooded(options.hosts, flood.port)
                    await enter(redis.url, other, urls, [time.time()] * (options.hosts * options.each))
                found[name] = await steady(redis.url, receiver, options)
                await service.client.call("POST", "/purge")
        for name, count, times in (
            ("limited", options.limit, round(options.window / AGAIN_S)),
            ("backlog", options.backlog, 1),
        ):
            async with harness.service(redis.url, folder, [API, WORKER]) as service:
                late = asyncio.create_task(steady(redis.url, receiver, options))
                begins = time.time() + LEAD_S
                for number in range(times):
                    await asyncio.sleep(begins + number * AGAIN_S - time.time())
                    await enter(redis.url, FLOODING, receiver.bases[STEADY_HOSTS:], [time.time()] * count)
                found[name] = await late
                await service.client.call("POST", "/purge")
        async with harness.service(redis.url, folder, [API, WORKER]) as service:
            # All of it is there before, and comes due at one instant.
            due = time.time() + options.backlog / SEEDED_PER_S + LEAD_S
            await enter(redis.url, FLOODING, receiver.bases[STEADY_HOSTS:], [due] * options.backlog)
            await asyncio.sleep(due - LEAD_S - time.time())
            found["instant"] = await steady(redis.url, receiver, options)
            await service.client.call("POST", "/purge")
    alone, beside = found["alone"], found["beside"]
    more_ms = round(beside["p99_ms"] - alone["p99_ms"], 2)
    is_met = more_ms <= LATE_MARK_MS and not alone["missing"] and not beside["missing"]
    return {
        **found,
        "marks": [report.mark(f"all in time, p99 <= {LATE_MARK_MS:g} ms above alone", more_ms, is_met)],
        "versions": report.versions(redis.server),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(
        f"tenants: {settings['rate']:g} a second beside {settings['hosts']} hosts with {settings['each']} tasks each\n"
    )
    rows = [
        (
            label,
            f"{found[name]['p50_ms']:.2f}",
            f"{found[name]['p99_ms']:.2f}",
            str(found[name]["missing"]),
        )
        for label, name in (
            ("alone", "alone"),
            ("beside another", "beside"),
            ("were both one token", "as_one"),
            (f"beside {settings['limit']} due at once, each {AGAIN_S:g} s", "limited"),
            (f"beside {settings['backlog']} scheduled for now", "backlog"),
            (f"beside {settings['backlog']} due at one instant", "instant"),
        )
    ]
    print(report.table(("a token's tasks, late by ms", "p50", "p99", "not in time"), rows))


def main() -> None:
    """Run the benchmark."""
    parser = harness.parser(__doc__, "tenants")
    parser.add_argument("--hosts", type=harness.positive, default=1_000, help="hosts of the token that floods")
    parser.add_argument("--each", type=harness.positive, default=5, help="its tasks for each host")
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second of the other token")
    parser.add_argument("--window", type=float, default=20.0, help="seconds for which each is measured")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds after which its last task must have come")
    parser.add_argument("--limit", type=harness.positive, default=500, help="tasks of the other that wait, if limited")
    parser.add_argument("--backlog", type=harness.positive, default=20_000, help="the same, if not")
    options = parser.parse_args()
    harness.run(options, measure, show, 180 + 5 * (options.window + options.patience))


if __name__ == "__main__":
    main()
