"""What stands in Redis, at a glance: read once a second at most, however many look."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.ledger import Ledger, read_ledger
from redis_scheduler.store.memory import Memory, memory_of
from redis_scheduler.store.workers import Workers

FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class ShardSeen:
    """One shard: every task where it stands, and of the same second the workers and Redis' memory."""

    ledger: Ledger
    workers: int
    memory: Memory


class Glance:
    """Looks at all shards, by a client of each. All who look in the same second get the same numbers."""

    def __init__(self, clients: Sequence[RedisClient]) -> None:
        self._clients = [(client, Workers(client)) for client in clients]
        self._looking: asyncio.Task[list[ShardSeen]] | None = None
        self._fresh_until = 0.0

    async def look(self) -> list[ShardSeen]:
        """Return what stands in each shard. Raises StoreUnavailable, to all who wait for the same answer."""
        looking = self._looking
        if looking is None or (looking.done() and (looking.exception() or time.monotonic() >= self._fresh_until)):
            looking = self._looking = asyncio.create_task(self._look(), name="glance")
            # Its error goes to those who wait for it; there may be none.
            looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        # A request that is cancelled while it waits must not cancel it.
        return await asyncio.shield(looking)

    async def _look(self) -> list[ShardSeen]:
        seen = [
            ShardSeen(await read_ledger(client), await workers.count(), await memory_of(client))
            for client, workers in self._clients
        ]
        self._fresh_until = time.monotonic() + FRESH_S
        return seen
