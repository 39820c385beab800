"""Scale: what does a waiting task cost, and does anything take longer when a million of them wait?

Two Redis, each with an API and a worker: one with few tasks, one with many, all due tomorrow. Requests and waves go to
the two in turn, so that both see the same machine. Then, alone, what tasks cost that wait for a retry: retries.py.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report, retries, wave
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.new_task import NewTask
from tests.support.names import KEYS
from tests.support.service import Client

DAY_S = 86_400

MARK_BYTES = 310
MARK_RECORD_BYTES = 90
"""A waiting task takes so many bytes at most, and what its record has over so many."""

MARK_RATIO = 1.5
"""What a request may take with many tasks, to what it takes with few."""

PAGE_LIMIT = 100
STEP_LIMIT = 10_000
"""Tasks of a page on the way to the middle: the most there are in one."""

LOOK_UPS = 1_000
"""Of one command."""


Request = tuple[str, str, dict[str, Any] | None]
"""Method, path, body."""


@dataclass
class Side:
    """One of the two that are compared; `sample` holds as many keys as there are requests of a kind."""

    name: str
    count: int
    redis: harness.Redis
    service: harness.Service
    webhook: str
    sample: list[str]
    middle: str

    def requests(self, number: int) -> dict[str, Request]:
        """Return the requests that are timed, in this order: as many are scheduled as cancelled, older ones."""
        one, page = f"/schedule/{self.sample[number]}", f"/schedules?limit={PAGE_LIMIT}"
        data = {"order": f"{number:08}", "status": "changed", "carrier": "south"}
        return {
            "first page": ("GET", page, None),
            "middle page": ("GET", f"{page}&cursor={self.middle}", None),
            "get": ("GET", one, None),
            "schedule": ("POST", "/schedule", {"webhook": self.webhook, "ttl": 1.5 * DAY_S, "data": data}),
            "update data": ("PATCH", one, {"data": data}),
            "update ttl": ("PATCH", one, {"ttl": 1.5 * DAY_S + number}),
            "cancel": ("DELETE", one, None),
        }


async def fill(redis: harness.Redis, counts: Sequence[int], webhook: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Enter tasks that are due tomorrow up to each count in turn; return their keys, and the memory at each count."""
    task_keys: list[str] = []
    # Due in another order than they are entered in.
    chance = random.Random(0)

    def task(number: int) -> NewTask:
        made = wave.new_task(number, webhook, round(DAY_S * (1 + chance.random()), 3))
        task_keys.append(made.key)
        return made

    empty_bytes = await redis.used_bytes()
    found = []
    for count in counts:
        await harness.seed(redis.url, count - len(task_keys), task)
        found.append(await memory(redis, task_keys, empty_bytes))
    return task_keys, found


async def memory(redis: harness.Redis, task_keys: Sequence[str], empty_bytes: int) -> dict[str, Any]:
    """Return what a task takes."""
    await redis.settled()
    await end_rehash(redis, len(task_keys))
    used_bytes = await redis.used_bytes() - empty_bytes
    sample = random.sample(task_keys, min(LOOK_UPS, len(task_keys)))
    pipeline = redis.raw.pipeline(transaction=False)
    for key in sample:
        pipeline.hstrlen(KEYS.tasks, key)
    record_bytes = fmean(await pipeline.execute())
    return {
        "tasks": len(task_keys),
        "used_bytes": used_bytes,
        "bytes_a_task": round(used_bytes / len(task_keys), 1),
        "record_bytes": round(record_bytes, 1),
    }


async def end_rehash(redis: harness.Redis, count: int) -> None:
    """Let the hash tables end their growth, during which there are two: each look-up moves it on by a bucket."""
    nobody = ["-"] * LOOK_UPS
    for _ in range(0, count, LOOK_UPS):
        await redis.raw.hmget(KEYS.tasks, nobody)
        await redis.raw.zmscore(KEYS.due, nobody)


async def middle_of(client: Client, count: int) -> str:
    """Walk to the middle of the list; return the cursor of the page that begins there."""
    cursor, left = "", count // 2
    while left > 0:
        limit = min(STEP_LIMIT, left)
        status, answer = await client.call("GET", f"/schedules?limit={limit}{cursor and f'&cursor={cursor}'}")
        assert status == 200, answer
        cursor, left = answer["next"], left - limit
    return cursor


