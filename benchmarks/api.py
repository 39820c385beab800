"""API: how many schedules a second does one API process take, and how long does each wait?

The same requests go to an empty Starlette endpoint and to the service behind the same HTTP server, from the same load
generator, in several rounds; the median of their ratios is the answer. The tasks of a round are then read, changed and
deleted in the same way.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, load, report
from redis_scheduler.settings import API
from tests.support.service import TOKEN

MARK = 0.70
"""Of the empty endpoint's rate: DESIGN.md, section 8."""

TTL_S = 3_600
HEADERS = {"Authorization": TOKEN, "Content-Type": "application/json"}

Cpu = Callable[[], Awaitable[dict[str, float]]]


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
    cpu_percent: dict[str, int]


async def measure(
    url: str, requests: Sequence[bytes], concurrency: int, cpu_s: Cpu
) -> tuple[Figure, list[dict[str, Any]]]:
    """Send all requests, each of which must succeed; return the figure, and the answers."""
    before_s = await cpu_s()
    started = time.perf_counter()
    answers = await load.exchange(url, requests, concurrency)
    seconds = time.perf_counter() - started
    used_s = {part: after_s - before_s[part] for part, after_s in (await cpu_s()).items()}
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: len(requests)}, statuses
    waited_ms = [1000 * answer.seconds for answer in answers]
    found = Figure(
        len(answers),
        round(seconds, 4),
        round(len(answers) / seconds, 1),
        round(report.percentile(waited_ms, 50), 2),
        round(report.percentile(waited_ms, 99), 2),
        round(1_000_000 * used_s["server"] / len(answers), 1),
        {part: round(100 * part_s / seconds) for part, part_s in used_s.items()},
    )
    return found, [json.loads(answer.body) for answer in answers if answer.body]


def cpu_of(pids: Sequence[int], redis: harness.Redis | None = None) -> Cpu:
    """Return what tells the CPU of a server and its Redis, and of the load generator: this process."""

    async def cpu_s() -> dict[str, float]:
        found = {"server": harness.cpu_s(pids)}
        if redis is not None:
            found["redis"] = await redis.cpu_s()
        return found | {"generator": time.process_time()}

    return cpu_s


def bodies(count: int) -> list[bytes]:
    """Return the bodies of schedules, about 100 bytes each."""
    webhook = "http://127.0.0.1:9000/orders"
    return [
        json.dumps({"webhook": webhook, "ttl": TTL_S, "data": {"order": number, "status": "shipped"}}).encode()
        for number in range(count)
    ]


def change(number: int) -> bytes:
    """Return the body of a PATCH: half of them move the task, half replace its data."""
    return json.dumps({"ttl": 2 * TTL_S} if number % 2 else {"data": {"order": number, "status": "lost"}}).encode()


async def use(
    service: harness.Service, redis: harness.Redis, sent: Sequence[bytes], concurrency: int
) -> tuple[dict[str, Figure], dict[str, int]]:
    """Schedule tasks, read, change and delete them; return the figures, and what tells whether they are to be trusted."""
    url = f"{service.client.url}/schedule"
    cpu_s = cpu_of(service.pids(API), redis)
    posts = [load.request("POST", url, body, HEADERS) for body in sent]
    figure, answers = await measure(url, posts, concurrency, cpu_s)
    keys = list({answer["key"] for answer in answers})
    found = {"schedule": figure}
    checks = {"keys": len(keys), "left_after_schedule": (await service.client.stats())["running_schedules"]}
    changes = map(change, itertools.count())
    for method, said in (("GET", "scheduled"), ("PATCH", "updated"), ("DELETE", "cancelled")):
        requests = [
            load.request(method, f"{url}/{key}", next(changes) if method == "PATCH" else b"", HEADERS) for key in keys
        ]
        found[method.lower()], answers = await measure(url, requests, concurrency, cpu_s)
        checks[said] = sum(said in (answer.get("found"), answer["data"], state_of(answer)) for answer in answers)
        checks[f"left_after_{method.lower()}"] = (await service.client.stats())["running_schedules"]
    return found, checks


