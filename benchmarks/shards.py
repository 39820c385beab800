"""Shards: what does a task cost on one shard and on several, all on one Redis, how evenly do they share, what does it
cost to serve many that are idle, and how much more do several Redis servers do together?

One API and one worker; tasks are due at once, posted over kept connections as fast as they are taken. Connections and
slots grow with the shards, so that each has its part of the load. On one Redis it tells CPU, no rate. Then each shard
has a Redis of its own that is held to a small part of a core, so that they, and not the machine, are at their end: of
that it tells the rate.
"""

import asyncio
import json
import os
import sys
import time
from argparse import Namespace
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, load, report
from benchmarks.idle import commands
from benchmarks.meter import Meter
from benchmarks.quota import NoQuota, held
from redis_scheduler.settings import API, WORKER
from redis_scheduler.task.key import SHARDS_MOST, shards_of
from tests.support.service import TOKEN, Client, client_of
from tests.support.waiting import wait_until

CONNECTIONS, SLOTS = 32, 50
"""For each shard."""

WARM_TASKS = 2_000
WAIT_S = 120.0
IDLE_S = 60.0
SETTLED_S = 3.0
"""From the last delivery until nothing of it is left to do."""

LIMIT_S = 600.0

PARTS = ("redis", "api", "worker")
FLAT_MARK, EVEN_MARK, SCALE_MARK = 1.1, 1.05, 0.85
IDLE_MARK = 3.0
"""Commands a second of each of the two processes: benchmarks/idle.py asks it of a worker alone, too."""

QUOTA_US, PERIOD_US = 1_000, 50_000
"""Of CPU, for each throttled Redis: 2 % of a core."""

THROTTLED_CONNECTIONS, THROTTLED_SLOTS = 256, 200
"""For each shard: its Redis must always have something to do, though each call waits for it."""


async def post(api: Client, webhook: str, tasks: int, connections: int = 1) -> list[str]:
    """Schedule so many tasks that are due at once; return their keys."""
    body = json.dumps({"webhook": webhook, "ttl": 0, "data": {"number": 1}}).encode()
    headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
    request = load.request("POST", f"{api.url}/schedule", body, headers)
    answers = await load.exchange(api.url, [request] * tasks, connections)
    assert {answer.status for answer in answers} == {200}
    return [json.loads(answer.body)["key"] for answer in answers]


async def spread(service: harness.Service, receiver: harness.Receiver, shards: int) -> None:
    """Wait until new tasks go to all shards."""

    async def is_spread() -> bool:
        [key] = await post(service.client, receiver.url, 1)
        return shards_of(key, (shards,))[0] == shards - 1

    await wait_until(is_spread, "the API knows how many there are", WAIT_S)


async def throttled(shards: int, options: Namespace, folder: Path) -> dict[str, Any]:
    """Measure whole lives a second with so many shards, each on a Redis of its own that has a small part of a core.
    Raises NoQuota."""
    async with AsyncExitStack() as stack:
        folders = [folder / str(number) for number in range(shards)]
        servers = [await stack.enter_async_context(harness.redis_at(None, one)) for one in folders]
        receiver = await stack.enter_async_context(harness.receiving())
        urls = ",".join(server.url for server in servers)
        slots = str(THROTTLED_SLOTS * shards)
        service = await stack.enter_async_context(
            harness.service(urls, folder, (*[API] * shards, WORKER), SHARDS=str(shards), CONCURRENCY=slots)
        )
        apis = [await stack.enter_async_context(client_of(one)) for role, one in service.processes if role == API]
        await spread(service, receiver, shards)
        await post(service.client, receiver.url, WARM_TASKS, CONNECTIONS * shards)
        await service.client.drained(WAIT_S)
        await receiver.take()
        tasks, cores = options.throttled_tasks * shards, sorted(os.sched_getaffinity(0))
        with ExitStack() as quotas:
            for number, server in enumerate(servers):
                pid = int((await server.raw.info("server"))["process_id"])
                # What is left of a quota at a core that it leaves is lost to it.
                psutil.Process(pid).cpu_affinity([cores[number % len(cores)]])
                quotas.enter_context(held(pid, QUOTA_US, PERIOD_US))
            meter = await Meter.start(redis=servers[0], api=service.pids(API), worker=service.pids(WORKER))
            began = time.time()
            posted = [post(api, receiver.url, options.throttled_tasks, THROTTLED_CONNECTIONS) for api in apis]
            keys = [key for of_api in await asyncio.gather(*posted) for key in of_api]
            await receiver.wait_for(tasks, WAIT_S)
            used = await meter.used()
        await service.client.drained(WAIT_S)
        arrivals = await receiver.take()
        took_s = max(arrival.at for arrival in arrivals) - began
        return {
            "shards": shards,
            "lives_a_second": round(tasks / took_s),
            "cpu_percent": used.percent(1),
            "checks": harness.checks(keys, arrivals),
        }