async def request_ms(client: Client, request: Request) -> float:
    """Send a request; return the time to the last byte of its answer."""
    method, path, body = request
    started = time.perf_counter()
    async with client.session.request(method, client.url + path, headers=client.headers, json=body) as response:
        content = await response.read()
    elapsed_ms = 1000 * (time.perf_counter() - started)
    answer = json.loads(content)
    assert answer["status"] == 200, answer
    assert not isinstance(answer["data"], list) or len(answer["data"]) == PAGE_LIMIT, "a page that is not full"
    return elapsed_ms


async def time_kind(sides: Sequence[Side], kind: str, count: int, rate: int) -> dict[str, Any]:
    """Send requests of one kind to each side in turn, at a steady rate, one at a time."""
    taken_ms: dict[str, list[float]] = {side.name: [] for side in sides}
    before_us = {side.name: await scripts_us(side.redis) for side in sides}
    turns = itertools.count()
    started = time.monotonic()
    for number in range(count):
        for side in sides if number % 2 else reversed(sides):
            await asyncio.sleep(started + next(turns) / rate - time.monotonic())
            taken_ms[side.name].append(await request_ms(side.service.client, side.requests(number)[kind]))
    spreads = {name: report.spread(values, digits=3) for name, values in taken_ms.items()}
    return {
        **spreads,
        "ratio": round(spreads["many"]["p50"] / spreads["few"]["p50"], 3),
        "redis_us": {
            side.name: round((await scripts_us(side.redis) - before_us[side.name]) / count, 1) for side in sides
        },
    }


async def scripts_us(redis: harness.Redis) -> int:
    """Return the microseconds that scripts have taken so far, with the commands in them. Each of the requests is
    one."""
    stats = await redis.raw.info("commandstats")
    return int(stats["cmdstat_evalsha"]["usec"])


