"""Series: how late are occurrences when ten thousand series fire once a minute?

Once they come due evenly through the minute, and once all at the same instant: by `every`, and, at the full minute, by
cron expressions, few and many. Lateness is the time of the arrival at the receiver less the series' due
time, which the API answered.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from benchmarks.lateness import figures
from benchmarks.meter import Meter
from redis_scheduler.settings import API, WORKER

MINUTE_S = 60
EVERY_S = 2 * MINUTE_S
"""So that none comes due a second time before it is deleted."""

BATCH = 1_000
"""Series of one POST /schedules."""

LEAD_S = 2.0
ENTERED_A_SECOND = 800
"""Series that a slow machine takes: the first is due so much after the first request."""

WAIT_S = 30.0
"""For the last to arrive after its due time."""

SPREAD, INSTANT = "spread", "instant"
EVERY, CRON, CRONS = "every", "cron", "crons"
EXPRESSIONS = {CRON: 60, CRONS: 3_600}
"""So many different ones there are. A worker keeps the next times of four thousand."""

KINDS = {
    f"{SPREAD}-{EVERY}": (SPREAD, EVERY),
    f"{INSTANT}-{EVERY}": (INSTANT, EVERY),
    f"{INSTANT}-{CRON}": (INSTANT, CRON),
    f"{INSTANT}-{CRONS}": (INSTANT, CRONS),
}

MARK_SPREAD_MS = 50
MARK_INSTANT_MS = 1_500
"""What p99 may be where they are spread, and the last where all come at once."""


def due_times(when: str, rule: str, count: int, start: float) -> list[float]:
    """Return when each series first comes due, as time.time(), none before the start: evenly through a minute, or all
    at once, at the next full minute if by cron."""
    if when == SPREAD:
        return [start + MINUTE_S * number / count for number in range(count)]
    return [start if rule == EVERY else start + -start % MINUTE_S] * count


def rule_of(rule: str, number: int, due: float) -> dict[str, Any]:
    """Return how a series repeats: by an interval, or at the minutes of an expression, one of many, which all have the
    due time's."""
    if rule == EVERY:
        return {"every": EVERY_S}
    minute, others = datetime.fromtimestamp(due, UTC).minute, divmod(number % EXPRESSIONS[rule], 60)
    return {"cron": f"{minute},{others[0]},{others[1]} * * * *"}


def bodies(webhook: str, rule: str, dues: Sequence[float]) -> Iterator[list[dict[str, Any]]]:
    """Yield the tasks of each batch."""
    for first in range(0, len(dues), BATCH):
        yield [
            {
                "webhook": webhook,
                "at": datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds"),
                "data": {"order": first + number, "status": "shipped"},
                "repeat": rule_of(rule, first + number, due),
            }
            for number, due in enumerate(dues[first : first + BATCH])
        ]


async def fire(
    service: harness.Service, redis: harness.Redis, receiver: harness.Receiver, when: str, rule: str, count: int
) -> dict[str, Any]:
    """Have each series fire once; return how late that was, what it cost, and what must be 0."""
    dues = due_times(when, rule, count, time.time() + LEAD_S + count / ENTERED_A_SECOND)
    due_of: dict[str, float] = {}
    for batch in bodies(receiver.url, rule, dues):
        status, answer = await service.client.call("POST", "/schedules", json={"tasks": batch})
        assert status == 200, answer
        due_of |= {one["key"]: datetime.fromisoformat(one["due"]).timestamp() for one in answer["tasks"]}
    if time.time() > min(dues):
        raise SystemExit(f"{count:,} series could not be entered before the first was due: the machine is too busy")
    await asyncio.sleep(min(dues) - LEAD_S / 2 - time.time())
    meter = await Meter.start(worker=service.pids(WORKER), redis=redis)
    await receiver.wait_for(count, max(dues) - time.time() + WAIT_S)
    used = await meter.used()
    # Before any comes due for the second time.
    status, answer = await service.client.call("DELETE", "/schedules")
    assert status == 200, answer
    await service.client.drained()
    found = figures(due_of, await receiver.take())
    report.whole(found)
    return {**found, "cpu_us": {part: used.us_each(part, count) for part in used.cpu_s}}


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure each kind that is asked for, in turn; return what was found."""
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.kinds}
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.receiving("Schedule-Series") as receiver,
        harness.service(redis.url, folder, [API, WORKER]) as service,
    ):
        for _ in range(options.rounds):
            for kind, found in rounds.items():
                found.append(await fire(service, redis, receiver, *KINDS[kind], options.series))
        stats = await service.client.stats()
        assert stats["ledger_balanced"], stats
    return {"kinds": rounds, "marks": marks(rounds), "versions": report.versions(redis.server)}


def marks(kinds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a mark for each kind but the one of many expressions: of several rounds the median counts."""
    found = []
    for kind, rounds in kinds.items():
        if KINDS[kind][1] == CRONS:
            continue
        name, most_ms = ("p99", MARK_SPREAD_MS) if KINDS[kind][0] == SPREAD else ("max", MARK_INSTANT_MS)
        late_ms = statistics.median(one["late_ms"][name] for one in rounds)
        found.append(report.mark(f"{kind}: {name} late <= {most_ms:,} ms", late_ms, late_ms <= most_ms))
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(
        f"series: {found['settings']['series']:,} fire in a minute, or at once; late in ms, CPU in µs for an occurrence\n"
    )
    header = ("due", "min", "p50", "p99", "max", "worker, µs", "Redis, µs", "missing", "duplicates")
    rows = [row(kind, one) for kind, rounds in found["kinds"].items() for one in rounds]
    print(report.table(header, rows))


def row(kind: str, one: dict[str, Any]) -> Sequence[str]:
    """Return a line of the table."""
    late = [f"{late_ms:,.2f}" for late_ms in one["late_ms"].values()]
    cpu = [f"{us:.0f}" for us in one["cpu_us"].values()]
    return (kind, *late, *cpu, str(one["missing"]), str(one["duplicates"]))


def main() -> None:
    parser = harness.parser(__doc__, "series")
    parser.add_argument("--series", type=harness.positive, default=10_000, help="which fire once a minute")
    parser.add_argument("--rounds", type=harness.positive, default=3, help="of each kind; the median counts")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=list(KINDS), help="when they are due, and by what")
    options = parser.parse_args()
    limit_s = options.rounds * len(options.kinds) * (LEAD_S + options.series / ENTERED_A_SECOND + 2 * MINUTE_S + WAIT_S)
    harness.run(options, measure, show, limit_s + 60)


if __name__ == "__main__":
    main()
