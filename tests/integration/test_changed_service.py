"""A service that serves less than before: what it has answered it answers again, and tasks stay as they are."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.limits import DEFAULT
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP
from tests.integration.test_idempotency import forget, kept, sent, serving
from tests.scripts.states import FAILURE
from tests.support.names import KEYS_OF_SHARDS
from tests.support.service import Client
from tests.support.shards import keys_of

WEBHOOK = "http://127.0.0.1:9/"
TASK = {"webhook": WEBHOOK, "ttl": 600, "timeout": 500, "method": "PUT"}
BATCH = {"tasks": [TASK | {"data": number} for number in range(250)]}
ROUTES = [("/schedule", TASK), ("/schedules", BATCH)]
OLD_WORKER = "host-4711-0a1b2c3d"


@pytest.fixture
async def before(clients: list[RedisClient]) -> AsyncIterator[Client]:
    async with serving(clients) as user:
        yield user


@pytest.fixture
async def lower(clients: list[RedisClient]) -> AsyncIterator[Client]:
    """The API with a lower MAX_TIMEOUT."""
    async with serving(clients, replace(DEFAULT, timeout_most_s=100)) as user:
        yield user


async def meet_old_worker(raw: redis.asyncio.Redis) -> None:
    for keys in KEYS_OF_SHARDS:
        await raw.xgroup_createconsumer(keys.queue, GROUP, OLD_WORKER)


@pytest.mark.parametrize(("path", "content"), ROUTES)
async def test_a_request_that_is_sent_again_gets_its_first_answer_whatever_is_served_now(
    before: Client, lower: Client, raw: redis.asyncio.Redis, path: str, content: dict[str, Any]
) -> None:
    _, first, _ = await sent(before, path, content)
    count = await kept(raw)
    assert await sent(lower, path, content) == (200, first, "true")
    status, refused, _ = await sent(lower, path, content, "second")
    assert (status, refused["field"]) == (400, "timeout")
    other: dict[str, Any] = content | ({"ttl": 1} if path == "/schedule" else {"tasks": [TASK]})
    assert (await sent(lower, path, other))[0] == 400
    assert await kept(raw) == count


@pytest.mark.parametrize(("path", "content"), ROUTES)
async def test_an_older_worker_does_not_change_an_answer(
    before: Client, clients: list[RedisClient], raw: redis.asyncio.Redis, path: str, content: dict[str, Any]
) -> None:
    _, first, _ = await sent(before, path, content)
    await meet_old_worker(raw)
    async with serving(clients) as api:
        assert await sent(api, path, content) == (200, first, "true")
        assert (await sent(api, path, content, "second"))[1]["code"] == "older-worker"


async def test_of_a_batch_that_was_written_in_part_the_rest_is_refused(
    before: Client, lower: Client, raw: redis.asyncio.Redis
) -> None:
    _, first, _ = await sent(before, "/schedules", BATCH)
    await forget(raw, first["data"][-1:])
    status, refused, _ = await sent(lower, "/schedules", BATCH)
    assert (status, refused["field"]) == (400, "timeout")


async def test_a_task_keeps_what_it_was_given(before: Client, lower: Client) -> None:
    _, content = await before.call("POST", "/schedule", json=TASK)
    path = f"/schedule/{content['key']}"
    assert (await lower.call("PATCH", path, json={"ttl": 700, "headers": {"X-A": "1"}}))[0] == 200
    assert (await lower.call("PATCH", path, json={"timeout": 400}))[1]["field"] == "timeout"
    assert (await lower.call("GET", path))[1]["data"]["info"]["timeout"] == 500


async def test_a_dead_letter_that_is_replayed_keeps_what_it_was_given(
    before: Client, lower: Client, raw: redis.asyncio.Redis
) -> None:
    _, content = await before.call("POST", "/schedule", json=TASK)
    key = content["key"]
    keys = await keys_of(raw, key)
    await raw.zrem(keys.due, key)
    await raw.zadd(keys.dead, {key: 1})
    await raw.hset(keys.failures, key, b"1 " + FAILURE)
    await raw.hincrby(keys.counters, "died", 1)
    replayed = f"/dead/{key}/replay"
    assert (await lower.call("POST", replayed, json={"timeout": 400}))[1]["field"] == "timeout"
    assert (await lower.call("POST", replayed, json={"ttl": 60}))[0] == 200


async def test_beside_an_older_worker_a_task_can_be_changed_but_for_its_options(
    before: Client, clients: list[RedisClient], raw: redis.asyncio.Redis
) -> None:
    _, content = await before.call("POST", "/schedule", json=TASK)
    path = f"/schedule/{content['key']}"
    await meet_old_worker(raw)
    async with serving(clients) as api:
        assert (await api.call("PATCH", path, json={"ttl": 700, "data": 2, "method": None}))[0] == 200
        assert (await api.call("PATCH", path, json={"retries": 2}))[1]["code"] == "older-worker"
        assert (await api.call("PATCH", path, json={"body": "text"}))[1]["code"] == "older-worker"


async def test_a_contradiction_that_a_task_has_already_refuses_no_other_change(
    before: Client, raw: redis.asyncio.Redis
) -> None:
    """An older version, or one with other settings, may have taken it."""
    _, content = await before.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 600, "retry_for": 100})
    key = content["key"]
    tasks = (await keys_of(raw, key)).tasks
    record: Any = await raw.hget(tasks, key)
    await raw.hset(tasks, key, record.replace(b'"retry_for":100', b'"ack_within":10'))
    assert (await before.call("PATCH", f"/schedule/{key}", json={"timeout": 5}))[0] == 200
    status, refused = await before.call("PATCH", f"/schedule/{key}", json={"ack_within": 9})
    assert (status, refused["field"]) == (400, "ack_within")
    assert (await before.call("PATCH", f"/schedule/{key}", json={"ack_within": None, "ttl": 1}))[0] == 200
