"""How soon each process is back in service after a fault, and what it says of it: read from its log."""

import asyncio
import itertools
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import SLOWNESS
from tests.support.redis_process import RedisProcess
from tests.support.service import Process
from tests.support.waiting import wait_until

BACK_WITHIN_S = 5.0 * SLOWNESS
"""How soon every process must be back in service."""

ORDINARY = {"delivered", "refused", "retry", "defer", "started", "open-door"}
"""Lines of single tasks and requests; every other line is of the process itself. That it has started is waited for, and
may be of the very millisecond from which on a case looks; which doors are open it may say once Redis has answered."""


CLIENTS = 16
"""So many schedule at once."""

LOAD_MOST_S = 60
"""A load that lasts longer than this has met a process that does not come back."""


async def fault_under_load(
    checker: Checker,
    api: Process,
    workers: Sequence[Process],
    ttl: Callable[[int], float],
    rate: int,
    fault: Callable[[], Awaitable[float]],
) -> list[float]:
    """Schedule `rate` tasks a second, task n with the delay `ttl(n)`; have the fault once as many were delivered.

    `fault` returns when it was over. Returns how many seconds each process then took to serve again: a worker (with
    LOG_LEVEL=debug) to deliver, an API to schedule.
    """
    is_back = asyncio.Event()
    load = asyncio.create_task(load_until(is_back, checker, api, ttl, rate))
    try:
        enough = len(checker.receiver.arrivals) + rate
        await wait_until(lambda: len(checker.receiver.arrivals) >= enough, "deliveries in full swing", 30)
        over_at = await fault()

        def accepted() -> list[float]:
            moments = [task.due_at - ttl(task.number) for task in checker.sent.values() if task.is_acknowledged]
            return [at for at in moments if at > over_at]

        recoveries = await delivering_again(workers, over_at)
        recoveries.append(min(await wait_until(accepted, "the API schedules again", 30, every_s=0.1)) - over_at)
    finally:
        is_back.set()
        await load
    return recoveries


async def load_until(
    is_over: asyncio.Event,
    checker: Checker,
    api: Process,
    ttl: Callable[[int], float],
    rate: int,
    most_s: int = LOAD_MOST_S,
) -> None:
    """Schedule `rate` tasks a second until it is over, for `most_s` at most; task n with the delay `ttl(n)`."""
    for _ in range(most_s):
        first = len(checker.sent)
        ttls = [ttl(number) for number in range(first, first + rate)]
        await checker.load(api, rate, ttls.__getitem__, clients=CLIENTS, rate=rate)
        if is_over.is_set():
            return


async def delivering_again(
    workers: Sequence[Process], since: float, is_one: Callable[[str], bool] = lambda _: True
) -> list[float]:
    """Wait until each worker (with LOG_LEVEL=debug) has delivered a task with such a key; return how many seconds after
    `since` each did."""

    def first_moments() -> list[float]:
        moments = [
            [moment(event) for event in worker.events("delivered") if is_one(event["key"])] for worker in workers
        ]
        found = [[at for at in of_one if at >= since] for of_one in moments]
        return [min(of_one) for of_one in found] if all(found) else []

    return [at - since for at in await wait_until(first_moments, "every worker delivers again", 30, every_s=0.1)]


async def kill_between_syncs(server: RedisProcess, raw: redis.asyncio.Redis) -> None:
    """Kill a Redis so that it loses nothing of what it answered.

    It has written that, and what is written outlives the process. But while it syncs the file it may answer first and
    write up to 2 s later.
    """

    async def syncs_not() -> bool:
        return not (await raw.info("persistence"))["aof_pending_bio_fsync"]

    await wait_until(syncs_not, "no sync is under way", every_s=0)
    await server.kill()


def said_since(processes: Iterable[Process], since: float) -> list[dict[str, Any]]:
    """What the processes said of themselves from then on, in order; each until it was told to stop, if it was."""
    found: list[dict[str, Any]] = []
    # What follows at once may be logged in the millisecond in which it is asked for.
    since = math.floor(since * 1000) / 1000
    for process in processes:
        events = [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]
        service = itertools.takewhile(lambda event: event["event"] != "stopping", events)
        found += [event for event in service if event["event"] not in ORDINARY and moment(event) >= since]
    return sorted(found, key=moment)


def moment(event: dict[str, Any]) -> float:
    """When an event was logged, as time.time() has it; the log cuts it off to the millisecond."""
    return datetime.fromisoformat(event["at"]).timestamp()


def calls_of(key: str) -> list[tuple[str, str, object]]:
    """A request of each kind that reads, or that changes a waiting task: method, path, content. It is gone after
    them."""
    task = f"/schedule/{key}"
    return [
        *(("GET", path, None) for path in ("/schedules?limit=10", "/stats", task)),
        *(("PATCH", task, {"data": 1}), ("PATCH", task, {"ttl": 3000}), ("DELETE", task, None)),
    ]