def state_of(answer: dict[str, Any]) -> str | None:
    """Return the state that a GET answered."""
    return answer["data"]["info"]["state"] if isinstance(answer["data"], dict) else None


async def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the service and its references; return the whole report."""
    machine = report.machine()
    sent = bodies(options.requests)

    async def refer(url: str, pid: int) -> Figure:
        posts = [load.request("POST", url, body, HEADERS) for body in sent]
        return (await measure(url, posts, options.concurrency, cpu_of([pid])))[0]

    rounds: list[dict[str, Figure]] = []
    async with harness.redis_at(options.redis_url, folder) as redis, harness.listening("empty.py") as empty:
        async with harness.receiving() as receiver, harness.service(redis.url, folder, [API]) as service:
            for _ in range(options.rounds):
                reference = await refer(*empty)
                used, checks = await use(service, redis, sent, options.concurrency)
                assert checks == expected_checks(options.requests), checks
                rounds.append({"empty": reference, **used})
            ceiling = await refer(receiver.url, receiver.pid)
        versions = report.versions(redis.server)
    ratios = {name: [one[name].a_second / one["empty"].a_second for one in rounds] for name in VERBS}
    ratio = round(statistics.median(ratios["schedule"]), 3)
    return {
        "settings": {name: getattr(options, name) for name in ("requests", "concurrency", "rounds")},
        "ratios": {name: [round(one, 3) for one in found] for name, found in ratios.items()},
        "marks": [report.mark(f"schedules >= {MARK} of the empty endpoint's rate, median", ratio, ratio >= MARK)],
        # Of each, the round in the middle.
        **{name: asdict(in_the_middle([one[name] for one in rounds])) for name in ("empty", *VERBS)},
        "generator_ceiling": asdict(ceiling),
        "checks": checks,
        "machine": machine,
        "versions": versions,
    }


def in_the_middle(figures: Sequence[Figure]) -> Figure:
    """Return the figure with the median rate, of two the lower."""
    return sorted(figures, key=lambda figure: figure.a_second)[(len(figures) - 1) // 2]


def expected_checks(count: int) -> dict[str, int]:
    """Return the checks of a round in which nothing went wrong."""
    names = ("keys", "left_after_schedule", "scheduled", "left_after_get", "updated", "left_after_patch", "cancelled")
    return dict.fromkeys(names, count) | {"left_after_delete": 0}


VERBS = {"schedule": "POST /schedule", "get": "GET", "patch": "PATCH", "delete": "DELETE"}
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
        ratio = f"{statistics.median(found['ratios'][name]):.2f}" if name in VERBS else ""
        waited = (f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}")
        cpu = ", ".join(f"{part} {percent}" for part, percent in one["cpu_percent"].items())
        rows.append((label, f"{one['a_second']:,.0f}", ratio, *waited, f"{one['server_us']:.0f}", cpu))
    print(report.table(("", "a second", "ratio", "p50, ms", "p99, ms", "server, µs", "CPU, % of a core"), rows))
    rounds = ", ".join(f"{ratio:.2f}" for ratio in found["ratios"]["schedule"])
    print(f"\nrounds    {rounds} of the empty endpoint: schedules")
    print(f"checks    {', '.join(f'{name} {value:,}' for name, value in found['checks'].items())}")


def main() -> None:
    parser = harness.parser(__doc__, "api")
    parser.add_argument("--requests", type=harness.positive, default=10_000, help="requests of each kind")
    parser.add_argument("--concurrency", type=harness.positive, default=64, help="requests under way at once")
    parser.add_argument("--rounds", type=harness.positive, default=11, help="times that all of it is measured")
    options = parser.parse_args()

    async def benchmark(folder: Path) -> None:
        found = await compare(options, folder)
        show(found)
        report.publish("api", found, options.note, options.output)

    harness.run(benchmark, limit_s=60 + options.rounds * options.requests / 50)


if __name__ == "__main__":
    main()
