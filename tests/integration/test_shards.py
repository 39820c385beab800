"""The API on four shards of one Redis: each task is written, read, listed and changed where it stands."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from starlette.requests import Request
from starlette.types import Message

from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.api.own_keys import OwnKeysApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.errors import InvalidField, StoreUnavailable, TaskNotFound
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import FRESH_S, Deployment
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.refusal import told
from redis_scheduler.store.script import Script
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.tag import tag_of
from redis_scheduler.store.views import Views
from redis_scheduler.task.key import hashed_shard, shards_of
from tests.support.asked import asked, calls_of
from tests.support.redis_process import redis_process

SHARDS = 4
WEBHOOK = "http://127.0.0.1:9/"


def request_of(key: str = "", body: bytes = b"", **headers: str) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "path": "/", "headers": given, "path_params": {"key": key}}, receive)


def content_of(answer: Any) -> Any:
    return json.loads(bytes(answer.body))


def body_of(ttl: float = 600, **fields: Any) -> bytes:
    return json.dumps({"webhook": WEBHOOK, "ttl": ttl, **fields}).encode()


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[RedisClient]]:
    async with AsyncExitStack() as stack:
        shards = [Shard(redis_url, Keys(tag_of("", number), number)) for number in range(SHARDS)]
        yield [await stack.enter_async_context(shard.connected(5)) for shard in shards]


@pytest.fixture
def api(clients: list[RedisClient]) -> HostsApi:
    return HostsApi(clients, "writer", 10_000)


async def schedule(api: OwnKeysApi, count: int, ttl: float = 600, **fields: Any) -> list[str]:
    return [
        content_of(await api.schedule(request_of(body=body_of(ttl + number, **fields)), {}))["key"]
        for number in range(count)
    ]


async def where(clients: list[RedisClient], key: str) -> list[int]:
    return [number for number, client in enumerate(clients) if await Views(client).task(key) is not None]


async def all_pages(handler: Any, key: str = "data", **given: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    while True:
        page = content_of(await handler(request_of(), given))
        found += page[key]
        if (cursor := page["next"]) is None:
            return found
        given["cursor"] = cursor


async def test_new_tasks_go_to_the_shards_in_turn_and_are_found_by_their_keys(
    api: HostsApi, clients: list[RedisClient]
) -> None:
    keys = await schedule(api, 40)
    assert Counter(shards_of(key, (SHARDS,))[0] for key in keys) == dict.fromkeys(range(SHARDS), 10)
    for key in keys[:SHARDS]:
        assert await where(clients, key) == [shards_of(key, (SHARDS,))[0]]
        assert content_of(await api.get(request_of(key), {}))["data"]["info"]["key"] == key
        assert (await api.update(request_of(key, b'{"ttl":700}'), {})).status_code == 200
        assert (await api.pause(request_of(key), {})).status_code == 200
        assert (await api.resume(request_of(key), {})).status_code == 200
        await api.cancel(request_of(key), {})
        assert content_of(await api.get(request_of(key), {}))["data"]["info"]["state"] == "cancelled"
        assert await where(clients, key) == []


@pytest.mark.one_server("calls are counted on one server")
async def test_a_task_is_read_once_where_its_key_says(
    api: HostsApi, clients: list[RedisClient], raw: redis.asyncio.Redis
) -> None:
    keys = [key for key in await schedule(api, 40) if len(shards_of(key, (SHARDS,))) > 1]
    await api.get(request_of(keys[0]), {})  # so that Redis knows the script
    async with asked(raw) as commands:
        for key in keys:
            assert content_of(await api.get(request_of(key), {}))["data"]["info"]["key"] == key
    assert calls_of(Script("read"), commands) == len(keys) > 10


async def test_an_own_key_stands_where_its_hash_says_and_is_found_where_one_of_before_does(
    clients: list[RedisClient],
) -> None:
    """From one shard to four, and on to two: a task stays where it was made."""
    generations = Generations.of(1)
    api = HostsApi(clients, "writer", 10_000, generations=generations)
    names = [f"order-{number}" for number in range(12)]
    for numbers in ((1,), (4, 1), (2, 4, 1)):
        grown(generations, *numbers)
        for name in names:
            first = content_of(await api.put(request_of(name, body_of()), {}))
            again = content_of(await api.put(request_of(name, body_of(700)), {}))
            assert (first["created"], again["created"]) == (numbers == (1,) or name not in names[:6], False)
            [stands] = await where(clients, name)
            assert stands in shards_of(name, numbers)
            if numbers == (1,):
                assert stands == 0
            elif name not in names[:6]:
                assert stands == hashed_shard(name, numbers[0])
        for name in names[6:]:
            await api.cancel(request_of(name), {})
            with pytest.raises(TaskNotFound):
                await api.update(request_of(name, b'{"ttl":1}'), {})


def grown(generations: Generations, *numbers: int, in_ms: int = 0) -> None:
    """Have Redis tell these numbers of shards, the newest first; the first of them holds, or does so in so many ms."""
    told = [f"{number} {1_000_000 - at}" for at, number in enumerate(numbers)]
    told[0] = f"{numbers[0]} {1_000_000 + in_ms}"
    generations.hear(time.monotonic(), ",".join(["1000000", *told]).encode())
    generations.use(numbers[0])


async def test_a_request_with_an_idempotency_key_schedules_once_also_after_the_number_has_changed(
    clients: list[RedisClient],
) -> None:
    generations = Generations.of(2)
    api = HostsApi(clients, "writer", 10_000, token="token", generations=generations)
    first = [content_of(await api.schedule(once(number), {}))["key"] for number in range(10)]
    assert len({*first}) == 10
    grown(generations, 4, 2)
    again = [content_of(await api.schedule(once(number), {}))["key"] for number in range(20)]
    assert again[:10] == first
    assert sum([(await Views(client).ledger()).due for client in clients]) == 20
    for key in again:
        assert await where(clients, key) == [shards_of(key, (4,))[0]]
    batch = b'{"tasks":[%b]}' % b",".join([body_of()] * 9)
    keys = [content_of(await api.schedule_batch(once(99, batch), {}))["data"] for _ in range(2)]
    assert keys[0] == keys[1]


def once(number: int, body: bytes = body_of()) -> Request:
    return request_of(body=body, idempotency_key=f"key-{number}")


async def test_while_the_number_of_shards_changes_nothing_is_created_by_it(clients: list[RedisClient]) -> None:
    generations = Generations.of(1)
    api = HostsApi(clients, "writer", 10_000, token="token", generations=generations)
    await api.put(request_of("there", body_of()), {})
    first = content_of(await api.schedule(once(0), {}))
    grown(generations, 4, 1, in_ms=1_500)
    for call in (api.put(request_of("new", body_of()), {}), api.schedule(once(1), {})):
        with pytest.raises(StoreUnavailable, match="is changing") as raised:
            await call
        assert told(raised.value) == "The number of shards is changing, which takes some seconds"
    assert not content_of(await api.put(request_of("there", body_of(9)), {}))["created"]
    assert content_of(await api.schedule(once(0), {})) == first


async def test_a_list_has_all_shards_in_the_order_of_one(api: HostsApi, clients: list[RedisClient]) -> None:
    keys = await schedule(api, 50)
    due_now = [content_of(await api.schedule(request_of(body=body_of(0)), {}))["key"] for _ in range(30)]
    paused = keys[::7]
    for key in paused:
        await api.pause(request_of(key), {})
    waiting = [key for key in keys if key not in paused]
    for limit in ("7", "80"):
        found = [view["info"]["key"] for view in await all_pages(api.list, limit=limit)]
        assert {*found[:30]} == {*due_now}
        assert found[30:] == waiting + paused
    assert [view["info"]["key"] for view in await all_pages(api.list, limit="9", state="paused")] == paused
    parts = [
        [view["info"]["key"] for view in await all_pages(api.list, limit="9", shard=str(one))] for one in range(SHARDS)
    ]
    assert sorted(chain.from_iterable(parts)) == sorted(keys + due_now)
    assert {shards_of(key, (SHARDS,))[0] for key in parts[2]} == {2}
    with pytest.raises(InvalidField, match="shard: must be a number from 0 to 3"):
        await api.list(request_of(), {"shard": "4"})


@pytest.mark.parametrize("given", [{"type": "mail"}, {"label": "team=a"}])
async def test_a_list_by_an_index_has_all_shards(api: HostsApi, given: dict[str, str]) -> None:
    keys = [
        content_of(await api.schedule(request_of(body=body_of(600 + number, labels={"team": "a"})), {"type": "mail"}))[
            "key"
        ]
        for number in range(25)
    ]
    await schedule(api, 10)
    assert [view["info"]["key"] for view in await all_pages(api.list, limit="4", **given)] == keys


async def test_what_is_done_to_many_is_done_in_each_shard_and_goes_on_where_it_was(api: HostsApi) -> None:
    keys = await schedule(api, 40)
    for verb, handler in (("paused", api.pause_many), ("resumed", api.resume_many)):
        done = content_of(await handler(request_of(), {"dry_run": "true"}))
        assert (done["touched"], done["next"]) == (40, None)
        done = content_of(await handler(request_of(), {"operation": verb}))
        assert (done["touched"], done["next"]) == (40, None)
        assert content_of(await handler(request_of(), {"operation": verb}))["touched"] == 40, "it is known"
    before = {view["info"]["key"]: view["info"]["due"] for view in await all_pages(api.list)}
    for _ in range(2):
        assert content_of(await api.shift_many(request_of(), {"by": "60", "operation": "once"}))["touched"] == 40
    after = {view["info"]["key"]: view["info"]["due"] for view in await all_pages(api.list)}
    assert before.keys() == after.keys() == {*keys}
    assert all(before[key] != after[key] for key in keys)
    done = content_of(await api.cancel_many(request_of(), {"key_prefix": keys[0][:1]}))
    assert done["touched"] == sum(key.startswith(keys[0][:1]) for key in keys)


@pytest.mark.one_server("the keys of one server are counted")
async def test_statistics_are_the_sum_of_all_shards_with_a_row_for_each_and_a_purge_is_of_all(
    api: HostsApi, clients: list[RedisClient]
) -> None:
    await schedule(api, 30)
    found = content_of(await api.stats(request_of(), {}))["data"]
    assert (found["running_schedules"], found["counters"]["scheduled"], found["ledger_balanced"]) == (30, 30, True)
    assert [row["shard"] for row in found["shards"]] == [*range(SHARDS)]
    assert sorted(row["states"]["due"] for row in found["shards"]) == [7, 7, 8, 8]
    assert {row["worker_seen"] for row in found["shards"]} == {None}
    assert found["total_redis_keys"] == await clients[0].command("DBSIZE"), "they stand on one server"
    assert content_of(await api.purge(request_of(), {}))["data"] == 30
    found = content_of(await api.stats(request_of(), {}))["data"]
    assert (found["running_schedules"], found["counters"]["purged"], found["ledger_balanced"]) == (0, 30, True)


async def test_an_api_is_ready_while_a_shard_answers_and_knows_its_deployment_in_each(
    client: RedisClient, tmp_path: Path
) -> None:
    async with (
        redis_process(tmp_path) as other,
        Shard(other.url, client.keys).connected(1) as second,
    ):
        deployments = Deployment(), Deployment()
        probes = Probes(deployments, [client, second], is_stopping=lambda: False, document=lambda: (b"", ""))
        lone = Probes(deployments[1:], [second], is_stopping=lambda: False, document=lambda: (b"", ""))
        for one in (probes, lone):
            assert (await one.readiness(request_of(""), {})).status_code == 200
        for each in deployments:  # it was ready once one of them had answered
            await each.joined.wait()
        assert deployments[0].id != deployments[1].id
        assert [await probes.is_own([one]) for one in (deployments[0].id.encode(), b"0" * 32)] == [True, False]
        await other.kill()
        for _ in range(5):
            await asyncio.sleep(FRESH_S)  # what it heard the last time counts no more
            assert (await probes.readiness(request_of(""), {})).status_code == 200, "new tasks go to the other"
        assert (await lone.readiness(request_of(""), {})).status_code == 503


async def test_a_shard_that_is_away_is_passed_over_and_named(
    clients: list[RedisClient], redis_url: str, tmp_path: Path
) -> None:
    async with redis_process(tmp_path) as other:
        shard = Shard(other.url, Keys(tag_of("", 1), 1))
        async with shard.connected(0.5) as second:
            second.outage.shard = 1
            api = HostsApi([clients[0], second, *clients[2:]], "writer", 10_000)
            keys = await schedule(api, 8)
            [lost, *_] = [key for key in keys if shards_of(key, (SHARDS,))[0] == 1]
            await other.kill()
            # Nobody takes a connection there, so the batch that meets this is not sent.
            assert 1 not in {shards_of(key, (SHARDS,))[0] for key in await schedule(api, 12)}
            assert second.outage.is_away
            for call in (api.get(request_of(lost), {}), api.list(request_of(), {}), api.stats(request_of(), {})):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert caught.value.shard == 1
            for key in keys:
                if shards_of(key, (SHARDS,))[0] != 1:
                    assert (await api.get(request_of(key), {})).status_code == 200
            assert len(await all_pages(api.list, shard="0")) >= 2
