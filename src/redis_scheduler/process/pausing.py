"""The commands `redis-scheduler pause-all` and `resume-all`: a deployment that delivers nothing for a while, as for a
move."""

import asyncio
import time

from redis_scheduler.logs import rfc3339
from redis_scheduler.process.command import note, redis_of, say
from redis_scheduler.process.process import process_name
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.moves import Moves
from redis_scheduler.store.workers import Holder, Workers, holders
from redis_scheduler.task.timing import DEFAULT

PAUSE_FORMAT = 2
"""The record format since which a worker sees the pause."""

NOTICED_S = 2.5
"""Within this time every worker has seen the pause, and a claim that it was blocked in has ended."""

ENDED_S = 60.0
"""The command waits so long for the attempts that are under way."""

LOOK_S = 0.2
"""Between two looks whether they have ended."""


async def pause_all(settings: Settings, force: bool = False) -> bool:
    """Let nothing begin any more; return whether no attempt is under way in the end. While a worker lives that is too
    old to see the pause, nothing is done but with `force`."""
    async with redis_of(settings) as client:
        if name := await Workers(client).too_old(PAUSE_FORMAT):
            say(f"The worker {name} is too old to see a pause: stop it or upgrade it, and try again.")
            if not force:
                say("Nothing was changed; with --force the others pause, and that one goes on.")
                return False
        since_ms = await Moves(client, process_name()).pause_all(True)
        await note(client, settings, "pause-all")
        say(f"Paused since {rfc3339(since_ms or 0)}: nothing is promoted or claimed until redis-scheduler resume-all.")
        found = await _left(client)
    for holder in found:
        if holder.lost:
            say(f"The worker {holder.name} is gone; {holder.lost} of its tasks come again after the resume.")
    left = {holder.name: holder.held for holder in found if holder.held}
    if not left:
        say("No attempt is under way.")
    for name, count in left.items():
        say(f"Still under way at the worker {name}: {count}.")
    return not left


async def _left(client: RedisClient) -> list[Holder]:
    """Return who has tasks in delivery once the attempts have had their time."""
    await asyncio.sleep(NOTICED_S)
    until_s = time.monotonic() + ENDED_S
    while True:
        found = await holders(client, DEFAULT.window_ms)
        if not any(holder.held for holder in found) or time.monotonic() > until_s:
            return found
        await asyncio.sleep(LOOK_S)


async def resume_all(settings: Settings) -> bool:
    """Let it all go on; what came due meanwhile is delivered at once."""
    async with redis_of(settings) as client:
        await Moves(client, process_name()).pause_all(False)
        await note(client, settings, "resume-all")
    say("Resumed: what came due meanwhile is delivered now.")
    return True
