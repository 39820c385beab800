"""When tasks come due: what pages show. Reads only."""

import itertools
from collections.abc import Sequence
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, redis_ms
from redis_scheduler.store.client import RedisClient


async def now_and_next(client: RedisClient) -> tuple[int, int | None]:
    """Return Redis' clock, and when the first is due that no worker has promoted. Raises StoreUnavailable."""
    now_ms: int = await client.command("TIME", read=redis_ms)
    return now_ms, await client.optional("ZRANGE", client.keys.due, 0, 0, "WITHSCORES", read=_score)


async def due_between(client: RedisClient, edges_ms: Sequence[int]) -> list[int]:
    """Return how many tasks come due between each two edges. Raises StoreUnavailable."""
    due = client.keys.due
    return [
        await client.optional("ZCOUNT", due, first, f"({last}", read=NUMBER) or 0
        for first, last in itertools.pairwise(edges_ms)
    ]


async def overdue(client: RedisClient, now_ms: int) -> int:
    """Return how many tasks are due that no worker has promoted. Raises StoreUnavailable."""
    return await client.optional("ZCOUNT", client.keys.due, "-inf", f"({now_ms}", read=NUMBER) or 0


def _score(answer: Any) -> int | None:
    """Read the first score, which RESP3 gives beside its member in a list of its own."""
    flat = answer[0] if answer and isinstance(answer[0], list) else answer
    return round(float(flat[1])) if flat else None
