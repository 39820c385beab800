"""The marks by which several servers know their shards, as a start and the commands look at them (check.py writes
them)."""

from collections.abc import Mapping, Sequence

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.url import server_of


async def servers_known(client: RedisClient) -> int:
    """Return of how many servers the mark of a shard's server tells; 0: it has none. Raises as a call."""
    count: int = await client.command(
        "GET", client.keys.server, read=lambda text: int(text) if text and text.isdigit() else 0
    )
    return count


def replaced(known: Mapping[int, int], urls: Sequence[str]) -> list[str]:
    """Return a line for each server without a mark in the place of one that others know of: it may be another, or
    another database of it, or have lost its data. `known`: what `servers_known` has found, by the number of the
    shard."""
    most = max(known.values(), default=0)
    return [
        f"REDIS_URL: {server_of(urls[number])}: holds nothing of shard {number}, which there was before: unless "
        "that has lost all its data, list the server, or the database, that has it"
        for number, count in known.items()
        if not count and number < most
    ]
