"""Kinds: what does a task of each kind take of Redis' memory, by where it stands and by what it has?

Each kind has a Redis, an API and a worker of its own. Its tasks are scheduled over REST and, where they are to be
parked, dead, done or held, brought there by the worker. Then Redis says what it has taken since the first of them
stood there: by then it has its scripts, the buffers of its clients, and all else that comes once.
"""

import argparse
import asyncio
import random
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report, wave
from benchmarks.options import CALLBACKS, DAY_S, POLICY
from benchmarks.scale import end_rehash
from redis_scheduler.settings import API, WORKER
from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

BATCH = 1_000
SAMPLE = 1_000
KEY = b64encode(bytes(32)).decode()
SPREAD_BYTES = 128
"""The allocator rounds up to steps of so many bytes for records of up to a kilobyte, and to smaller ones before: over
lengths that are spread over a step, each kind has the mean of what the rounding adds."""

MARK_BYTES = 60
"""What a task with a policy and callbacks may take besides its record, above one without, where lengths are spread."""

FAILURES_KEPT = {"RETRY_TIME": str(DAY_S)}


@dataclass(frozen=True)
class Kind:
    """What is scheduled, with which settings, what the receiver answers, and where the tasks are to stand then: a state
    of GET /stats, or `ended`."""

    ttl_s: float = DAY_S
    body: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    answer: int = 200
    state: str = "due"
    is_labelled: bool = False
    has_token: bool = False
    is_held: bool = False
    is_spread: bool = False


SPREAD, SPREAD_CALLBACKS = "waiting, of many lengths", "the same, with policy and callbacks"
KINDS = {
    "waiting": Kind(),
    SPREAD: Kind(is_spread=True),
    "the same, with method, five headers and a retry policy": Kind(body=POLICY, is_spread=True),
    SPREAD_CALLBACKS: Kind(body=CALLBACKS, is_spread=True),
    "with a type": Kind(body={"type": "mail"}),
    "with a label of 1,000": Kind(is_labelled=True),
    "of a token": Kind(has_token=True),
    "sealed": Kind(variables={"DATA_KEY": KEY}),
    "a series": Kind(body={"repeat": {"every": DAY_S}}),
    "held by a limit": Kind(ttl_s=0, is_held=True, state="held"),
    "waiting for a retry": Kind(ttl_s=0, answer=503, variables=FAILURES_KEPT, state="failed once"),
    "dead": Kind(ttl_s=0, answer=503, variables={"RETRIES": "0"}, state="dead"),
    "done, with its summary": Kind(ttl_s=0, variables={"RESULT_BYTES": "1073741824"}, state="ended"),
}


def bodies(kind: Kind, webhook: str, count: int) -> list[dict[str, Any]]:
    """Return the bodies of tasks, each with 60 bytes of data of its own, or with up to 127 more."""
    found = []
    for number in range(count):
        body: dict[str, Any] = {"webhook": webhook, **kind.body}
        body["data"] = {"order": f"{number:08d}", "status": "shipped", "carrier": "north"}
        if kind.is_spread:
            body["data"]["carrier"] += "h" * (number % SPREAD_BYTES)
        if kind.is_labelled:
            body["labels"] = {"customer": f"c-{number % 1_000}"}
        if "repeat" not in body:
            body["ttl"] = kind.ttl_s
        found.append(body)
    return found


async def schedule(client: Client, tasks: list[dict[str, Any]]) -> list[str]:
    """Schedule them in full batches; return their keys."""
    keys: list[str] = []
    for start in range(0, len(tasks), BATCH):
        status, content = await client.call("POST", "/schedules", json={"tasks": tasks[start : start + BATCH]})
        assert status == 200, content
        keys += content["data"]
    return keys


async def have_come(client: Client, kind: Kind, count: int) -> None:
    """Wait until all tasks stand where they are to stand."""

    async def are_there() -> bool:
        stats = await client.stats()
        states, counters = stats["states"], stats["counters"]
        if kind.state == "ended":
            return bool(counters["delivered"] == count)
        if kind.state == "failed once":
            return bool(counters["failed"] == states["due"] + states["waiting"] == count)
        return bool(states[kind.state] == count)

    await wait_until(are_there, f"{count} tasks are {kind.state}", wave.WAIT_S, harness.POLL_S)


async def until_held(client: Client, url: str) -> None:
    """Wait until the worker has heard of the pause of a host: what comes before it delivers."""

    async def is_held() -> bool:
        key = await client.schedule(url)

        async def state() -> str:
            status, content = await client.call("GET", f"/schedule/{key}")
            found = content["data"]["info"]["state"] if status == 200 else "delivered"
            return str(found) if found in ("held", "delivered") else ""

        found = await wait_until(state, "a task is held, or delivered", wave.WAIT_S, harness.POLL_S)
        await client.call("DELETE", f"/schedule/{key}")
        return found == "held"

    await wait_until(is_held, "the host is paused", wave.WAIT_S, harness.POLL_S)


