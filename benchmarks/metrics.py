"""Metrics: what does counting, for them and for the history, add to a delivery and to a request, what to a second
without either, and how long does GET /metrics take?

Each is timed in this process. A delivery is counted once, for the history: what metrics add is to take a second of them
into the meter, and its part of the calls of scripts.
"""

import sys
import time
import timeit
from argparse import Namespace
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import Message

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.api.app import create_metrics_app
from redis_scheduler.api.limits import DEFAULT as LIMITS
from redis_scheduler.api.metrics import MetricsApi
from redis_scheduler.api.routes import ROUTES
from redis_scheduler.engine.history import Historian
from redis_scheduler.metrics.deliveries import Deliveries
from redis_scheduler.metrics.family import REQUESTS
from redis_scheduler.metrics.meter import Meter, observe
from redis_scheduler.metrics.snapshots import Snapshots, shared_memory
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.glance import Glance
from redis_scheduler.store.history import History
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import Record
from redis_scheduler.task.tally import EXACT_MS, Tally
from tests.support.names import KEYS
from tests.support.store import SCRIPTS

DELIVERY_US = 40.0
"""CPU of a worker for a delivery, at the least: PERFORMANCE.md."""

DELIVERY_MARK_US = DELIVERY_US / 100
REQUEST_MARK_US, IDLE_MARK_PERCENT, ANSWER_MARK_MS = 1.0, 0.1, 20.0
HOSTS, COUNTED = 50, 1_000
"""Receivers, and deliveries in a round."""

CALLS_A_DELIVERY = 0.1
"""Calls of scripts while tasks are delivered without pause: at least ten outcomes share one."""

REDIS_TIMEOUT_S = 5.0
TOKEN = "the-token-of-the-service"


def least(call: Callable[[], object], rounds: int, number: int) -> float:
    """Return the µs of a call in the best of its rounds."""
    return min(timeit.repeat(call, number=number, repeat=rounds)) / number * 1e6


def busy_meter() -> Meter:
    """A meter that has met every script, and every route with three answers."""
    meter = Meter()
    for name in SCRIPTS:
        meter.called(name, 1_000_000)
    for route in ROUTES:
        for code in ("200", "400", "404"):
            observe(meter.numbers(REQUESTS, route.path, route.method, code), 1_000_000)
    return meter


@dataclass
class Clock:
    """One that is as this machine's."""

    ahead_ms: float = 0.0


def counted_us(client: RedisClient, rounds: int) -> float:
    """Return what it takes to count a delivery for the history."""
    historian = Historian(History(client, "benchmark"), {0: Clock()}, Outage())
    began_s = time.monotonic()
    deliveries = [
        (
            Claim("1-1", "key", Record(int(began_s * 1000) - 1, "", 0, origin=f"http://host{at % HOSTS}.example"), 0),
            Outcome(None, 200, at % 5, began_s=began_s),
        )
        for at in range(COUNTED)
    ]

    def count() -> None:
        delivered = historian.delivered
        for claim, outcome in deliveries:
            delivered(claim, outcome)

    return least(count, rounds, 10) / COUNTED


def counting(options: Namespace, client: RedisClient) -> dict[str, float]:
    """Return what is added, in µs."""
    history_us = counted_us(client, options.rounds)
    meter = busy_meter()
    deliveries, tally = Deliveries(meter, EXACT_MS), Tally()
    for number in range(options.deliveries):
        tally.delivered[number % 100] += 1
        tally.late[number % 50] += 1

    def collect() -> None:
        Tally()  # the next
        assert tally.numbers()  # for the history
        deliveries.add(tally.delivered, tally.late, tally.others, tally.took_ms, tally.late_ms)

    second_us = least(collect, options.rounds, 20)
    call_us = least(lambda: meter.called("settle", time.monotonic_ns() - time.monotonic_ns()), options.rounds, 1_000)
    histogram = meter.numbers(REQUESTS, "/schedule", "POST", "200")
    seen = {("POST", 200): histogram}
    request_us = least(
        lambda: observe(seen["POST", 200], time.monotonic_ns() - time.monotonic_ns()), options.rounds, 1_000
    )
    place = Snapshots(shared_memory(2), 0)
    publish_us = least(lambda: place.write(meter.read()), options.rounds, 20)
    return {
        "second_of_deliveries_us": round(second_us, 1),
        "script_call_us": round(call_us, 3),
        "history_us": round(history_us, 3),
        "delivery_us": round(history_us + second_us / options.deliveries + CALLS_A_DELIVERY * call_us, 3),
        "request_us": round(request_us, 3),
        "snapshot_us": round(publish_us, 1),
        "idle_percent": round((second_us + publish_us) / 1e6 * 100, 3),
    }


