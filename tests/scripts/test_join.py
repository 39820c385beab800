"""join: all processes on one Redis agree on one id, whatever stands in its place."""

import re

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from tests.scripts.states import ask
from tests.support.names import KEYS
from tests.support.store import Store

ID = "0123456789abcdef" * 2


async def test_the_first_process_makes_the_id_and_all_others_take_it(client: RedisClient) -> None:
    deployments = [Deployment() for _ in range(3)]
    for deployment in deployments:
        await deployment.join(client)
    [made] = {deployment.id for deployment in deployments}
    assert len(made) == 32
    assert await client.command("GET", KEYS.instance) == made.encode()


async def test_a_redis_that_was_emptied_gets_the_same_id_again(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    deployment = Deployment()
    await deployment.join(client)
    before = deployment.id
    await ask(raw, "FLUSHALL")
    await deployment.join(client)
    assert (deployment.id, await client.command("GET", KEYS.instance)) == (before, before.encode())


async def test_another_id_is_taken_and_told(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    deployment, told = Deployment(), list[str]()
    deployment.tell(told.append)
    await deployment.join(client)
    await deployment.join(client)
    await ask(raw, "SET", KEYS.instance, ID)
    await deployment.join(client)
    assert told == [told[0], ID]
    deployment.tell(told.append)
    assert told[2:] == [ID]


async def test_what_foreign_hands_put_there_is_told_of_and_neither_taken_nor_deleted(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    for command in (
        ("SET", KEYS.instance, "x\r\nAuthorization: other"),
        ("SET", KEYS.instance, ""),
        ("SET", KEYS.instance, ID.upper()),
        ("SET", KEYS.instance, ID[1:]),
        ("SET", KEYS.instance, f"{ID}0"),
        ("HSET", KEYS.instance, "field", "value"),
        ("RPUSH", KEYS.instance, ID),
    ):
        deployment = Deployment()
        await deployment.join(client)
        before = deployment.id
        await ask(raw, "DEL", KEYS.instance)
        await ask(raw, *command)
        held = await ask(raw, "DUMP", KEYS.instance)
        for _ in range(2):
            with pytest.raises(StoreRefused, match=f"{re.escape(KEYS.instance)}: WRONGTYPE .* foreign program"):
                await deployment.join(client)
        assert (deployment.id, await ask(raw, "DUMP", KEYS.instance)) == (before, held)
        await ask(raw, "DEL", KEYS.instance)
        await deployment.join(client)
        assert await client.command("GET", KEYS.instance) == before.encode()


async def test_a_full_redis_takes_an_id(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await ask(raw, "CONFIG", "SET", "maxmemory", 1)
    try:
        deployment = Deployment()
        await deployment.join(client)
        assert await client.command("GET", KEYS.instance) == deployment.id.encode()
    finally:
        await ask(raw, "CONFIG", "SET", "maxmemory", 0)


async def test_a_purge_keeps_the_id(client: RedisClient, store: Store) -> None:
    deployment = Deployment()
    await deployment.join(client)
    await store.purge()
    assert await client.command("GET", KEYS.instance) == deployment.id.encode()
