"""Which shards answer: pages show what stands in them, and name the others. No number is of a part that is not told."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.glance import Glance, ShardAway, ShardSeen, named
from redis_scheduler.store.ledger import Ledger, total

WITHIN_S = 0.5
"""A shard that does not answer within this time is away for a page."""


@dataclass(frozen=True, slots=True)
class Present:
    """The shards that answer, by their numbers, with a client of each; and those that do not."""

    there: dict[int, ShardSeen]
    clients: dict[int, RedisClient]
    away: Sequence[ShardAway]

    @property
    def ledger(self) -> Ledger:
        """The sum of those that answer."""
        return total([one.ledger for one in self.there.values()])

    @property
    def numbers(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(self.there)

    @property
    def first(self) -> ShardSeen | None:
        """The first shard, which has what the deployment has once: history, hosts, processes; None: it is away."""
        return self.there.get(0)

    @property
    def without(self) -> str:
        """The shards that are missing, in words; empty if none is."""
        return named([one.number for one in self.away])

    @property
    def alone(self) -> str:
        """Those that are there, in words."""
        return named(self.numbers)


async def present(glance: Glance, clients: Sequence[RedisClient]) -> Present:
    """Look at all shards. Raises StoreUnavailable if none answers."""
    seen = await glance.look_at_each(WITHIN_S)
    if not any(seen):
        seen = [*await glance.look()]
    there = {number: shard for number, shard in enumerate(seen) if shard is not None}
    return Present(there, {number: clients[number] for number in there}, glance.away(seen))