async def used_bytes(redis: harness.Redis, client: Client, kind: Kind, count: int, calm_s: float) -> int:
    """Return what Redis has taken once so many tasks stand where they are to stand, and nothing else is under way."""
    await have_come(client, kind, count)
    await redis.settled()
    await end_rehash(redis, count)
    await asyncio.sleep(calm_s)
    return await redis.used_bytes()


async def cost(options: argparse.Namespace, name: str, receiver: harness.Receiver, folder: Path) -> dict[str, Any]:
    """Return what a task of a kind takes, and its record, in bytes."""
    kind, count = KINDS[name], options.tasks
    await receiver.answer(kind.answer)
    async with (
        harness.redis_at(options.redis_url, folder) as redis,
        harness.service(redis.url, folder, [API, WORKER], **kind.variables) as service,
    ):
        client = service.client
        if kind.has_token:
            store = RedisClient(redis.url, 3, KEYS)
            client = Client(client.session, client.url, await make_token(store, "schedule", "read", tasks=10**7))
            await store.aclose()
        if kind.is_held:
            host = urlsplit(receiver.url).netloc
            status, content = await service.client.call("PUT", f"/hosts/{host}", json={"paused": True})
            assert status == 200, content
            await until_held(client, receiver.url)
        tasks = bodies(kind, receiver.url, options.first + count)
        await schedule(client, tasks[: options.first])
        first_bytes = await used_bytes(redis, service.client, kind, options.first, options.calm)
        keys = await schedule(client, tasks[options.first :])
        taken_bytes = await used_bytes(redis, service.client, kind, len(tasks), options.calm) - first_bytes
        pipeline = redis.raw.pipeline(transaction=False)
        for key in random.sample(keys, min(SAMPLE, count)):
            pipeline.hstrlen(KEYS.tasks, key)
        record_bytes = fmean(await pipeline.execute())
        stats = await service.client.stats()
        assert stats["ledger_balanced"], stats
        server = redis.server
        if kind.is_held:
            await service.client.call("DELETE", f"/hosts/{host}")
        await service.client.call("POST", "/purge")
    await receiver.take()
    return {
        "bytes_a_task": round(taken_bytes / count, 1),
        "record_bytes": round(record_bytes, 1),
        "million_mb": round(taken_bytes / count),
        "server": server,
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure each kind, one after another."""
    async with harness.receiving() as receiver:
        kinds: dict[str, dict[str, Any]] = {}
        for name in options.kinds or KINDS:
            place = folder / f"{len(kinds)}"
            place.mkdir()
            kinds[name] = await cost(options, name, receiver, place)
    servers = {one.pop("server") for one in kinds.values()}
    return {"kinds": kinds, "marks": marks(kinds), "versions": report.versions(servers.pop())}


def marks(kinds: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mark of a task with options, where it was measured beside one without."""
    if not {SPREAD, SPREAD_CALLBACKS} <= kinds.keys():
        return []
    with_options, plain = (
        kinds[name]["bytes_a_task"] - kinds[name]["record_bytes"] for name in (SPREAD_CALLBACKS, SPREAD)
    )
    found = round(with_options - plain, 1)
    wanted = f"besides its record, a task with policy and callbacks takes <= {MARK_BYTES} bytes more"
    return [report.mark(wanted, found, found <= MARK_BYTES)]


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"kinds: {found['settings']['tasks']:,} tasks of each\n")
    rows = [
        (name, f"{one['bytes_a_task']:.0f}", f"{one['record_bytes']:.0f}", f"{one['million_mb']:,}")
        for name, one in found["kinds"].items()
    ]
    print(report.table(("a task that is", "bytes of Redis", "its record", "a million, MB"), rows))


def main() -> None:
    parser = harness.parser(__doc__, "kinds")
    parser.add_argument("--tasks", type=harness.positive, default=50_000, help="tasks of each kind")
    parser.add_argument(
        "--first", type=harness.positive, default=2_000, help="tasks that are there before it is measured"
    )
    parser.add_argument(
        "--calm", type=float, default=3.0, help="seconds in which Redis gives back buffers of idle clients"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="only these")
    options = parser.parse_args()
    harness.run(options, measure, show, len(options.kinds or KINDS) * (40 + (options.first + options.tasks) / 500))


if __name__ == "__main__":
    main()