async def answers(redis_url: str, rounds: int) -> dict[str, float]:
    """Return the ms of GET /metrics, of its own, when it asks Redis and when it does not; and its size."""
    client = RedisClient(redis_url, REDIS_TIMEOUT_S, KEYS)
    siblings = Snapshots(descriptor := shared_memory(4), 0)
    for place in range(1, 4):
        Snapshots(descriptor, place).write(busy_meter().read())
    app = create_metrics_app(client, TOKEN, Deployment(), LIMITS, MetricsApi(Glance([client]), busy_meter(), siblings))
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "headers": [(b"authorization", TOKEN.encode())],
    }
    size = 0

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        nonlocal size
        size += len(message.get("body", b""))
        assert message.get("status", 200) == 200

    took: dict[bool, list[float]] = {True: [], False: []}
    try:
        for number in range(min(rounds, 50)):
            is_new = number % 5 == 0
            if is_new:  # a second on, Redis is asked again
                app = create_metrics_app(
                    client, TOKEN, Deployment(), LIMITS, MetricsApi(Glance([client]), busy_meter(), siblings)
                )
            size, began = 0, time.perf_counter()
            await app(dict(scope), receive, send)
            took[is_new].append((time.perf_counter() - began) * 1000)
    finally:
        await client.aclose()
    return {
        "asking_redis_ms": round(min(took[True]), 2),
        "within_the_second_ms": round(min(took[False] or took[True]), 2),
        "bytes": size,
    }


async def measure(options: Namespace, folder: Path) -> dict[str, Any]:
    """Measure both."""
    async with harness.redis_at(options.redis_url, folder) as redis:
        async with aclosing(RedisClient(redis.url, REDIS_TIMEOUT_S, KEYS)) as client:
            added = counting(options, client)
        answering = await answers(redis.url, options.rounds)
    figures = {
        f"counting, with the history, adds <= {DELIVERY_MARK_US:g} us to a delivery, 1 % of its CPU": (
            added["delivery_us"],
            DELIVERY_MARK_US,
        ),
        f"it adds <= {REQUEST_MARK_US:g} us to a request": (added["request_us"], REQUEST_MARK_US),
        f"a child of a supervisor tells its siblings for <= {IDLE_MARK_PERCENT:g} % of a core": (
            added["idle_percent"],
            IDLE_MARK_PERCENT,
        ),
        f"GET /metrics of four processes takes <= {ANSWER_MARK_MS:g} ms": (
            answering["asking_redis_ms"],
            ANSWER_MARK_MS,
        ),
    }
    return {
        "added": added,
        "answer": answering,
        "marks": [report.mark(wanted, found, found <= most) for wanted, (found, most) in figures.items()],
        "versions": report.versions(redis.server),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    rows = [(name.replace("_", " "), f"{value:g}") for name, value in (found["added"] | found["answer"]).items()]
    print(report.table(("what it takes", ""), rows))


def main() -> None:
    parser = harness.parser(__doc__, "metrics")
    parser.add_argument("--rounds", type=harness.positive, default=200, help="rounds; the best of each counts")
    parser.add_argument("--deliveries", type=harness.positive, default=5_000, help="deliveries in the second")
    options = parser.parse_args()
    harness.run(options, measure, show, 120)


if __name__ == "__main__":
    main()
