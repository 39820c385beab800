"""Tasks due at one instant, scheduled over REST: how fast they are delivered, and what a delivery and a life cost."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from benchmarks import harness
from benchmarks.meter import Meter, Part, Used
from redis_scheduler.settings import WORKER
from tests.support.service import Client

SCHEDULERS = 50
"""Requests under way at once while scheduling: the longer one waits for its turn, the later it is due."""

EXPECTED_A_SECOND = 4_000
"""Schedules a second that the first try counts on; each further try allows twice the time."""

TRIES = 4
MARGIN_S = 0.5
"""Left before the instant, at least, when a task is posted."""

METERED_S = 0.1
"""The CPU of a burst counts from so long before the instant."""

WAIT_S = 120.0
"""For all to arrive; more than a slow machine needs."""

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
"""A task of webhook, ttl and data alone."""


@dataclass
class Figure:
    """How fast a client was, from its first arrival to its last; the CPU of each part in percent of one core."""

    arrivals: int
    seconds: float
    a_second: float
    cpu_percent: dict[str, float]


def figure(arrivals: Sequence[harness.Arrival], cpu_s: Mapping[str, float]) -> Figure:
    times = [arrival.at for arrival in arrivals]
    seconds = max(times) - min(times)
    # The first arrival starts the clock, so its own cost lies before it.
    a_second = (len(times) - 1) / seconds
    return Figure(len(times), round(seconds, 4), round(a_second, 1), Used(seconds, cpu_s).percent())


async def schedule_all(
    client: Client,
    receiver: harness.Receiver,
    webhooks: Sequence[str],
    bodies: Sequence[bytes],
    options: Mapping[str, Any] = NO_OPTIONS,
    **parts: Part,
) -> tuple[dict[str, float], Meter]:
    """Schedule all for one instant, each with these options; return the due times (time.time()) by key, once the last
    is in before the first.

    Beside them the meter of these parts, which counts from the first of these schedules on.
    """
    lead_s = 2 * MARGIN_S + len(bodies) / EXPECTED_A_SECOND
    for _ in range(TRIES):
        meter = await Meter.start(**parts)
        due_times = await schedule_for(time.time() + lead_s, client, webhooks, bodies, options)
        if len(due_times) == len(bodies) and time.time() < min(due_times.values()):
            return due_times, meter
        status, answer = await client.call("POST", "/purge")
        assert status == 200, answer
        await receiver.take()  # what fell due meanwhile
        lead_s *= 2
    raise SystemExit(f"{len(bodies)} tasks could not be scheduled within {lead_s / 2:.0f} s")


async def schedule_for(
    instant: float, client: Client, webhooks: Sequence[str], bodies: Sequence[bytes], options: Mapping[str, Any]
) -> dict[str, float]:
    """Schedule for the instant as many as there is time for."""
    due_times: dict[str, float] = {}
    remaining = zip(webhooks, bodies, strict=True)

    async def post() -> None:
        for webhook, body in remaining:
            ttl = instant - time.time()
            if ttl < MARGIN_S:
                return
            # The JSON of `data` comes out as the very bytes of the body: both are json.dumps.
            task = {"webhook": webhook, "ttl": ttl, "data": json.loads(body), **options}
            status, answer = await client.call("POST", "/schedule", json=task)
            assert status == 200, answer
            due_times[answer["key"]] = datetime.fromisoformat(answer["due"]).timestamp()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(SCHEDULERS):
            tasks.create_task(post())
    return due_times


async def burst(
    service: harness.Service,
    redis: harness.Redis,
    receiver: harness.Receiver,
    webhooks: Sequence[str],
    bodies: Sequence[bytes],
    options: Mapping[str, Any] = NO_OPTIONS,
    left: int = 0,
) -> tuple[Figure, dict[str, float], dict[str, Any]]:
    """Measure the service with tasks that have these options; return its figure, its CPU in µs, and what tells whether
    they are to be trusted. `left`: how many tasks their ends start, none of which is due by then."""
    due_times, life = await schedule_all(service.client, receiver, webhooks, bodies, options, redis=redis)
    first_due, last_due = min(due_times.values()), max(due_times.values())
    await asyncio.sleep(first_due - METERED_S - time.time())
    meter = await Meter.start(workers=service.pids(WORKER), redis=redis, receiver=[receiver.pid])
    await receiver.wait_for(len(bodies), WAIT_S)
    used = await meter.used()
    await service.client.drained(WAIT_S, left)
    delivering, living = await meter.used(), await life.used()
    cpu_us = {
        "worker": delivering.us_each("workers", len(bodies)),
        "redis": living.us_each("redis", len(bodies)),
    }
    arrivals = await receiver.take()
    checks = {
        **harness.checks(due_times, arrivals),
        "due_spread_ms": round(1000 * (last_due - first_due)),
        "first_arrival_after_first_due_ms": round(1000 * (min(arrivals).at - first_due), 1),
    }
    return figure(arrivals, used.cpu_s), cpu_us, checks
