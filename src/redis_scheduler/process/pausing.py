"""The commands `redis-scheduler pause-all` and `resume-all`: a deployment that delivers nothing for a while, as for a
move."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from redis_scheduler.logs import rfc3339
from redis_scheduler.process.command import all_shards_of, begin_deployment, in_each, note, say, say_away
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
    async with all_shards_of(settings) as (clients, _):
        old, _ = await in_each(clients, lambda client: Workers(client).too_old(PAUSE_FORMAT))
        if name := next((name for name in old.values() if name), None):
            say(f"The worker {name} is too old to see a pause: stop it or upgrade it, and try again.")
            if not force:
                say("Nothing was changed; with --force the others pause, and that one goes on.")
                return False

        async def pause(client: RedisClient) -> int | None:
            if client.keys.shard == 0:
                # So that no shard is there from a first start on that is not paused.
                await begin_deployment(client, settings)
            return await Moves(client, process_name()).pause_all(True)

        paused, away = await in_each(clients, pause)
        await note(clients[0], settings, "pause-all")
        since_ms = max(since_ms or 0 for since_ms in paused.values())
        say(f"Paused since {rfc3339(since_ms)}: nothing is promoted or claimed until redis-scheduler resume-all.")
        say_away(away, "not paused: try again")
        found = await _left([clients[number] for number in paused])
    # A worker may have tasks of several shards.
    lost, left = Counter[str](), Counter[str]()
    for holder in found:
        lost[holder.name] += holder.lost
        left[holder.name] += holder.held
    left = +left
    for name, count in (+lost).items():
        say(f"The worker {name} is gone; {count} of its tasks come again after the resume.")
    if not left:
        say("No attempt is under way.")
    for name, count in left.items():
        say(f"Still under way at the worker {name}: {count}.")
    return not left and not away


async def _left(clients: Sequence[RedisClient]) -> list[Holder]:
    """Return who has tasks in delivery once the attempts have had their time."""
    await asyncio.sleep(NOTICED_S)
    until_s = time.monotonic() + ENDED_S
    while True:
        found = [holder for client in clients for holder in await holders(client, DEFAULT.window_ms)]
        if not any(holder.held for holder in found) or time.monotonic() > until_s:
            return found
        await asyncio.sleep(LOOK_S)


async def resume_all(settings: Settings) -> bool:
    """Let it all go on; what came due meanwhile is delivered at once."""
    async with all_shards_of(settings) as (clients, _):
        _, away = await in_each(clients, lambda client: Moves(client, process_name()).pause_all(False))
        await note(clients[0], settings, "resume-all")
    say("Resumed: what came due meanwhile is delivered now.")
    say_away(away, "paused as before: try again")
    return not away
