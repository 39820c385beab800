"""join: all processes on one Redis agree on one id, whatever stands in its place."""

import re
import socket

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.listeners import LISTENED_MOST, LISTENERS_MOST, Listeners, machine
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


async def test_all_learn_on_what_each_listens(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    api, worker = Deployment(), Deployment()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api.listeners.listen([listener])
        port = listener.getsockname()[1]
    assert api.listeners.ports == {port}
    await worker.join(client)
    assert not worker.listeners.ports
    known = worker.listeners.ports  # whoever holds it sees what comes
    await api.join(client)
    await worker.join(client)
    assert known == {port}
    elsewhere = f"{'0' * 16} 8080 192.0.2.7"
    for text in (elsewhere, "nonsense", f"{'0' * 16} 8081 127.0.0.1"):
        await ask(raw, "ZADD", KEYS.listeners, 10**15, text)
    await worker.join(client)
    assert (known, worker.listeners.addresses) == ({port}, {("192.0.2.7", 8080)})
    # What is told no more is forgotten.
    await ask(raw, "ZADD", KEYS.listeners, 1, elsewhere)
    await ask(raw, "ZADD", KEYS.listeners, 1, api.listeners.told()[0])
    for deployment in (worker, api):
        await deployment.join(client)
    assert (known, worker.listeners.addresses, api.listeners.ports) == (set(), set(), {port})
    assert await ask(raw, "ZSCORE", KEYS.listeners, elsewhere) is None


async def test_as_many_addresses_are_kept_as_may_be(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    for number in range(LISTENERS_MOST + 5):
        await ask(raw, "ZADD", KEYS.listeners, 10**15 + number, f"{'0' * 16} {number} 192.0.2.7")
    deployment = Deployment()
    deployment.listeners.own = [("0.0.0.0", port) for port in range(1, 40)]
    assert len(deployment.listeners.told()) == LISTENED_MOST
    await deployment.join(client)
    assert await ask(raw, "ZCARD", KEYS.listeners) == LISTENERS_MOST
    assert len(deployment.listeners.addresses) == LISTENERS_MOST


def test_a_socket_on_all_addresses_tells_those_towards_redis() -> None:
    listeners = Listeners()
    listeners.own = [("::", 8080)]
    listeners.redis_peers = {("127.0.0.1", 6379)}
    assert listeners.told() == [f"{machine()} 8080 ::", f"{machine()} 8080 127.0.0.1"]


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
