"""arq: run as a module with `worker`, its worker; with `enqueue`, its enqueuer. Both run in the peers' own
environment."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from arq import create_pool, run_worker  # type: ignore[import-not-found]  # installed apart
from arq.connections import RedisSettings  # type: ignore[import-not-found]  # installed apart

from benchmarks.peers import load

ENQUEUED_AT_ONCE = 50
REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


async def deliver(context: dict[str, Any], webhook: str, content: dict[str, Any]) -> None:
    """POST one task."""
    headers = {"Schedule-Key": context["job_id"]}
    async with context["session"].post(webhook, json=content, headers=headers) as response:
        await response.read()
        response.raise_for_status()


async def start(context: dict[str, Any]) -> None:
    """Open the session that all tasks share, and tell the harness that tasks are taken."""
    context["session"] = aiohttp.ClientSession(
        # As many connections as tasks: max_jobs limits them. Without cookies the client is faster.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    print("ready", flush=True)


async def stop(context: dict[str, Any]) -> None:
    """Close the session."""
    await context["session"].close()


def work() -> None:
    """Run the worker until it is stopped."""
    run_worker(
        {
            "functions": [deliver],
            "on_startup": start,
            "on_shutdown": stop,
            "redis_settings": REDIS,
            "max_jobs": int(os.environ["MAX_JOBS"]),
            "poll_delay": float(os.environ["POLL_DELAY_S"]),
            # 0 is `keep none`: a result is one more write for each task.
            "keep_result": 0,
        }
    )


async def enqueue() -> None:
    """Enqueue the load, several at once, which is the nearest that arq has to a bulk."""
    webhooks, asked = load.read()
    due_times: dict[str, float] = {}
    pool = await create_pool(REDIS)
    slots = asyncio.Semaphore(ENQUEUED_AT_ONCE)
    started = time.time()

    async def add(number: int) -> None:
        async with slots:
            due = asked.due(started)
            due_at = datetime.fromtimestamp(due, UTC)
            job = await pool.enqueue_job("deliver", webhooks.of(number), load.data(number), _defer_until=due_at)
        due_times[job.job_id] = due

    async with asyncio.TaskGroup() as tasks:
        for number in range(asked.tasks):
            await asyncio.sleep(asked.wait_s(number, started))
            tasks.create_task(add(number))
    await pool.aclose()
    load.answer(due_times)


if __name__ == "__main__":
    # arq has no loop of its own choice, and this one is faster.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if sys.argv[1] == "worker":
        work()
    else:
        asyncio.run(enqueue())
