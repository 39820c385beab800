"""What others notice of what is done to many tasks: their requests meanwhile, and alone."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import report
from benchmarks.bulk_tasks import DAY_S
from tests.support.service import Client

ALONE_S = 3.0
"""For which others are timed alone, before each operation."""

MARK_REDIS_MS = 5
MARK_OTHERS_MS = 5
"""So much longer than alone is p99 of others at most."""


async def others(client: Client, rate: int, ended: asyncio.Event) -> list[float]:
    """Schedule, read and cancel a task in turn until the end, a request each time; return the ms that each took."""
    taken_ms: list[float] = []
    key = ""

    async def send(number: int) -> None:
        nonlocal key
        one = f"/schedule/{key}"
        body = {"webhook": "http://host.example/", "ttl": 3 * DAY_S, "data": {"order": number}}
        method, path, sent = [("POST", "/schedule", body), ("GET", one, None), ("DELETE", one, None)][number % 3]
        began = time.perf_counter()
        status, answer = await client.call(method, path, json=sent)
        taken_ms.append(1000 * (time.perf_counter() - began))
        assert status == 200, answer
        key = answer.get("key", key)

    started, number = time.monotonic(), 0
    # Another one ends with the last of three, so that none is left.
    while not ended.is_set() or number % 3:
        await asyncio.sleep(started + number / rate - time.monotonic())
        await send(number)
        number += 1
    return taken_ms


@asynccontextmanager
async def beside(client: Client, rate: int, taken_ms: list[float]) -> AsyncIterator[None]:
    """Have others send requests within the block; add what these took."""
    ended = asyncio.Event()
    load = asyncio.create_task(others(client, rate, ended))
    try:
        yield
    finally:
        ended.set()
        taken_ms += await load


def marks_beside(held_ms: float, later_ms: float) -> list[dict[str, Any]]:
    """Return the marks of the command that held Redis longest, and of what p99 of others is above theirs alone."""
    held = f"Redis held by one command <= {MARK_REDIS_MS} ms (0: none was noted)"
    later = f"p99 of others <= {MARK_OTHERS_MS} ms above alone"
    return [
        report.mark(held, held_ms, held_ms <= MARK_REDIS_MS),
        report.mark(later, round(later_ms, 2), later_ms <= MARK_OTHERS_MS),
    ]
