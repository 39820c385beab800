"""API: how many schedules a second does one API process take, and how long does each wait?

The same requests go to an empty Starlette endpoint and to the service behind the same HTTP server, from the same load
generator, in several rounds, either first in turn; the median of their ratios is the answer. The tasks of a round are
then read, changed and deleted in the same way; and others are scheduled, each with a webhook of its own.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, load, report
from benchmarks.meter import Meter, Part
from benchmarks.webhooks import HOSTS, Webhooks
from redis_scheduler.settings import API
from tests.support.service import TOKEN

MARK = 0.70
"""Of the empty endpoint's rate."""

CPU_MARK_US = 50
"""The server's CPU for a schedule, on the machine of PERFORMANCE.md."""

TTL_S = 3_600
HEADERS = {"Authorization": TOKEN, "Content-Type": "application/json"}

WARM_UP = 10
"""One of so many requests of a kind is sent before each measurement, without being counted."""


@dataclass
class Figure:
    """How fast requests were answered, from the first to the last.

    `server_us` is the server's CPU for one request; the CPU of each part is in percent of one core.
    """

    requests: int
    seconds: float
    a_second: float
    p50_ms: float
    p99_ms: float
    server_us: float
    cpu_percent: dict[str, float]


async def measure(
    url: str, requests: Sequence[bytes], concurrency: int, **parts: Part
) -> tuple[Figure, list[dict[str, Any]]]:
    """Send all requests, each of which must succeed, to the `server` of the parts; return the figure, and the
    answers."""
    meter = await Meter.start(**parts, generator=[os.getpid()])
    started = time.perf_counter()
    answers = await load.exchange(url, requests, concurrency)
    seconds = time.perf_counter() - started
    used = await meter.used()
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: len(requests)}, statuses
    waited_ms = report.spread([1000 * answer.seconds for answer in answers])
    found = Figure(
        len(answers),
        round(seconds, 4),
        round(len(answers) / seconds, 1),
        waited_ms["p50"],
        waited_ms["p99"],
        used.us_each("server", len(answers)),
        used.percent(),
    )
    return found, [json.loads(answer.body) for answer in answers if answer.body]


ONE_WEBHOOK = Webhooks(["http://127.0.0.1:9000/orders"])
OWN_WEBHOOKS = Webhooks([f"http://127.0.0.1:{9000 + host}/" for host in range(HOSTS)])


def bodies(count: int, webhooks: Webhooks = ONE_WEBHOOK) -> list[bytes]:
    """Return the bodies of schedules, about 100 bytes each, and as much more as their webhooks are longer."""
    return [
        json.dumps({"webhook": webhook, "ttl": TTL_S, "data": {"order": number, "status": "shipped"}}).encode()
        for number, webhook in enumerate(webhooks.first(count))
    ]


def change(number: int) -> bytes:
    """Return the body of a PATCH: half of them move the task, half replace its data."""
    return json.dumps({"ttl": 2 * TTL_S} if number % 2 else {"data": {"order": number, "status": "lost"}}).encode()


async def use(
    service: harness.Service, redis: harness.Redis, options: argparse.Namespace
) -> tuple[dict[str, Figure], dict[str, int]]:
    """Schedule tasks, read, change and delete them; return the figures, and what tells whether they are to be
    trusted."""
    url, concurrency = f"{service.client.url}/schedule", options.concurrency
    parts: dict[str, Part] = {"server": service.pids(API), "redis": redis}

    async def schedule(webhooks: Webhooks) -> tuple[Figure, list[str]]:
        posts = [load.request("POST", url, body, HEADERS) for body in bodies(options.requests, webhooks)]
        await load.exchange(url, posts[::WARM_UP], concurrency)
        status, answer = await service.client.call("POST", "/purge")
        assert status == 200, answer
        figure, answers = await measure(url, posts, concurrency, **parts)
        return figure, list({answer["key"] for answer in answers})

    figure, keys = await schedule(ONE_WEBHOOK)
    found = {"schedule": figure}
    checks = {"keys": len(keys), "left_after_schedule": (await service.client.stats())["running_schedules"]}
    changes = map(change, itertools.count())
    for method, said in (("GET", "scheduled"), ("PATCH", "updated"), ("DELETE", "cancelled")):
        requests = [
            load.request(method, f"{url}/{key}", next(changes) if method == "PATCH" else b"", HEADERS) for key in keys
        ]
        found[method.lower()], answers = await measure(url, requests, concurrency, **parts)
        checks[said] = sum(said in (answer.get("found"), answer["data"], state_of(answer)) for answer in answers)
        checks[f"left_after_{method.lower()}"] = (await service.client.stats())["running_schedules"]
    found["schedule_own"], own_keys = await schedule(OWN_WEBHOOKS)
    return found, checks | {"own_keys": len(own_keys)}


