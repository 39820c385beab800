"""An engine over several shards, and each of them with what tests ask of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.consumer import ShardAccess
from redis_scheduler.engine.engine import Engine
from redis_scheduler.store.audit import audit
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.ledger import Ledger
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.timing import Timing
from tests.integration.conftest import CONCURRENCY, TIMING, schedule
from tests.support.receiver import Receiver
from tests.support.store import Store


@dataclass
class Side:
    """A shard, with what tests ask of it."""

    client: RedisClient
    store: Store

    async def schedule(self, receiver: Receiver, count: int = 1) -> list[str]:
        return await schedule(self.store, receiver.url, count)

    async def ledger(self) -> Ledger:
        return await Views(self.client).ledger()

    async def assert_is_sound(self) -> None:
        assert [finding.text async for finding in audit(self.client)] == []
        assert (await self.ledger()).is_balanced


@asynccontextmanager
async def sides_of(shards: Iterable[Shard], timeout_s: float = 1) -> AsyncIterator[list[Side]]:
    """Connect to shards. Afterwards each is sound: no task of it is lost or stands twice."""
    async with AsyncExitStack() as stack:
        sides = []
        for shard in shards:
            client = await stack.enter_async_context(shard.connected(timeout_s))
            await client.create_group()
            sides.append(Side(client, Store(client, "worker-a")))
        yield sides
        for side in sides:
            await side.assert_is_sound()


@asynccontextmanager
async def both_sides(one_url: str, other_url: str, timeout_s: float = 1) -> AsyncIterator[tuple[Side, Side]]:
    """Two shards under two tags, on one server or on two."""
    shards = [Shard(url, Keys(tag_of(namespace))) for url, namespace in ((one_url, "one"), (other_url, "other"))]
    async with sides_of(shards, timeout_s) as (one, other):
        yield one, other


@asynccontextmanager
async def over(
    sides: Sequence[Side],
    concurrency: int = CONCURRENCY,
    timing: Timing = TIMING,
    grace_s: float = 10,
    sweeps: bool = True,
) -> AsyncIterator[Engine]:
    """An engine that works over these shards within the block; if it `sweeps` not, only its claims bring anything."""
    stop = asyncio.Event()
    async with Deliverer("test-token", 30) as deliverer:
        shards = {
            number: ShardAccess.of_client(side.client, side.store.name, timing) for number, side in enumerate(sides)
        }
        engine = Engine(shards, deliverer, Policy(2, 60_000), concurrency, timing)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task((engine.run if sweeps else engine.deliver)(stop, asyncio.Event(), grace_s))
            try:
                yield engine
            finally:
                stop.set()
