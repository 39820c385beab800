"""The audit that every test on Redis ends with: the product's own."""

import redis.asyncio

from redis_scheduler.audit import audit
from redis_scheduler.redis_client import RedisClient
from redis_scheduler.views import Views


async def problems(raw: redis.asyncio.Redis) -> list[str]:
    """Return what the audit finds wrong, seen by a client of the service's own."""
    at = raw.connection_pool.connection_kwargs
    url = f"unix://{at['path']}" if "path" in at else f"redis://{at['host']}:{at['port']}"
    client = RedisClient(f"{url}?db={at.get('db', 0)}", 3)
    try:
        return [finding.text async for finding in audit(client)]
    finally:
        await client.aclose()


async def assert_balanced(raw: redis.asyncio.Redis, client: RedisClient) -> None:
    """Fail if a task is lost, stands in two places, or is not accounted for."""
    assert await problems(raw) == []
    ledger = await Views(client).ledger()
    assert ledger.is_balanced, ledger
