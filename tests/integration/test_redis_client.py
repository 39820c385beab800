"""The connections to Redis, on the event loop of the service."""

import asyncio
from pathlib import Path

import pytest
import uvloop

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.redis_client import RedisClient
from tests.support.proxy import proxying
from tests.support.redis_process import redis_process


def test_connections_that_were_reset_while_idle_are_replaced(tmp_path: Path) -> None:
    async def reset_and_go_on() -> None:
        async with redis_process(tmp_path / "redis") as server, proxying(server.port) as proxy:
            client = RedisClient(proxy.url, 3)
            try:
                for _ in range(3):
                    answers = await asyncio.gather(*(client.command("PING") for _ in range(5)))
                    assert answers == [b"PONG"] * 5
                    await proxy.cut()
                    await proxy.listen()
            finally:
                await client.aclose()

    uvloop.run(reset_and_go_on())


async def test_a_call_that_is_cancelled_leaves_no_connection_taken_and_no_answer_to_another(
    client: RedisClient,
) -> None:
    for number in range(150):  # more than the pool has connections
        call = asyncio.create_task(client.command("BLPOP", "nothing", 0.05))
        await asyncio.sleep(0 if number % 2 else 0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.command("ECHO", str(number)) == str(number).encode()
    assert not client._redis.connection_pool._in_use_connections


def test_what_the_socket_does_not_take_at_once_is_waited_for_and_no_longer_than_the_limit(tmp_path: Path) -> None:
    large = b"x" * 16 * 1_048_576  # more than the buffers of two connections

    async def send_much() -> None:
        async with redis_process(tmp_path / "redis") as server, proxying(server.port) as proxy:
            client = RedisClient(proxy.url, 1)
            try:
                assert await client.command("ECHO", large) == large
                assert await client.command("PING") == b"PONG"
                proxy.stall()
                # Longer than both sends may take; a write without end would be cut off there.
                async with asyncio.timeout(10):
                    with pytest.raises(StoreUnavailable):
                        await client.command("ECHO", large)
                proxy.flow()
                assert await client.command("PING") == b"PONG"
            finally:
                await client.aclose()

    uvloop.run(send_much())
