"""A server of several that takes some connections and turns others away: each new task is taken, once, by another."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.audit import plain
from tests.support.proxy import proxying
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client, Process, client_of, serving
from tests.support.shards import scheduled_to_the_last

WEBHOOK = "http://127.0.0.1:9/"
CONNECTIONS = 1_000


@asynccontextmanager
async def two_redis(folder: Path) -> AsyncIterator[tuple[RedisProcess, RedisProcess]]:
    async with redis_process(folder / "one") as one, redis_process(folder / "other") as other:
        yield one, other


@asynccontextmanager
async def scheduled_in_both(folder: Path, *urls: str) -> AsyncIterator[tuple[Process, Client, list[str]]]:
    """An API on two servers that new tasks go to, and the keys of some."""
    url = ",".join(urls)
    async with serving(folder, "api", REDIS_URL=url) as service, client_of(service) as client:
        async with serving(folder, "worker", REDIS_URL=url):  # it brings the second shard
            keys = await scheduled_to_the_last(client, WEBHOOK, 2, 3_600)
        yield service, client, keys


async def schedule_many(client: Client, keys: list[str]) -> Counter[int]:
    """Schedule tasks, and read some beside them, so that the API needs more than one connection; return what the reads
    came to."""
    reads = asyncio.gather(*(client.call("GET", f"/schedule/{key}") for key in random.sample(keys, 2)))
    keys += await asyncio.gather(*(client.schedule(WEBHOOK, 3_600) for _ in range(4)))
    return Counter(status for status, _ in await reads)


async def see_each_once(service: Process, client: Client, keys: list[str]) -> None:
    assert {event["shard"] for event in service.events("redis-away")} == {1}
    assert (await client.stats())["running_schedules"] == len(keys)


async def test_new_tasks_are_taken_while_a_server_has_few_connections_to_give(tmp_path: Path) -> None:
    read = Counter[int]()
    async with AsyncExitStack() as stack:
        one, other = await stack.enter_async_context(two_redis(tmp_path))
        at = await stack.enter_async_context(scheduled_in_both(tmp_path, one.url, other.url))
        service, client, keys = at
        admin = await stack.enter_async_context(plain(other.url))
        for most in (4, 3, 2, 1):  # one is the admin's own
            await admin.config_set("maxclients", most)
            for _ in range(10):
                for kind in ("normal", "pubsub"):
                    await admin.client_kill_filter(_type=kind, skipme=True)
                await asyncio.sleep(0.01)  # what is sent to a connection that is just killed may be executed
                read += await schedule_many(client, keys)
        await admin.config_set("maxclients", CONNECTIONS)
        assert read[503] > 0
        await see_each_once(service, client, keys)


@pytest.mark.parametrize("part", [2, 3])
async def test_new_tasks_are_taken_while_a_proxy_resets_a_part_of_the_connections(part: int, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, other = await stack.enter_async_context(two_redis(tmp_path))
        proxy = await stack.enter_async_context(proxying(other.port))
        at = await stack.enter_async_context(scheduled_in_both(tmp_path, one.url, proxy.url))
        service, client, keys = at
        proxy.takes = lambda: random.randrange(part) > 0
        for _ in range(100):
            proxy.cut_links()
            await asyncio.sleep(0.01)  # what is sent to a connection that is just cut may be executed
            await schedule_many(client, keys)
        proxy.takes = lambda: True
        await see_each_once(service, client, keys)
