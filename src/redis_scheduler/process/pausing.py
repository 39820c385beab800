"""The commands `redis-scheduler pause-all` and `resume-all`: a deployment that delivers nothing for a while, as for a
move."""

import asyncio
import time

from redis_scheduler.logs import rfc3339
from redis_scheduler.process.command import redis_of
from redis_scheduler.process.process import process_name
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.moves import Moves
from redis_scheduler.store.views import Views

NOTICED_S = 2.5
"""Within this time every worker has seen the pause, and a claim that it was blocked in has ended."""

ENDED_S = 60.0
"""The command waits so long for the attempts that are under way."""

LOOK_S = 0.2
"""Between two looks whether they have ended."""


async def pause_all(settings: Settings) -> bool:
    """Let nothing begin any more; return whether no attempt is under way in the end."""
    async with redis_of(settings) as client:
        since_ms = await Moves(client, process_name()).pause_all(True)
        _say(f"Paused since {rfc3339(since_ms or 0)}: nothing is promoted or claimed until redis-scheduler resume-all.")
        left = await _left(client)
    _say(f"{left} attempts are still under way." if left else "No attempt is under way.")
    return not left


async def _left(client: RedisClient) -> int:
    """Return how many attempts are under way once they have had their time."""
    await asyncio.sleep(NOTICED_S)
    until_s = time.monotonic() + ENDED_S
    while True:
        left = (await Views(client).ledger()).in_delivery
        if not left or time.monotonic() > until_s:
            return left
        await asyncio.sleep(LOOK_S)


async def resume_all(settings: Settings) -> bool:
    """Let it all go on; what came due meanwhile is delivered at once."""
    async with redis_of(settings) as client:
        await Moves(client, process_name()).pause_all(False)
    _say("Resumed: what came due meanwhile is delivered now.")
    return True


def _say(text: str) -> None:
    print(text)  # noqa: T201  # the command's output
