"""The connections to Redis, on the event loop of the service."""

import asyncio
from pathlib import Path

import uvloop

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
