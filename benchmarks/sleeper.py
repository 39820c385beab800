"""The reference of lateness.py: a client that knows every due time, and does nothing but sleep until it and post.

`python -m benchmarks.sleeper URL RATE TASKS` posts so many bodies, RATE a second, with the session of reference.py. It
sleeps by the event loop's own timer; nothing is asked of a Redis, nothing is written down. It prints the first due
time, time.time().
"""

import asyncio
import json
import sys
import time

from yarl import URL

from benchmarks import reference, script
from redis_scheduler.delivery.request import KEY_HEADER

LEAD_S = 0.5
"""From the start to the first due time."""

TICK_S = 0.001
"""The event loop counts in it, rounded to either side: who wakes early sleeps once more."""


def due_times(first_due: float, rate: int, tasks: int) -> dict[str, float]:
    """Return the due times by key."""
    return {str(number): first_due + number / rate for number in range(tasks)}


async def until(due: float) -> None:
    """Sleep until the due time, and never less."""
    loop = asyncio.get_running_loop()
    while (left_s := due - time.time()) > 0:
        rung = asyncio.Event()
        loop.call_at(loop.time() + max(left_s, TICK_S), rung.set)
        await rung.wait()


async def post_all(url: str, rate: int, tasks: int) -> None:
    """Post each task when it is due, whatever the answers take."""

    webhook = URL(url)

    async def post(key: str) -> None:
        body = json.dumps({"order": int(key), "status": "shipped"}).encode()
        async with session.post(webhook, data=body, headers={KEY_HEADER: key}) as response:
            await response.read()
            response.raise_for_status()

    async with reference.session() as session, asyncio.TaskGroup() as posts:
        first_due = time.time() + LEAD_S
        print(first_due, flush=True)
        for key, due in due_times(first_due, rate, tasks).items():
            await until(due)
            posts.create_task(post(key))


async def main(ended: asyncio.Event) -> None:
    """Post all, then wait for the end of standard input: the CPU is read before."""
    url, rate, tasks = sys.argv[1:]
    posting = asyncio.create_task(post_all(url, int(rate), int(tasks)))
    await ended.wait()
    posting.cancel()


if __name__ == "__main__":
    script.run(main)
