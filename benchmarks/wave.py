"""A wave: tasks that come due at one instant. scale.py and failing.py send it; a wave's size is not what is measured
there.

The tasks are entered through the store, as the API does, so that 100,000 are in before the first is due.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import harness, report
from benchmarks.instant import METERED_S, figure
from benchmarks.meter import Meter
from redis_scheduler.settings import WORKER
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.waiting import wait_until

LEAD_S = 1.0
ENTERED_A_SECOND = 12_000
"""What the instant allows for: LEAD_S, and a second for so many tasks."""

WAIT_S = 60.0
ARRIVED_A_SECOND = 500
"""A wave must have arrived after WAIT_S, and a second for so many tasks: more than a slow machine needs."""


def new_task(number: int, webhook: str, ttl_s: float) -> NewTask:
    """Return a task as `POST /schedule` makes it, with some 60 bytes of data."""
    data = b'{"order": "%08d", "status": "shipped", "carrier": "north"}' % number
    return NewTask(new_task_key(), round(1000 * ttl_s), record_tail(webhook, ttl_s, None, data), None)


@dataclass
class Seeded:
    """What was entered; `instant` is time.time(), as near as the way to Redis lets it be."""

    instant: float
    keys: list[str] = field(default_factory=list)


async def enter(redis_url: str, count: int, webhook: str) -> Seeded:
    """Enter tasks that are due at one instant; return before that."""
    seeded = Seeded(time.time() + LEAD_S + count / ENTERED_A_SECOND)

    def task(number: int) -> NewTask:
        made = new_task(number, webhook, max(0, round(seeded.instant - time.time(), 3)))
        seeded.keys.append(made.key)
        return made

    await harness.seed(redis_url, count, task)
    if time.time() > seeded.instant:
        raise SystemExit(f"{count:,} tasks could not be entered before the first was due: the machine is too busy")
    return seeded


async def until_arrived(receiver: harness.Receiver, count: int) -> None:
    """Wait for so many arrivals."""
    await receiver.wait_for(count, WAIT_S + count / ARRIVED_A_SECOND)


def limit_s(count: int) -> float:
    """Return the seconds that a wave of so many may take, from the entering to the end."""
    return LEAD_S + count / ENTERED_A_SECOND + 2 * WAIT_S + count / ARRIVED_A_SECOND


async def meter_of(service: harness.Service, redis: harness.Redis, receiver: harness.Receiver) -> Meter:
    """Count the CPU of each part from now on."""
    return await Meter.start(workers=service.pids(WORKER), redis=redis, receiver=[receiver.pid])


HEADER = ("a second", "seconds", "CPU, % of a core")


def row(label: str, rate: Mapping[str, Any]) -> Sequence[str]:
    """Return the row of a table with HEADER for a rate: a Figure as a dict, or what has the same names."""
    return label, f"{rate['a_second']:,.0f}", f"{rate['seconds']:.2f}", report.listing(rate["cpu_percent"])


async def at_rest(client: Client) -> dict[str, Any]:
    """Wait until no task is queued, in delivery or waiting for a retry in the queue; return the statistics."""

    async def is_at_rest() -> dict[str, Any] | None:
        stats = await client.stats()
        return None if any(stats["states"][name] for name in ("queued", "in_delivery", "waiting")) else stats

    return await wait_until(is_at_rest, "the queue is empty", WAIT_S, harness.POLL_S) or {}


async def first_due(redis: harness.Redis) -> float:
    """Return when the first of all tasks is due, as time.time(): whole milliseconds."""
    [first] = await redis.raw.zrange(KEYS.due, 0, 0, withscores=True)
    return float(first[1]) / 1000


async def deliver(
    service: harness.Service, redis: harness.Redis, receiver: harness.Receiver, count: int
) -> dict[str, Any]:
    """Send a wave through the service; return how fast it was delivered, how late, and what must be 0."""
    await redis.settled()
    seeded = await enter(redis.url, count, receiver.url)
    due = await first_due(redis)
    assert due < seeded.instant + WAIT_S, "the wave began before it was looked at"
    await asyncio.sleep(seeded.instant - METERED_S - time.time())
    meter = await meter_of(service, redis, receiver)
    await until_arrived(receiver, count)
    used = await meter.used()
    await at_rest(service.client)
    arrivals = await receiver.take()
    late_ms = report.spread([1000 * (arrival.at - due) for arrival in arrivals], digits=1)
    return {
        **asdict(figure(arrivals, used.cpu_s)),
        "late_ms": {"first": late_ms["min"], "median": late_ms["p50"]},
        "checks": report.whole(harness.checks(seeded.keys, arrivals)),
    }
