"""Burst: how many deliveries a second, when a great many tasks are due at one instant?

The same bodies are posted to the same receiver, at the same concurrency, by the service and by a bare aiohttp client,
in several rounds. A ratio is that of a burst to the bare client's runs just before and after it; the median is the
answer. The service posts to one webhook in one burst, and in another each task to its own; the bare client always to
one.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, reference, report
from benchmarks.instant import WAIT_S, Figure, burst, figure
from benchmarks.meter import Meter
from benchmarks.webhooks import DISTINCT, ONE, URLS
from redis_scheduler.settings import API, WORKER

MARK = 0.75
"""Of the bare client's rate, with one worker."""

DISTINCT_MARK = 0.9
"""Of the rate with one webhook, when each task has its own."""

CPU_MARKS_US = {"worker": ("worker CPU a delivery", 50), "redis": ("Redis CPU a life", 28)}
"""Microseconds with one worker and one webhook, on the machine of PERFORMANCE.md."""


@dataclass
class Round:
    """One burst of the service. `cpu_us`: of the workers for each delivery, of Redis for each life, from the POST
    on."""

    ratio: float
    figure: Figure
    cpu_us: dict[str, float]
    checks: dict[str, Any]


async def refer(post: Coroutine[None, None, None], receiver: harness.Receiver, tasks: int) -> Figure:
    """Measure one of the reference clients, which posts so many."""
    meter = await Meter.start(receiver=[receiver.pid])
    await post
    used = await meter.used()
    arrivals = await receiver.take()
    assert len(arrivals) == tasks, f"{len(arrivals)} of {tasks} arrived"
    return figure(arrivals, used.cpu_s)


async def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the service with each count of workers and each kind of URLs, and its references around each; return what
    was found."""
    concurrency, tasks = options.concurrency, options.tasks
    bodies = [json.dumps({"order": number, "status": "shipped"}).encode() for number in range(tasks)]
    arrangements = [(workers, urls) for workers in options.workers for urls in options.urls]
    found: dict[tuple[int, str], list[Round]] = {arrangement: [] for arrangement in arrangements}
    bare: list[Figure] = []
    deliverer: dict[str, list[Figure]] = {urls: [] for urls in options.urls}
    async with harness.redis_at(options.redis_url, folder) as redis, harness.receiving() as receiver:
        webhooks = {urls: receiver.webhooks(urls).first(tasks) for urls in options.urls}

        async def refer_bare() -> Figure:
            return await refer(reference.post_with_aiohttp(receiver.url, bodies, concurrency), receiver, tasks)

        await refer_bare()  # opens what is opened once
        for number in range(options.rounds):
            bare.append(await refer_bare())
            # Either comes first in turn.
            for workers, urls in arrangements[:: -1 if number % 2 else 1]:
                roles = [API] + [WORKER] * workers
                async with harness.service(redis.url, folder, roles, CONCURRENCY=str(concurrency)) as service:
                    delivered, cpu_us, checks = await burst(service, redis, receiver, webhooks[urls], bodies)
                bare.append(await refer_bare())
                beside = (bare[-2].a_second + bare[-1].a_second) / 2
                ratio = round(delivered.a_second / beside, 3)
                found[workers, urls].append(Round(ratio, delivered, cpu_us, report.whole(checks)))
            for urls, its in deliverer.items():
                post = reference.post_with_deliverer(webhooks[urls], bodies, concurrency)
                its.append(await refer(post, receiver, tasks))
        ceiling = await refer(reference.post_raw(receiver.url, bodies, concurrency), receiver, tasks)
    bursts = [summary(workers, urls, rounds) for (workers, urls), rounds in found.items()]
    return {
        "bursts": bursts,
        "aiohttp": [asdict(figure) for figure in bare],
        "deliverer": {urls: [asdict(figure) for figure in its] for urls, its in deliverer.items()},
        "receiver_ceiling": asdict(ceiling),
        "marks": marks(bursts),
        "versions": report.versions(redis.server),
    }


def summary(workers: int, urls: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return what all rounds of one count of workers and one kind of URLs come to: the medians, and each."""
    quartiles = report.quartiles([one.ratio for one in rounds])
    return {
        "workers": workers,
        "urls": urls,
        "ratio": quartiles[1],
        "ratio_quartiles": quartiles,
        "cpu_us": {part: round(statistics.median(one.cpu_us[part] for one in rounds), 1) for part in rounds[0].cpu_us},
        "rounds": [
            {"ratio": one.ratio, **asdict(one.figure), "cpu_us": one.cpu_us, "checks": one.checks} for one in rounds
        ],
    }


