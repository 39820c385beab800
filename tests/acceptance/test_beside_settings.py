"""Options beside the service's settings: refused where they can have no effect."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.support.names import KEYS
from tests.support.service import Client, client_of, serving

TASK = {"webhook": "http://127.0.0.1:9/", "ttl": 600}


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    settings = {"RETRIES": "0", "RETRY_TIME": "60"}
    async with serving(tmp_path, REDIS_URL=redis_url, **settings) as process, client_of(process) as client:
        yield client


async def test_what_the_service_makes_of_no_effect_is_refused(service: Client, raw: redis.asyncio.Redis) -> None:
    async def refused(method: str, path: str, content: dict[str, Any], said: str) -> None:
        before = await raw.hgetall(KEYS.tasks)
        status, answer = await service.call(method, path, json=content)
        assert (status, answer["error"], answer["code"]) == (400, said, "contradiction")
        assert await raw.hgetall(KEYS.tasks) == before

    without = "retry_time: has no effect with the service's RETRIES=0; give retries, too, got 5"
    first = "retry_for: must be at least RETRY_TIME, which is 60, or no retry is ever made, got 6"
    await refused("POST", "/schedule", TASK | {"retry_time": 5}, without)
    await refused("PUT", "/schedule/own", TASK | {"retry_time": 5}, without)
    callback = {"on_failure": {"webhook": TASK["webhook"], "retry_time": 5}}
    await refused("POST", "/schedule", TASK | callback, f"on_failure.{without}")
    await refused("POST", "/schedules", {"tasks": [TASK, TASK | {"retry_time": 5}]}, f"tasks[1].{without}")
    _, content = await service.call("POST", "/schedule", json=TASK | {"retries": 2, "retry_time": 5, "retry_for": 6})
    path = f"/schedule/{content['key']}"
    await refused("PATCH", path, {"retries": None}, without)
    await refused("PATCH", path, {"retry_time": None}, first)
    assert (await service.call("PATCH", path, json={"retries": None, "retry_time": None, "retry_for": None}))[0] == 200
