"""Burst: how many deliveries a second, when a great many tasks are due at one instant?

The same bodies are posted to the same receiver, at the same concurrency, by the service and by a bare aiohttp client, in
several rounds. A ratio is that of a burst to the bare client's runs just before and after it; the median is the answer.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, reference, report
from benchmarks.meter import Meter, Used
from redis_scheduler.settings import API, WORKER
from tests.support.service import Client

SCHEDULERS = 50
"""Requests under way at once while scheduling: the longer one waits for its turn, the later it is due."""

EXPECTED_A_SECOND = 4_000
"""Schedules a second that the first try counts on; each further try allows twice the time."""

TRIES = 4
MARGIN_S = 0.5
"""Left before the instant, at least, when a task is posted."""

WAIT_S = 120.0
"""For all to arrive; more than a slow machine needs."""

MARK = 0.75
"""DESIGN.md, section 8: of the bare client's rate, with one worker."""

Reference = Callable[[str, Sequence[bytes], int], Coroutine[None, None, None]]


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


async def refer(post: Reference, receiver: harness.Receiver, bodies: Sequence[bytes], concurrency: int) -> Figure:
    """Measure one of the reference clients."""
    meter = await Meter.start(receiver=[receiver.pid])
    await post(receiver.url, bodies, concurrency)
    used = await meter.used()
    arrivals = await receiver.take()
    assert len(arrivals) == len(bodies), f"{len(arrivals)} of {len(bodies)} arrived"
    return figure(arrivals, used.cpu_s)


async def schedule_all(client: Client, receiver: harness.Receiver, bodies: Sequence[bytes]) -> dict[str, float]:
    """Schedule all for one instant; return the due times (time.time()) by key, once the last is in before the first."""
    lead_s = 2 * MARGIN_S + len(bodies) / EXPECTED_A_SECOND
    for _ in range(TRIES):
        due_times = await schedule_for(time.time() + lead_s, client, receiver.url, bodies)
        if len(due_times) == len(bodies) and time.time() < min(due_times.values()):
            return due_times
        status, answer = await client.call("POST", "/purge")
        assert status == 200, answer
        await receiver.take()  # what fell due meanwhile
        lead_s *= 2
    raise SystemExit(f"{len(bodies)} tasks could not be scheduled within {lead_s / 2:.0f} s")


async def schedule_for(instant: float, client: Client, url: str, bodies: Sequence[bytes]) -> dict[str, float]:
    """Schedule for the instant as many as there is time for."""
    due_times: dict[str, float] = {}
    remaining = iter(bodies)

    async def post() -> None:
        for body in remaining:
            ttl = instant - time.time()
            if ttl < MARGIN_S:
                return
            # The JSON of `data` comes out as the very bytes of the body: both are json.dumps.
            task = {"webhook": url, "ttl": ttl, "data": json.loads(body)}
            status, answer = await client.call("POST", "/schedule", json=task)
            assert status == 200, answer
            due_times[answer["key"]] = datetime.fromisoformat(answer["due"]).timestamp()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(SCHEDULERS):
            tasks.create_task(post())
    return due_times


async def burst(
    service: harness.Service, redis: harness.Redis, receiver: harness.Receiver, bodies: Sequence[bytes]
) -> tuple[Figure, dict[str, Any]]:
    """Measure the service; return its figure, and what tells whether it is to be trusted."""
    due_times = await schedule_all(service.client, receiver, bodies)
    first_due, last_due = min(due_times.values()), max(due_times.values())
    await asyncio.sleep(first_due - MARGIN_S / 5 - time.time())
    meter = await Meter.start(workers=service.pids(WORKER), redis=redis, receiver=[receiver.pid])
    await receiver.wait_for(len(bodies), WAIT_S)
    used = await meter.used()
    await service.client.drained()
    arrivals = await receiver.take()
    return figure(arrivals, used.cpu_s), {
        **harness.checks(due_times, arrivals),
        "due_spread_ms": round(1000 * (last_due - first_due)),
        "first_arrival_after_first_due_ms": round(1000 * (min(arrivals).at - first_due), 1),
    }