def in_the_middle(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figure with the median rate, of two the lower."""
    return sorted(figures, key=lambda figure: figure["a_second"])[(len(figures) - 1) // 2]


def marks(bursts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the marks of one worker, where it was measured."""
    alone = {one["urls"]: one for one in bursts if one["workers"] == 1}
    found = []
    if one := alone.get(ONE):
        wanted = f"one worker >= {MARK} of a bare aiohttp client"
        found.append(report.mark(wanted, one["ratio"], one["ratio"] >= MARK))
        for part, (what, most_us) in CPU_MARKS_US.items():
            us = one["cpu_us"][part]
            found.append(report.mark(f"{what} <= {most_us} µs", us, us <= most_us))
    if len(alone) == len(URLS):
        ratio = round(statistics.median(distinct_to_one(alone)), 3)
        wanted = f"a URL for each task >= {DISTINCT_MARK} of the rate with one for all"
        found.append(report.mark(wanted, ratio, ratio >= DISTINCT_MARK))
    return found


def distinct_to_one(by_urls: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """Return for each round the ratio of the rate with a URL for each task to the one with one for all."""
    pairs = zip(by_urls[DISTINCT]["rounds"], by_urls[ONE]["rounds"], strict=True)
    return [distinct["a_second"] / one["a_second"] for distinct, one in pairs]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(f"burst: {settings['tasks']:,} tasks, {settings['concurrency']} at once in each process\n")
    named = [
        *((label(one), one["rounds"], one) for one in found["bursts"]),
        ("a bare aiohttp client", found["aiohttp"], {}),
        *(
            (f"the service's own posts, without Redis, {LABELS[urls]}", its, {})
            for urls, its in found["deliverer"].items()
        ),
        ("the receiver's ceiling (raw client)", [found["receiver_ceiling"]], {}),
    ]
    rows = []
    for name, rounds, one in named:
        low, median, high = [f"{ratio:.2f}" for ratio in one.get("ratio_quartiles", ())] or ("", "", "")
        rates = [figure["a_second"] for figure in rounds]
        middle = in_the_middle(rounds)
        row = (name, f"{middle['a_second']:,.0f}", f"{min(rates):,.0f} {max(rates):,.0f}", median, f"{low} {high}")
        cpu_us = [f"{us:.1f}" for us in one.get("cpu_us", {}).values()] or ["", ""]
        rows.append((*row, *cpu_us, report.listing(middle["cpu_percent"])))
    costs = ("worker, µs", "Redis, µs", "CPU, % of a core")
    print(report.table(("", "a second", "least, most", "ratio", "quartiles", *costs), rows))
    print("\nworker, µs: its CPU for a delivery; Redis, µs: its CPU for a life, schedule and delivery")
    for one in found["bursts"]:
        for checks in (each["checks"] for each in one["rounds"]):
            print(f"checks    {label(one)}: {report.listing(checks)}")


LABELS = {ONE: "one URL", DISTINCT: "a URL each"}


def label(one: Mapping[str, Any]) -> str:
    """Return what a burst is called in the table."""
    return f"the service, {one['workers']} worker(s), {LABELS[one['urls']]}"


def main() -> None:
    parser = harness.parser(__doc__, "burst")
    parser.add_argument("--tasks", type=harness.positive, default=20_000, help="tasks that are due at one instant")
    parser.add_argument("--workers", type=harness.positive, nargs="+", default=[1, 2, 4], help="worker processes")
    parser.add_argument(
        "--urls", choices=URLS, nargs="+", default=list(URLS), help="one URL for all tasks, or one each"
    )
    parser.add_argument("--concurrency", type=harness.positive, default=200, help="posts at once, of each process")
    parser.add_argument("--rounds", type=harness.positive, default=5, help="times that all of it is measured")
    options = parser.parse_args()
    harness.run(
        options,
        compare,
        show,
        limit_s=options.rounds * len(options.workers) * len(options.urls) * (2 * WAIT_S + options.tasks / 100),
    )


if __name__ == "__main__":
    main()