def state_of(answer: dict[str, Any]) -> str | None:
    """Return the state that a GET answered."""
    return answer["data"]["info"]["state"] if isinstance(answer["data"], dict) else None


async def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the service and its references; return what was found."""
    sent = bodies(options.requests)

    async def refer(url: str, pid: int) -> Figure:
        posts = [load.request("POST", url, body, HEADERS) for body in sent]
        await load.exchange(url, posts[::WARM_UP], options.concurrency)
        return (await measure(url, posts, options.concurrency, server=[pid]))[0]

    async def both(number: int) -> dict[str, Figure]:
        reference = None if number % 2 else await refer(empty[0], empty_pid)
        used, checks = await use(service, redis, options)
        assert checks == expected_checks(options.requests), checks
        return {"empty": reference or await refer(empty[0], empty_pid), **used}

    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.listening("empty") as (empty, empty_pid),
        harness.receiving() as receiver,
        harness.service(redis.url, folder, [API]) as service,
    ):
        rounds = [await both(number) for number in range(options.rounds)]
        ceiling = await refer(receiver.url, receiver.pid)
    ratios = {name: [one[name].a_second / one["empty"].a_second for one in rounds] for name in VERBS}
    quartiles = {name: report.quartiles(found) for name, found in ratios.items()}
    server_us = {name: round(statistics.median(one[name].server_us for one in rounds), 1) for name in VERBS}
    return {
        "ratios": {name: [round(one, 3) for one in found] for name, found in ratios.items()},
        "ratio_quartiles": quartiles,
        "server_us": server_us,
        "marks": marks(quartiles["schedule"][1], server_us["schedule"]),
        # Of each, the round in the middle.
        **{name: asdict(in_the_middle([one[name] for one in rounds])) for name in ("empty", *VERBS)},
        "generator_ceiling": asdict(ceiling),
        "checks": expected_checks(options.requests),
        "versions": report.versions(redis.server),
    }


def marks(ratio: float, schedule_us: float) -> list[dict[str, Any]]:
    """Return the marks of the medians."""
    return [
        report.mark(f"schedules >= {MARK} of the empty endpoint's rate, median", ratio, ratio >= MARK),
        report.mark(f"API CPU a schedule <= {CPU_MARK_US} µs, median", schedule_us, schedule_us <= CPU_MARK_US),
    ]


def in_the_middle(figures: Sequence[Figure]) -> Figure:
    """Return the figure with the median rate, of two the lower."""
    return sorted(figures, key=lambda figure: figure.a_second)[(len(figures) - 1) // 2]


def expected_checks(count: int) -> dict[str, int]:
    """Return the checks of a round in which nothing went wrong."""
    names = (
        "own_keys",
        "keys",
        "left_after_schedule",
        "scheduled",
        "left_after_get",
        "updated",
        "left_after_patch",
        "cancelled",
    )
    return dict.fromkeys(names, count) | {"left_after_delete": 0}


VERBS = {
    "schedule": "POST /schedule",
    "schedule_own": "POST /schedule, a URL each",
    "get": "GET",
    "patch": "PATCH",
    "delete": "DELETE",
}
LABELS = {
    **VERBS,
    "empty": "an empty endpoint",
    "generator_ceiling": "the generator's ceiling (receiver)",
}


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    print(
        f"api: {settings['requests']:,} requests each, {settings['concurrency']} at once, {settings['rounds']} rounds\n"
    )
    rows = []
    for name, label in LABELS.items():
        one = found[name]
        low, median, high = [f"{ratio:.2f}" for ratio in found["ratio_quartiles"].get(name, ())] or ("", "", "")
        waited = (f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}")
        cpu = report.listing(one["cpu_percent"])
        ratios = (median, f"{low} {high}")
        server_us = found["server_us"].get(name, one["server_us"])
        rows.append((label, f"{one['a_second']:,.0f}", *ratios, *waited, f"{server_us:.0f}", cpu))
    header = ("", "a second", "ratio", "quartiles", "p50, ms", "p99, ms", "server, µs", "CPU, % of a core")
    print(report.table(header, rows))
    rounds = ", ".join(f"{ratio:.2f}" for ratio in found["ratios"]["schedule"])
    print(f"\nrounds    {rounds} of the empty endpoint: schedules")
    print(f"checks    {report.listing(found['checks'], ',')}")


def main() -> None:
    parser = harness.parser(__doc__, "api")
    parser.add_argument("--requests", type=harness.positive, default=10_000, help="requests of each kind")
    parser.add_argument("--concurrency", type=harness.positive, default=64, help="requests under way at once")
    parser.add_argument("--rounds", type=harness.positive, default=11, help="times that all of it is measured")
    options = parser.parse_args()
    harness.run(options, compare, show, limit_s=60 + options.rounds * options.requests / 50)


if __name__ == "__main__":
    main()
