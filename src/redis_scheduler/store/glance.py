"""What stands in Redis, at a glance: read once a second at most, however many look."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.joint import Joint
from redis_scheduler.store.ledger import Ledger, read_ledger
from redis_scheduler.store.memory import Memory, memory_of
from redis_scheduler.store.workers import Workers
from redis_scheduler.task.options import RECORD_FORMAT

FRESH_S = 1.0

AWAY_S = 0.1
"""So long at most is waited for a shard that is known to be away: what it answers later is seen by the next look."""

EMPTIED_MS = 86_400_000
"""For so long the first page and an alert tell that Redis has lost its data."""


@dataclass(frozen=True, slots=True)
class ShardSeen:
    """One shard: every task where it stands, and of the same second the workers and Redis' memory (None: not known)."""

    ledger: Ledger
    workers: int
    memory: Memory | None
    too_old: str | None = None
    """A worker that does not read all records that this version writes; None: there is none."""


@dataclass(frozen=True, slots=True)
class ShardAway:
    """A shard that does not answer: since when, by this machine's clock (None: it was silent just now), and what stood
    there when it answered last, as far as this process looked."""

    number: int
    since_s: float | None
    last: ShardSeen | None


@dataclass(frozen=True, slots=True)
class Unserved:
    """The shards in which no worker lives and tasks wait for one; how many are queued there, were taken up, or wait for
    a retry; and for how long the oldest has been due that no worker took up."""

    shards: Sequence[int] = ()
    tasks: int = 0
    oldest_ms: int = 0


def unserved(there: Mapping[int, ShardSeen]) -> Unserved:
    """Return what waits for a worker in shards without one, of those that were seen, by their numbers."""
    found = {number: one.ledger for number, one in there.items() if not one.workers and one.ledger.wants_worker}
    tasks = sum(ledger.begun for ledger in found.values())
    return Unserved([*found], tasks, max((ledger.oldest_due_ms for ledger in found.values()), default=0))


def emptied(there: Mapping[int, ShardSeen]) -> list[int]:
    """Return the shards whose Redis lost all its data in the last day."""
    return [number for number, one in there.items() if one.ledger.now_ms - one.ledger.emptied_ms < EMPTIED_MS]


def named(numbers: Sequence[int]) -> str:
    """Return shards in words: `shard 1`, `shards 0, 2 and 3`."""
    if not numbers:
        return ""
    *others, last = map(str, numbers)
    return f"shards {', '.join(others)} and {last}" if others else f"shard {last}"


class Glance:
    """Looks at all shards, by a client of each (there may come more). All who look in the same second get the same
    numbers."""

    def __init__(self, clients: Sequence[RedisClient]) -> None:
        self._clients = clients
        self._shards: list[_ShardGlance] = []

    async def look(self) -> list[ShardSeen]:
        """Return what stands in each shard. Raises StoreUnavailable where one is away."""
        return await asyncio.gather(*(shard.look() for shard in self._all()))

    async def look_at_each(self, within_s: float) -> list[ShardSeen | None]:
        """Return what stands in each shard; None for one that does not answer within this time."""

        async def seen(shard: _ShardGlance) -> ShardSeen | None:
            try:
                async with asyncio.timeout(min(within_s, AWAY_S) if shard.is_away else within_s):
                    return await shard.look()
            except (StoreUnavailable, StoreFull, TimeoutError):
                return None

        return await asyncio.gather(*map(seen, self._all()))

    def away(self, seen: Sequence[ShardSeen | None]) -> list[ShardAway]:
        """Return what is known of the shards that a look has not seen."""
        shards = enumerate(zip(self._all(), seen, strict=False))
        return [shard.away(number) for number, (shard, found) in shards if found is None]

    def _all(self) -> list["_ShardGlance"]:
        self._shards += map(_ShardGlance, self._clients[len(self._shards) :])
        return self._shards


class _ShardGlance:
    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._workers = Workers(client)
        self._looking = Joint[ShardSeen]("glance")
        self._fresh_until = 0.0
        self._last: ShardSeen | None = None

    @property
    def is_away(self) -> bool:
        """Whether the last call found its Redis away."""
        return self._client.outage.is_away

    def away(self, number: int) -> ShardAway:
        """Return what is known of it while it does not answer."""
        return ShardAway(number, self._client.outage.since_s if self.is_away else None, self._last)

    async def look(self) -> ShardSeen:
        """Return what stands in the shard. Raises StoreUnavailable, to all who wait for the same answer."""
        if self._last is not None and time.monotonic() < self._fresh_until:
            return self._last
        return await self._looking.answer(self._look)

    async def _look(self) -> ShardSeen:
        ledger, workers, memory = (
            await read_ledger(self._client),
            await self._workers.count(),
            await memory_of(self._client),
        )
        seen = ShardSeen(ledger, workers, memory, await self._workers.too_old(RECORD_FORMAT))
        self._fresh_until = time.monotonic() + FRESH_S
        self._last = seen
        return seen
