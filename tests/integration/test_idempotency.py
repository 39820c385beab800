"""Idempotency-Key: the same request sent again gets the first answer again, and schedules nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.api.limits import DEFAULT, Limits
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.written import IDEMPOTENCY_ID_BYTES
from tests.support.api import api_here
from tests.support.names import KEYS_OF_SHARDS, SHARDS
from tests.support.service import Client
from tests.support.shards import keys_of
from tests.support.tokens import make_token

WEBHOOK = "http://127.0.0.1:9/"
TASK = {"webhook": WEBHOOK, "ttl": 600, "data": {"order": 17}}
BATCH = {"tasks": [TASK | {"data": number} for number in range(450)]}
ROUTES = [("/schedule", TASK), ("/schedules", BATCH)]


@asynccontextmanager
async def serving(clients: Sequence[RedisClient], limits: Limits = DEFAULT) -> AsyncIterator[Client]:
    async with api_here(*clients, limits=limits) as port, aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{port}")


@pytest.fixture
async def api(clients: list[RedisClient]) -> AsyncIterator[Client]:
    async with serving(clients) as user:
        yield user


async def sent(
    api: Client, path: str, content: dict[str, Any], key: str | list[str] | None = "first"
) -> tuple[int, dict[str, Any], str | None]:
    """Send a request; return its status, its content, and whether it says that it was answered before."""
    keys = [key] if isinstance(key, str) else key or []
    headers = [*api.headers.items(), *(("Idempotency-Key", one) for one in keys)]
    async with api.session.post(api.url + path, headers=headers, json=content) as response:
        return response.status, await response.json(), response.headers.get("Idempotent-Replay")


async def kept(raw: redis.asyncio.Redis) -> int:
    return sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS])


async def ids_in(raw: redis.asyncio.Redis, keys: Keys) -> dict[bytes, bytes]:
    """What stands for each id in a shard."""
    found: Any = await raw.hgetall(keys.idempotency)
    ids: dict[bytes, bytes] = found
    return ids


async def kept_ids(raw: redis.asyncio.Redis) -> dict[bytes, bytes]:
    """What stands for each id."""
    return {name: value for keys in KEYS_OF_SHARDS for name, value in (await ids_in(raw, keys)).items()}


async def forget(raw: redis.asyncio.Redis, lost: Sequence[str]) -> None:
    """Take away the ids of these tasks."""
    for keys in KEYS_OF_SHARDS:
        for name, value in (await ids_in(raw, keys)).items():
            if value.split()[1].decode() in lost:
                await raw.hdel(keys.idempotency, name)
                await raw.zrem(keys.idempotency_ends, name)


@pytest.mark.parametrize(("path", "content"), ROUTES)
async def test_the_same_request_gets_the_first_answer_again(
    api: Client, raw: redis.asyncio.Redis, path: str, content: dict[str, Any]
) -> None:
    status, first, replay = await sent(api, path, content)
    assert (status, replay) == (200, None)
    count = await kept(raw)
    assert count == len(content.get("tasks", [1]))
    assert await sent(api, path, content) == (200, first, "true")
    assert await kept(raw) == count
    assert await sent(api, path, content, "second") != (200, first, "true")
    assert await kept(raw) == 2 * count
    status, _, replay = await sent(api, path, content, None)
    assert (status, replay) == (200, None)
    assert await kept(raw) == 3 * count


async def test_an_answer_stays_when_the_task_is_gone(api: Client) -> None:
    _, first, _ = await sent(api, "/schedule", TASK)
    await api.call("DELETE", f"/schedule/{first['key']}")
    assert await sent(api, "/schedule", TASK) == (200, first, "true")
    assert (await api.stats())["running_schedules"] == 0


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/schedule", TASK | {"ttl": 601}),
        ("/schedule", TASK | {"data": None}),
        ("/schedule?type=mail", TASK),
        ("/schedules", {"tasks": [TASK]}),
        ("/schedules", BATCH),
    ],
)
async def test_another_request_with_the_same_key_is_refused(
    api: Client, raw: redis.asyncio.Redis, path: str, content: dict[str, Any]
) -> None:
    await sent(api, "/schedule", TASK)
    status, answer, _ = await sent(api, path, content)
    assert (status, answer["code"], answer["field"]) == (422, "idempotency-key-reused", "Idempotency-Key")
    assert answer["error"].endswith(', got "first"')
    assert "tasks" not in answer
    assert await kept(raw) == 1


async def test_of_a_larger_batch_with_the_key_of_another_nothing_is_written(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    _, first, _ = await sent(api, "/schedules", {"tasks": BATCH["tasks"][:3]})
    for tasks in (BATCH["tasks"], BATCH["tasks"][:4], BATCH["tasks"][:2]):
        status, answer, _ = await sent(api, "/schedules", {"tasks": tasks})
        assert (status, answer["code"], "tasks" in answer) == (422, "idempotency-key-reused", False)
        assert await kept(raw) == len(await kept_ids(raw)) == 3
    assert await sent(api, "/schedules", {"tasks": BATCH["tasks"][:3]}) == (200, first, "true")


async def test_of_two_batches_with_one_key_at_once_one_is_written(api: Client, raw: redis.asyncio.Redis) -> None:
    batches = [{"tasks": BATCH["tasks"][:count]} for count in (5, 450, 210)]
    found = await asyncio.gather(*(sent(api, "/schedules", batch) for batch in batches))
    assert sorted(status for status, _, _ in found) == [200, 422, 422]
    written = next(answer for status, answer, _ in found if status == 200)
    assert await kept(raw) == len(await kept_ids(raw)) == len(written["data"])


async def test_a_batch_of_which_a_part_was_written_goes_on(api: Client, raw: redis.asyncio.Redis) -> None:
    _, first, _ = await sent(api, "/schedules", BATCH)
    # As if the second and the third call had not come to Redis.
    lost = first["data"][200:]
    for key in lost:
        await api.call("DELETE", f"/schedule/{key}")
    await forget(raw, lost)
    status, again, replay = await sent(api, "/schedules", BATCH)
    assert (status, replay) == (200, None)
    assert again["tasks"][:200] == first["tasks"][:200]
    assert not set(again["data"]) & set(lost)
    assert await kept(raw) == 450
    assert await sent(api, "/schedules", BATCH) == (200, again, "true")


async def test_of_many_at_once_one_schedules(api: Client, raw: redis.asyncio.Redis) -> None:
    found = await asyncio.gather(*(sent(api, "/schedule", TASK) for _ in range(20)))
    assert len({answer["key"] for _, answer, _ in found}) == 1
    assert [replay for _, _, replay in found].count(None) == 1
    assert await kept(raw) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", 'must be 1 to 255 visible ASCII characters, got ""'),
        ("x" * 256, 'must be 1 to 255 visible ASCII characters, got "' + "x" * 60 + '…"'),
        ("x" * 10_000, 'must be 1 to 255 visible ASCII characters, got "' + "x" * 60 + '…"'),
        ("a b", 'must be 1 to 255 visible ASCII characters, got "a b"'),
        ("ü", "must be 1 to 255 visible ASCII characters, got "),
        (["a", "b"], "is given twice"),
    ],
)
@pytest.mark.parametrize(("path", "content"), ROUTES)
async def test_a_key_that_is_none_is_refused(
    api: Client, raw: redis.asyncio.Redis, key: str | list[str], said: str, path: str, content: dict[str, Any]
) -> None:
    status, answer, _ = await sent(api, path, content, key)
    assert (status, answer["field"]) == (400, "Idempotency-Key")
    assert answer["error"].startswith(f"Idempotency-Key: {said}")
    assert await kept(raw) == len(await kept_ids(raw)) == 0


async def test_what_is_kept_holds_neither_header_nor_body(api: Client, raw: redis.asyncio.Redis) -> None:
    await sent(api, "/schedule", TASK, "order-17")
    [(name, value)] = (await kept_ids(raw)).items()
    assert len(name) == len(value.split()[0]) == 22
    assert b"order" not in name + value


async def test_more_keys_than_may_be_kept_are_refused(clients: list[RedisClient], raw: redis.asyncio.Redis) -> None:
    of_each = 250 // SHARDS
    limits = replace(DEFAULT, idempotency_bytes=of_each * IDEMPOTENCY_ID_BYTES)
    async with serving(clients, limits) as api:
        first = await sent(api, "/schedule", TASK)
        status, answer, _ = await sent(api, "/schedules", BATCH, "batch")
        assert (status, answer["code"]) == (507, "idempotency-full")
        outcomes = [one["outcome"] for one in answer["tasks"]]
        assert await kept(raw) == 1 + outcomes.count("written")
        assert SHARDS > 1 or outcomes == ["written"] * 249 + ["not written"] * 201
        assert of_each in [len(await ids_in(raw, keys)) for keys in KEYS_OF_SHARDS]
        # Others may have room still.
        for number in range(250 * SHARDS):
            status, answer, _ = await sent(api, "/schedule", TASK, f"another-{number}")
            if status != 200:
                break
        assert (status, answer["code"]) == (507, "idempotency-full")
        assert "tasks" not in answer
        assert await kept(raw) == len(await kept_ids(raw)) == 1 + outcomes.count("written") + number
        assert max([len(await ids_in(raw, keys)) for keys in KEYS_OF_SHARDS]) == of_each
        assert await sent(api, "/schedule", TASK) == (200, first[1], "true")
        assert (await sent(api, "/schedule", TASK, None))[0] == 200


async def test_one_token_leaves_room_for_the_keys_of_others(clients: list[RedisClient]) -> None:
    limits = replace(DEFAULT, idempotency_bytes=20 * IDEMPOTENCY_ID_BYTES)
    async with serving(clients, limits) as api:
        greedy, other = [api.with_token(await make_token(clients[0], "schedule")) for _ in range(2)]
        status, answer, _ = await sent(greedy, "/schedules", BATCH, "batch")
        assert (status, answer["code"]) == (507, "idempotency-full")
        outcomes = [one["outcome"] for one in answer["tasks"]]
        assert (outcomes.count("written"), outcomes.count("not written")) == (10 * SHARDS, 450 - 10 * SHARDS)
        assert outcomes[:10] == ["written"] * 10
        status, answer, _ = await sent(greedy, "/schedule", TASK, "another")
        assert (status, answer["code"]) == (507, "idempotency-full")
        assert "this token" in answer["error"]
        for user in (other, api):
            first = await sent(user, "/schedule", TASK)
            assert first[0] == 200
            assert await sent(user, "/schedule", TASK) == (200, first[1], "true")


async def test_after_its_time_a_key_is_new(clients: list[RedisClient], raw: redis.asyncio.Redis) -> None:
    async with serving(clients, replace(DEFAULT, idempotency_ttl_s=100)) as api:
        _, first, _ = await sent(api, "/schedule", TASK)
        keys = await keys_of(raw, first["key"])
        ends: Any = await raw.zrange(keys.idempotency_ends, 0, -1, withscores=True)
        [(name, end_ms)] = ends
        seconds, _ = await raw.time()
        assert 90 < end_ms / 1000 - seconds <= 101
        await raw.zadd(keys.idempotency_ends, {name: 1})
        status, second, replay = await sent(api, "/schedule", TASK)
        assert (status, replay) == (200, None)
        assert second["key"] != first["key"]


async def test_the_statistics_say_how_many_keys_are_kept(api: Client) -> None:
    await sent(api, "/schedules", BATCH)
    assert (await api.stats())["idempotency"] == {"keys": 450, "bytes": 450 * IDEMPOTENCY_ID_BYTES}


async def test_a_purge_forgets_the_keys(api: Client, raw: redis.asyncio.Redis) -> None:
    await sent(api, "/schedule", TASK)
    await api.call("POST", "/purge")
    for keys in KEYS_OF_SHARDS:
        assert await raw.exists(keys.idempotency, keys.idempotency_ends) == 0
    assert (await sent(api, "/schedule", TASK))[2] is None
