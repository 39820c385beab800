"""Options: what do RESULT_TTL, options of a task and its callbacks cost the worker and Redis?

Bursts of each kind of task in turn, with one worker and one webhook, first the plain kind: a task of webhook, ttl and
data alone. What counts is the CPU of a round, less that of another kind in the same round; the median of the rounds.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.instant import WAIT_S, burst
from redis_scheduler.settings import API, WORKER

DAY_S = 86_400

POLICY: Mapping[str, Any] = {
    "method": "PUT",
    "headers": {f"x-shop-{name}": f"{name} of the north" for name in ("branch", "order", "trace", "user", "version")},
    "retries": 7,
    "retry_time": 2,
    "retry_backoff": "exponential",
    "retry_max": 600,
    "retry_jitter": 0.2,
}
"""A method, five headers and a retry policy."""

_FOLLOW_UP = {"webhook": "http://127.0.0.1:9000/paid", "ttl": DAY_S, "data": {"order": 17}}
CALLBACKS: Mapping[str, Any] = {**POLICY, "on_success": _FOLLOW_UP, "on_failure": _FOLLOW_UP}
"""The same, and two callbacks, of which one is scheduled, for tomorrow."""


@dataclass(frozen=True)
class Kind:
    """What each task has, with which settings, and how many tasks its end starts."""

    options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    started: int = 0


PLAIN, KEPT, WITH_POLICY, WITH_CALLBACKS = "plain", "RESULT_TTL", "options", "callbacks"
KINDS = {
    PLAIN: Kind(variables={"RESULT_TTL": "0"}),
    KEPT: Kind(),
    WITH_POLICY: Kind(POLICY),
    WITH_CALLBACKS: Kind(CALLBACKS, started=1),
}

MARKS = (
    ("RESULT_TTL: Redis CPU a life", "redis", KEPT, PLAIN, 4),
    ("method, five headers, retry policy and callbacks: worker CPU a delivery", "worker", WITH_CALLBACKS, KEPT, 15),
)
"""Of which part, and by how many microseconds one kind may be above another at most."""


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure each kind in each round, in turn from the first to the last and from the last to the first."""
    bodies = [json.dumps({"order": number, "status": "shipped"}).encode() for number in range(options.tasks)]
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS}
    async with harness.redis_at(options.redis_url, folder) as redis, harness.receiving() as receiver:
        webhooks = [receiver.url] * options.tasks
        for number in range(options.rounds):
            for name, kind in list(KINDS.items())[:: -1 if number % 2 else 1]:
                variables = {"CONCURRENCY": str(options.concurrency), **kind.variables}
                async with harness.service(redis.url, folder, [API, WORKER], **variables) as service:
                    left = kind.started * options.tasks
                    figure, cpu_us, checks = await burst(service, redis, receiver, webhooks, bodies, kind.options, left)
                    status, answer = await service.client.call("POST", "/purge")
                    assert (status, answer["data"]) == (200, left), answer
                rounds[name].append({"a_second": figure.a_second, "cpu_us": cpu_us, "checks": report.whole(checks)})
    return {"kinds": rounds, "marks": marks(rounds), "versions": report.versions(redis.server)}


def marks(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the marks: of the median of what a kind took in a round above another."""
    found = []
    for what, part, kind, other, most_us in MARKS:
        us = round(statistics.median(above(kinds[kind], kinds[other], part)), 1)
        found.append(report.mark(f"{what} <= {most_us} µs more", us, us <= most_us))
    return found


def above(rounds: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], part: str) -> list[float]:
    """Return for each round by how many microseconds of a part one kind is above another."""
    return [one["cpu_us"][part] - other["cpu_us"][part] for one, other in zip(rounds, others, strict=True)]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings, kinds = found["settings"], found["kinds"]
    print(f"options: {settings['tasks']:,} tasks, {settings['concurrency']} at once, {settings['rounds']} rounds\n")
    header = ["tasks", "a second"]
    for part in ("worker", "Redis"):
        header += [f"{part}, µs", "above plain", "quartiles"]
    rows = []
    for name, rounds in kinds.items():
        row = [name, f"{statistics.median(one['a_second'] for one in rounds):,.0f}"]
        for part in ("worker", "redis"):
            low, median, high = report.quartiles(above(rounds, kinds[PLAIN], part), 1)
            us = statistics.median(one["cpu_us"][part] for one in rounds)
            row += [f"{us:.1f}", f"{median:+.1f}", f"{low:+.1f} {high:+.1f}"]
        rows.append(row)
    print(report.table(header, rows))
    print("\nworker, µs: its CPU for a delivery; Redis, µs: its CPU for a life, schedule and delivery")


def main() -> None:
    parser = harness.parser(__doc__, "options")
    parser.add_argument("--tasks", type=harness.positive, default=20_000, help="tasks that are due at one instant")
    parser.add_argument("--concurrency", type=harness.positive, default=200, help="posts at once")
    parser.add_argument("--rounds", type=harness.positive, default=5, help="times that each kind is measured")
    options = parser.parse_args()
    limit_s = options.rounds * len(KINDS) * (2 * WAIT_S + options.tasks / 100)
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