async def of_shards(shards: int, options: Namespace, folder: Path) -> dict[str, Any]:
    """Measure with so many shards."""
    async with (
        harness.redis_at(None, folder) as redis,
        harness.receiving() as receiver,
        harness.service(
            redis.url, folder, (API, WORKER), SHARDS=str(shards), CONCURRENCY=str(SLOTS * shards)
        ) as service,
    ):
        await spread(service, receiver, shards)
        await post(service.client, receiver.url, WARM_TASKS, CONNECTIONS * shards)
        await service.client.drained(WAIT_S)
        await receiver.take()
        await redis.raw.config_resetstat()
        meter = await Meter.start(redis=redis, api=service.pids(API), worker=service.pids(WORKER))
        tasks = options.tasks * shards
        keys = await post(service.client, receiver.url, tasks, CONNECTIONS * shards)
        await receiver.wait_for(tasks, WAIT_S)
        await service.client.drained(WAIT_S)
        used = await meter.used()
        errors = await redis.raw.info("errorstats")
        counts = Counter(shards_of(key, (shards,))[0] for key in keys)
        await asyncio.sleep(SETTLED_S)
        idle = (await commands(redis.url, options.idle)).total()
        return {
            "server": redis.server,
            "shards": shards,
            "cpu_us": {part: used.us_each(part, tasks) for part in PARTS},
            "evenness": round(max(counts.values()) * shards / tasks, 3),
            "idle_commands_a_second": round(idle / options.idle / 2, 2),
            "refused": sorted(name for name in errors if "MOVED" in name or "CROSSSLOT" in name),
            "checks": harness.checks(keys, await receiver.take()),
        }


async def measure(options: Namespace, folder: Path) -> dict[str, Any]:
    """Measure each number of shards, on a Redis of its own."""
    found = [await of_shards(shards, options, folder / f"{shards}") for shards in options.shards]
    marks = []
    for part in PARTS:
        costs = [one["cpu_us"][part] for one in found]
        share = max(costs) / costs[0]
        wanted = f"CPU of {part} a task: the dearest <= {FLAT_MARK:g} x that of one shard"
        marks.append(report.mark(wanted, round(share, 3), share <= FLAT_MARK))
    uneven = max(one["evenness"] for one in found)
    marks.append(report.mark(f"the fullest shard <= {EVEN_MARK:g} x the mean", uneven, uneven <= EVEN_MARK))
    idle = max(one["idle_commands_a_second"] for one in found)
    marks.append(report.mark(f"idle: at most {IDLE_MARK:g} commands a second a process", idle, idle <= IDLE_MARK))
    server, *_ = [one.pop("server") for one in found]
    try:
        held_down = [await throttled(shards, options, folder / f"t{shards}") for shards in options.shards]
    except NoQuota as error:
        print(f"Not measured: what several throttled Redis do together. {error}", file=sys.stderr)
        held_down = []
    for one in held_down[1:]:
        share = one["lives_a_second"] / held_down[0]["lives_a_second"] * held_down[0]["shards"] / one["shards"]
        wanted = f"throttled, {one['shards']} shards: lives a second >= {SCALE_MARK:g} x that many times those of one"
        marks.append(report.mark(wanted, round(share, 3), share >= SCALE_MARK))
    return {"versions": report.versions(server), "found": found, "throttled": held_down, "marks": marks}


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    header = ("shards", *(f"{part}, µs a task" for part in PARTS), "fullest / mean", "commands/s a process, idle")
    rows = [
        (
            str(one["shards"]),
            *(str(one["cpu_us"][part]) for part in PARTS),
            str(one["evenness"]),
            str(one["idle_commands_a_second"]),
        )
        for one in found["found"]
    ]
    print(report.table(header, rows))
    if found["throttled"]:
        print(f"\nEach shard on a Redis of its own, which has {QUOTA_US / PERIOD_US:.0%} of a core (throttled):")
        header = ("shards", "lives a second", *(f"{part}, % of a core" for part in ("one Redis", *PARTS[1:])))
        print(
            report.table(
                header,
                [
                    (
                        str(one["shards"]),
                        f"{one['lives_a_second']:,}",
                        *(str(one["cpu_percent"][part]) for part in PARTS),
                    )
                    for one in found["throttled"]
                ],
            )
        )


def main() -> None:
    """Measure, show and write."""
    parser = harness.parser(__doc__, "shards")
    parser.add_argument("--tasks", type=harness.positive, default=10_000, help="for each shard")
    parser.add_argument("--throttled-tasks", type=harness.positive, default=4_000, help="for each throttled shard")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4, 8], choices=range(1, SHARDS_MOST + 1))
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without tasks")
    harness.run(parser.parse_args(), measure, show, limit_s=LIMIT_S)


if __name__ == "__main__":
    main()
