"""Tasks that wait for a retry: what looking for them costs Redis, and how late they come. A part of scale.py.

They get there by failing: the receiver answers 503, once to each. The first 1,000 then wait in the pending list of the
queue, which the workers sweep ten times a second, the rest in `due`.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness, report, wave
from benchmarks.meter import Meter
from redis_scheduler.settings import API, WORKER
from tests.support.service import Client
from tests.support.waiting import wait_until

WORKERS = 2

MARK_PERCENT = 5
"""Of Redis' core, for all that looks for tasks that wait."""

MARGIN_S = 0.5
"""Between a window and what comes before and after it."""

COMMANDS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    parser.add_argument("--retries", type=harness.positive, default=100_000, help="tasks that wait for a retry")
    parser.add_argument("--retry-time", type=float, default=60.0, help="seconds they wait, 60 at most")
    parser.add_argument("--window", type=float, default=20.0, help="seconds for which the cost to Redis is measured")


def limit_s(options: argparse.Namespace) -> float:
    """Return the seconds that this part is given."""
    return 2 * (float(options.window) + wave.limit_s(options.retries)) + float(options.retry_time)


async def calm(redis: harness.Redis) -> None:
    """Wait until what came before costs Redis nothing any more."""
    await redis.settled()
    await asyncio.sleep(MARGIN_S)


async def cost(redis: harness.Redis, window_s: float) -> dict[str, Any]:
    """Return the CPU of Redis in percent of a core, in all and by command; a script's includes the commands in it."""
    meter, before = await Meter.start(redis=redis), await redis.raw.info("commandstats")
    await asyncio.sleep(window_s)
    used, after = await meter.used(), await redis.raw.info("commandstats")
    commands = {}
    for name, one in after.items():
        old = before.get(name, {"calls": 0, "usec": 0})
        if calls := one["calls"] - old["calls"]:
            percent = (one["usec"] - old["usec"]) / used.seconds / 10_000
            rates = {"a_second": round(calls / used.seconds, 1), "percent": round(percent, 3)}
            commands[name.removeprefix("cmdstat_")] = rates
    return {"seconds": round(used.seconds, 1), "percent": used.percent(2)["redis"], "commands": commands}


async def all_failed(client: Client, count: int) -> dict[str, int]:
    """Wait until every task has failed and waits again; return how many wait where."""

    async def wait_again() -> dict[str, int] | None:
        stats = await client.stats()
        states: dict[str, int] = stats["states"]
        return states if stats["counters"]["failed"] == states["due"] + states["waiting"] == count else None

    return await wait_until(wait_again, f"{count} failures are written", wave.WAIT_S, harness.POLL_S) or {}


def lateness(
    failures: Sequence[harness.Arrival], arrivals: Sequence[harness.Arrival], retry_time_s: float
) -> dict[str, float]:
    """Return how late the retries came, in ms.

    The end of a failed attempt is the moment in which the receiver read it: it answers in the same turn of its loop.
    """
    due = {failure.key: failure.at + retry_time_s for failure in failures}
    return report.spread([1000 * (arrival.at - due[arrival.key]) for arrival in arrivals], digits=1)


def spread_s(arrivals: Sequence[harness.Arrival]) -> float:
    """Return the seconds from the first to the last."""
    return round(max(arrivals).at - min(arrivals).at, 2)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let tasks fail, measure while they wait, let them be delivered; return the figures."""
    roles = [API] + [WORKER] * WORKERS
    variables = {"RETRY_TIME": str(options.retry_time)}
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving() as receiver,
        harness.service(redis.url, folder, roles, **variables) as service,
    ):
        found = await wait_and_retry(options, redis, receiver, service.client)
    settings = {name: getattr(options, name) for name in ("retries", "retry_time", "window")}
    return {"settings": settings | {"workers": WORKERS}, **found}


async def wait_and_retry(
    options: argparse.Namespace, redis: harness.Redis, receiver: harness.Receiver, client: Client
) -> dict[str, Any]:
    """Let tasks fail once, measure while they wait for their retry, and let that succeed; return the figures."""
    count = options.retries
    await calm(redis)
    idle = await cost(redis, options.window)
    await receiver.answer(503)
    seeded = await wave.enter(redis.url, count, receiver.url)
    try:
        async with asyncio.timeout(seeded.instant + options.retry_time - 2 * MARGIN_S - time.time()):
            await wave.until_arrived(receiver, count)
            places = await all_failed(client, count)
            await calm(redis)
    except TimeoutError:
        raise SystemExit(
            f"{count:,} tasks did not fail within {options.retry_time:g} s: name fewer --retries"
        ) from None
    # All wait: none meets this answer before its time.
    failures = await receiver.answer(200)
    report.whole(harness.checks(seeded.keys, failures))
    first_due = min(failures).at + options.retry_time
    window_s = min(options.window, first_due - MARGIN_S - time.time())
    if window_s < options.window / 2:
        raise SystemExit(f"only {window_s:.1f} s are left to measure the cost of waiting: name fewer --retries")
    waiting = await cost(redis, window_s)
    assert await receiver.count() == 0, "a retry came while the cost of waiting was measured"
    await asyncio.sleep(first_due - time.time())
    await wave.until_arrived(receiver, count)
    await client.drained()
    arrivals = await receiver.take()
    return {
        "places": places,
        "idle": idle,
        "waiting": waiting,
        "percent": round(waiting["percent"] - idle["percent"], 2),
        "failed_within_s": spread_s(failures),
        "retried_within_s": spread_s(arrivals),
        "late_ms": lateness(failures, arrivals, options.retry_time),
        "checks": report.whole(harness.checks(seeded.keys, arrivals)),
    }


def mark(found: dict[str, Any]) -> dict[str, Any]:
    """Return the mark, and whether it is met."""
    wanted = f"% of Redis to look for {found['settings']['retries']:,} that wait for a retry <= {MARK_PERCENT}"
    return report.mark(wanted, found["percent"], found["percent"] <= MARK_PERCENT)


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    count, places, idle, waiting = found["settings"]["retries"], found["places"], found["idle"], found["waiting"]
    rows: list[Sequence[str]] = [("Redis", f"{idle['percent']:.2f}", "", f"{waiting['percent']:.2f}", "")]
    by_cost = sorted(waiting["commands"], key=lambda name: -waiting["commands"][name]["percent"])
    for name in by_cost[:COMMANDS_SHOWN]:
        used = [one["commands"].get(name, {"percent": 0, "a_second": 0}) for one in (idle, waiting)]
        cells = [text for one in used for text in (f"{one['percent']:.2f}", f"{one['a_second']:.0f}")]
        rows.append((f"  {name}", *cells))
    header = (f"{count:,} wait for a retry", "before: CPU, %", "a second", "waiting: CPU, %", "a second")
    print(report.table(header, rows))
    print(f"\nwaiting   {places['waiting']:,} in the queue, {places['due']:,} in due; {WORKERS} workers")
    print(f"cost      {found['percent']:.2f} % of Redis' core, over {waiting['seconds']:g} s")
    late = report.listing(found["late_ms"], ",.0f")
    print(f"lateness  {late} ms; failed within {found['failed_within_s']} s, came within {found['retried_within_s']} s")
    print(f"checks    {report.listing(found['checks'])}")