async def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the service with each count of workers, and its references around each; return what was found."""
    counts, concurrency = options.workers, options.concurrency
    bodies = [json.dumps({"order": number, "status": "shipped"}).encode() for number in range(options.tasks)]
    found: dict[int, list[tuple[float, Figure, dict[str, Any]]]] = {workers: [] for workers in counts}
    bare, deliverer = [], []
    async with harness.redis_at(options.redis_url, folder) as redis, harness.receiving() as receiver:

        async def refer_bare() -> Figure:
            return await refer(reference.post_with_aiohttp, receiver, bodies, concurrency)

        await refer_bare()  # opens what is opened once
        for _ in range(options.rounds):
            bare.append(await refer_bare())
            for workers in counts:
                roles = [API] + [WORKER] * workers
                async with harness.service(redis.url, folder, roles, CONCURRENCY=str(concurrency)) as service:
                    delivered, checks = await burst(service, redis, receiver, bodies)
                bare.append(await refer_bare())
                beside = (bare[-2].a_second + bare[-1].a_second) / 2
                found[workers].append((delivered.a_second / beside, delivered, report.whole(checks)))
            deliverer.append(await refer(reference.post_with_deliverer, receiver, bodies, concurrency))
        ceiling = await refer(reference.post_raw, receiver, bodies, concurrency)
    bursts = [summary(workers, rounds) for workers, rounds in found.items()]
    return {
        "bursts": bursts,
        "aiohttp": [asdict(figure) for figure in bare],
        "deliverer": [asdict(figure) for figure in deliverer],
        "receiver_ceiling": asdict(ceiling),
        "marks": marks(bursts),
        "versions": report.versions(redis.server),
    }


def summary(workers: int, rounds: Sequence[tuple[float, Figure, dict[str, Any]]]) -> dict[str, Any]:
    """Return what all rounds of one count of workers come to."""
    quartiles = report.quartiles([ratio for ratio, _, _ in rounds])
    return {
        "workers": workers,
        "ratio": quartiles[1],
        "ratio_quartiles": quartiles,
        "rounds": [{"ratio": round(ratio, 3), **asdict(one), "checks": checks} for ratio, one, checks in rounds],
    }


def in_the_middle(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figure with the median rate, of two the lower."""
    return sorted(figures, key=lambda figure: figure["a_second"])[(len(figures) - 1) // 2]


def marks(bursts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mark of one worker, where it was measured."""
    wanted = f"one worker >= {MARK} of a bare aiohttp client"
    return [report.mark(wanted, one["ratio"], one["ratio"] >= MARK) for one in bursts if one["workers"] == 1]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"burst: {settings['tasks']:,} tasks, {settings['concurrency']} at once in each process\n")
    named = [
        *((f"the service, {one['workers']} worker(s)", one["rounds"], one) for one in found["bursts"]),
        ("a bare aiohttp client", found["aiohttp"], {}),
        ("the service's own posts, without Redis", found["deliverer"], {}),
        ("the receiver's ceiling (raw client)", [found["receiver_ceiling"]], {}),
    ]
    rows = []
    for label, rounds, one in named:
        low, median, high = [f"{ratio:.2f}" for ratio in one.get("ratio_quartiles", ())] or ("", "", "")
        rates = [figure["a_second"] for figure in rounds]
        middle = in_the_middle(rounds)
        row = (label, f"{middle['a_second']:,.0f}", f"{min(rates):,.0f} {max(rates):,.0f}", median, f"{low} {high}")
        rows.append((*row, report.listing(middle["cpu_percent"])))
    print(report.table(("", "a second", "least, most", "ratio", "quartiles", "CPU, % of a core"), rows))
    for one in found["bursts"]:
        for checks in (figure["checks"] for figure in one["rounds"]):
            print(f"checks    {one['workers']} worker(s): {report.listing(checks)}")


def main() -> None:
    parser = harness.parser(__doc__, "burst")
    parser.add_argument("--tasks", type=harness.positive, default=20_000, help="tasks that are due at one instant")
    parser.add_argument("--workers", type=harness.positive, nargs="+", default=[1, 2, 4], help="worker processes")
    parser.add_argument("--concurrency", type=harness.positive, default=200, help="posts at once, of each process")
    parser.add_argument("--rounds", type=harness.positive, default=5, help="times that all of it is measured")
    options = parser.parse_args()
    harness.run(
        options, compare, show, limit_s=options.rounds * len(options.workers) * (2 * WAIT_S + options.tasks / 100)
    )


if __name__ == "__main__":
    main()
