"""Whether the index of all series has each of them. Versions before it knew none: what they scheduled stands there once
it has come due, or `redis-scheduler doctor --repair` has put it there. Until then lists look at all tasks."""

from redis_scheduler.store.answer_shape import of
from redis_scheduler.store.client import RedisClient

_TEXT = of(bytes | None)


async def are_series_listed(client: RedisClient) -> bool:
    """Return whether none may be missing. Raises StoreUnavailable."""
    found: bytes | None = await client.optional("GET", client.keys.series_listed, read=_TEXT)
    return found == b"1"


async def note_series_listed(client: RedisClient) -> None:
    """Note that none is missing. Raises StoreUnavailable, StoreFull."""
    # What foreign hands put there stays, and lists go on without the index.
    await client.command("SET", client.keys.series_listed, 1, "NX")
