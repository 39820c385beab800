"""A service with several shards: waits until it has heard how many there are."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.key import hashed_shard, shards_of
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, Process, client_of, serving
from tests.support.waiting import wait_until

IN_THE_FIRST = "own:e"
"""An own key whose task stands in the first of four shards, which the fixture `store` has, as of one."""


async def scheduled_to_the_last(client: Client, webhook: str, shards: int, ttl: float = 0) -> list[str]:
    """Schedule one task after another, until one stands in the last shard, since Redis has told the API how many there
    are; return their keys."""
    keys = list[str]()

    async def is_there() -> bool:
        keys.append(await client.schedule(webhook, ttl))
        return shards_of(keys[-1], (shards,))[0] == shards - 1

    await wait_until(is_there, "Redis has told the API how many shards there are", 20)
    return keys


@asynccontextmanager
async def clients_of(url: str, timeout_s: float = 3) -> AsyncIterator[list[RedisClient]]:
    """Connect to each shard of the tested services, as they do."""
    async with AsyncExitStack() as stack:
        clients = []
        for keys in KEYS_OF_SHARDS:
            client = RedisClient(url, timeout_s, keys, Outage(keys.shard if SHARDS > 1 else None))
            clients.append(await stack.enter_async_context(aclosing(client)))
            await client.ensure_checked()
            await client.create_group()
        yield clients


@asynccontextmanager
async def two_servers(
    folder: Path, webhook: str, *arguments: str, ttl: float = 3_600, **variables: str
) -> AsyncIterator[tuple[RedisProcess, RedisProcess, Process, Client]]:
    """Run a service over two servers, a shard each, and schedule tasks in both."""
    async with redis_process(folder / "one") as one, redis_process(folder / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(folder, *arguments, REDIS_URL=url, **variables) as service, client_of(service) as client:
            await scheduled_to_the_last(client, webhook, 2, ttl)
            yield one, other, service, client


async def are_announced(raw: redis.asyncio.Redis, shards: int) -> None:
    """Wait until so many shards are announced."""

    async def is_announced() -> bool:
        return (await raw.zrevrange(KEYS.shards, 0, 0)) == [str(shards).encode()]

    await wait_until(is_announced, f"{shards} are announced", 20)


async def hold_at_once(raw: redis.asyncio.Redis, shards: int) -> None:
    """Wait until so many shards are announced, and make them hold at once, as if the time had passed."""
    await are_announced(raw, shards)
    await raw.zadd(KEYS.shards, {str(shards): 1 + shards})


async def scheduled_in_the_first(client: Client, webhook: str, ttl: float = 0, **fields: Any) -> str:
    """Schedule a task in each shard until one stands in the first, which the fixture `store` has; return its key."""
    while shards_of(key := await client.schedule(webhook, ttl, **fields), (SHARDS,))[0]:
        pass
    return key


async def put_in_the_first(client: Client, webhook: str, *ttls: float, **fields: Any) -> list[str]:
    """Schedule a task for each ttl under keys of its own, all in the first shard; return their keys."""
    names = (name for number in itertools.count() if hashed_shard(name := f"put-{number}", SHARDS) == 0)
    keys = list(itertools.islice(names, len(ttls)))
    for key, ttl in zip(keys, ttls, strict=True):
        status, content = await client.call("PUT", f"/schedule/{key}", json={"webhook": webhook, "ttl": ttl, **fields})
        assert (status, content["created"]) == (200, True), content
    return keys


async def have_groups(raw: redis.asyncio.Redis) -> None:
    """Make the group of each shard that has none, since all was flushed."""
    for keys in KEYS_OF_SHARDS:
        with contextlib.suppress(ResponseError):
            await raw.xgroup_create(keys.queue, GROUP, "0", mkstream=True)


async def keys_of(raw: redis.asyncio.Redis, key: str) -> Keys:
    """The keys of the shard in which a task stands, or what is kept of it; of the first where that is nowhere."""
    for keys in KEYS_OF_SHARDS:
        if await raw.hexists(keys.tasks, key) or any([await raw.hexists(one, key) for one in keys.segments]):
            return keys
    return KEYS_OF_SHARDS[0]