async def waves(sides: Sequence[Side], receiver: harness.Receiver, count: int, rounds: int) -> dict[str, Any]:
    """Send waves through each side in turn; return the rates, and what must be 0."""
    runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    failures = dict.fromkeys(("missing", "duplicates", "unknown"), 0)
    for number in range(rounds):
        for side in reversed(sides) if number % 2 else sides:
            found = await wave.deliver(side.service, side.redis, receiver, count)
            failures = {name: failures[name] + value for name, value in found.pop("checks").items()}
            runs[side.name].append(found)
    rates = {name: rounds * (count - 1) / sum(one["seconds"] for one in found) for name, found in runs.items()}
    return {
        **{name: {"a_second": round(rates[name]), "runs": found} for name, found in runs.items()},
        "checks": failures,
        "ratio": round(rates["many"] / rates["few"], 3),
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure few against many, then what waits for a retry; return what was found."""
    async with harness.receiving() as receiver:
        found = await compare(options, receiver, folder)
    found["retries"] = await retries.measure(options, folder)
    return found | {"marks": marks(found), "versions": report.versions(found["servers"]["many"])}


async def compare(options: argparse.Namespace, receiver: harness.Receiver, folder: Path) -> dict[str, Any]:
    """Measure few against many; return all figures."""
    sizes = {
        "few": (options.few_redis_url, [options.few]),
        "many": (options.redis_url, [options.tasks // 10, options.tasks]),
    }
    sides: list[Side] = []
    memories: dict[str, list[dict[str, Any]]] = {}
    async with AsyncExitStack() as stack:
        for name, (url, counts) in sizes.items():
            place = folder / name
            place.mkdir()
            redis = await stack.enter_async_context(harness.redis_at(url, place))
            task_keys, memories[name] = await fill(redis, counts, receiver.url)
            service = await stack.enter_async_context(harness.service(redis.url, place, [API, WORKER]))
            sample = random.sample(task_keys, options.requests)
            middle = await middle_of(service.client, counts[-1])
            sides.append(Side(name, counts[-1], redis, service, receiver.url, sample, middle))
        times_ms = {kind: await time_kind(sides, kind, options.requests, options.rate) for kind in sides[0].requests(0)}
        wave_found = await waves(sides, receiver, options.wave, options.rounds)
        for side in sides:
            stats = await side.service.client.stats()
            assert stats["running_schedules"] == side.count, stats
            assert stats["ledger_balanced"], stats
        servers = {side.name: side.redis.server for side in sides}
    return {
        "servers": servers,
        "memory": memories["many"],
        "times_ms": times_ms,
        "wave": wave_found,
    }


def marks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every mark, and whether it is met."""
    all_marks = []
    for one in found["memory"]:
        most = MARK_BYTES + max(0.0, one["record_bytes"] - MARK_RECORD_BYTES)
        wanted = f"bytes a task, of {one['tasks']:,} <= {most:.0f}"
        all_marks.append(report.mark(wanted, one["bytes_a_task"], one["bytes_a_task"] <= most))
    for kind, one in found["times_ms"].items():
        all_marks.append(
            report.mark(f"{kind} <= {MARK_RATIO} of its time beside few", one["ratio"], one["ratio"] <= MARK_RATIO)
        )
    return [*all_marks, retries.mark(found["retries"])]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    settings = found["settings"]
    few, many = f"{settings['few']:,}", f"{settings['tasks']:,}"
    print(f"scale: {many} tasks waiting, and {few}\n")
    rows = [
        (f"{one['tasks']:,}", f"{one['bytes_a_task']:.0f}", f"{one['record_bytes']:.0f}") for one in found["memory"]
    ]
    print(report.table(("memory of Redis, bytes", "a task", "its record"), rows))
    times = ("one request, ms", f"p50 at {few}", "p99", f"p50 at {many}", "p99", "ratio of p50", "Redis, µs", "at many")
    print(f"\n{report.table(times, [time_row(kind, one) for kind, one in found['times_ms'].items()])}")
    labels = {"few": f"beside {few}", "many": f"beside {many}"}
    runs = [wave_row(label, run) for name, label in labels.items() for run in found["wave"][name]["runs"]]
    header = (f"a wave of {settings['wave']:,}", *wave.HEADER, "first late, ms", "median")
    print(f"\n{report.table(header, runs)}")
    print(f"\nratio     {found['wave']['ratio']:.2f} of the rate beside {few}")
    print(f"checks    {report.listing(found['wave']['checks'])}\n")
    retries.show(found["retries"])


def time_row(kind: str, one: dict[str, Any]) -> Sequence[str]:
    times = [f"{one[name][percent]:.2f}" for name in ("few", "many") for percent in ("p50", "p99")]
    return (kind, *times, f"{one['ratio']:.2f}", *(f"{us:.0f}" for us in one["redis_us"].values()))


def wave_row(label: str, run: dict[str, Any]) -> Sequence[str]:
    return (*wave.row(label, run), *(f"{late_ms:,.1f}" for late_ms in run["late_ms"].values()))


def arguments() -> argparse.Namespace:
    parser = harness.parser(__doc__, "scale")
    parser.add_argument("--few-redis-url", help="as --redis-url, for the few tasks; of the same kind, to be compared")
    parser.add_argument("--few", type=harness.positive, default=1_000, help="tasks waiting in the one Redis")
    parser.add_argument("--tasks", type=harness.positive, default=1_000_000, help="tasks waiting in the other")
    parser.add_argument("--requests", type=harness.positive, default=400, help="of each kind, to each of the two")
    parser.add_argument("--rate", type=harness.positive, default=100, help="requests a second, both together")
    parser.add_argument("--wave", type=harness.positive, default=100_000, help="tasks that come due at one instant")
    parser.add_argument("--rounds", type=harness.positive, default=2, help="waves through each of the two")
    retries.add_arguments(parser)
    options = parser.parse_args()
    if not max(options.requests, 2 * PAGE_LIMIT) <= options.few <= options.tasks:
        parser.error(f"--few must be from --requests and {2 * PAGE_LIMIT} up to --tasks")
    return options


def main() -> None:
    options = arguments()
    requests_s = 20 * options.requests / options.rate
    waves_s = 2 * options.rounds * wave.limit_s(options.wave)
    limit_s = 120 + options.tasks / 2_000 + requests_s + waves_s + retries.limit_s(options)
    harness.run(options, measure, show, limit_s)


if __name__ == "__main__":
    main()
