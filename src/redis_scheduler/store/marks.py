"""The marks by which several servers know their shards, as a start and the commands look at them (check.py writes
them)."""

from collections.abc import Mapping, Sequence

from redis_scheduler.store.answer_shape import NUMBER
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.url import server_of


async def servers_known(client: RedisClient) -> int:
    """Return of how many servers a shard's server knows, by its mark; 0: of none. One without a mark, since it was too
    full for it or was restored from before, knows of itself by what it holds. Raises as a call."""
    keys = client.keys
    count: int = await client.command("GET", keys.server, read=lambda text: int(text) if text and text.isdigit() else 0)
    if not count and await client.command("EXISTS", keys.queue, keys.tasks, read=NUMBER):
        count = keys.shard + 1
    return count


def replaced(known: Mapping[int, int], urls: Sequence[str]) -> list[str]:
    """Return a line for each server that knows of nothing in the place of one that others know of: it may be another,
    or another database of it, or have lost its data. `known`: what `servers_known` has found, by the number of the
    shard."""
    most = max(known.values(), default=0)
    return [
        f"REDIS_URL: {server_of(urls[number])}: holds nothing of shard {number}, which there was before: unless "
        "that has lost all its data, list the server, or the database, that has it"
        for number, count in known.items()
        if not count and number < most
    ]
