"""A server of several that falls silent under load: requests that need not wait for it do not."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.shard import shard_at
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.support.redis_process import redis_process
from tests.support.service import client_of, serving
from tests.support.shards import scheduled_to_the_last, two_servers
from tests.support.standing_still import standing_still
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

WEBHOOK = "http://127.0.0.1:9/"

BODIES: dict[str, dict[str, Any]] = {
    "plain": {"ttl": 3_600},
    "with options": {"ttl": 3_600, "timeout": 5},
    "a series": {"repeat": {"every": 3_600}},
}

LONGEST_S = 1.5
"""A call to Redis may take twice as long, and so did all behind it."""


@pytest.mark.parametrize("name", BODIES)
async def test_new_tasks_do_not_wait_for_a_silent_shard(name: str, tmp_path: Path) -> None:
    async with two_servers(tmp_path, WEBHOOK, "api") as (_, other, service, client):
        body = {"webhook": WEBHOOK} | BODIES[name]
        statuses, took_s, is_over = Counter[int](), list[float](), asyncio.Event()

        async def schedule() -> None:
            began = time.monotonic()
            status, _ = await client.call("POST", "/schedule", json=body)
            statuses[status] += 1
            if status == 200:
                took_s.append(time.monotonic() - began)

        async def load(tasks: asyncio.TaskGroup) -> None:
            """Ask at a steady rate, however long others wait."""
            while not await stop_or_interval(is_over, 0.005):
                tasks.create_task(schedule())

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            tasks.create_task(load(tasks))
            await wait_until(lambda: len(took_s) > 100, "it is under load")
            await stack.enter_async_context(standing_still(other.pid))
            took_s.clear()
            await wait_until(lambda: service.events("redis-away"), "it is noticed")
            await wait_until(lambda: len(took_s) > 100, "it goes on")
            is_over.set()
        assert max(took_s) < LONGEST_S
        assert set(statuses) <= {200, 503}
        assert statuses[503] <= 8, "those of one call, or none"


async def test_a_token_that_is_known_does_not_wait_for_a_silent_shard(tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        url = f"{one.url},{other.url}"
        async with serving(tmp_path, "api", REDIS_URL=url) as service, client_of(service) as client:
            keys = await scheduled_to_the_last(client, WEBHOOK, 2, 3_600)
            assert shards_of(keys[-1], (2,))[0] == 1
            async with shard_at(url, 0, lambda number: Keys(tag_of("", number), number)).connected(3) as first:
                text = await make_token(first, "read")
            async with client_of(service, text) as caller:
                assert (await caller.call("GET", f"/schedule/{keys[-1]}"))[0] == 200
                async with standing_still(one.pid), asyncio.timeout(20):
                    longest_s = 0.0
                    while not service.events("redis-away"):
                        began = time.monotonic()
                        assert (await caller.call("GET", f"/schedule/{keys[-1]}"))[0] == 200
                        longest_s = max(longest_s, time.monotonic() - began)
                    assert 0.1 < longest_s < LONGEST_S
