"""The API on more shards than there are today: a key's task is written and read where `shard_of` says."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from redis_scheduler.api import shards
from redis_scheduler.api.handlers import Api
from redis_scheduler.api.many import ManyApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.keys import Keys, tag_of
from redis_scheduler.store.shard import Shard
from redis_scheduler.store.views import Views
from redis_scheduler.task.key import new_task_key, shard_of
from tests.support.redis_process import redis_process
from tests.support.waiting import wait_until

NAMESPACES = ["", "b", "c"]


def request_of(key: str, body: bytes = b"") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "headers": [], "path_params": {"key": key}}, receive)


def chosen(key: str) -> int:
    return ord(key[0]) % len(NAMESPACES)


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[RedisClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Shard(redis_url, Keys(tag_of(name))).connected(5)) for name in NAMESPACES
        ]


async def test_each_call_goes_to_the_shard_of_its_key(
    clients: list[RedisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "shard_of", chosen)
    api = Api(clients, "writer", 1_000)
    keys: list[str] = []
    while {chosen(key) for key in keys} != {0, 1, 2}:
        answer = await api.schedule(request_of("", b'{"webhook":"http://127.0.0.1:9/","ttl":600}'), {})
        keys.append(json.loads(bytes(answer.body))["key"])
    for key in keys:
        stands = [await Views(client).task(key) is not None for client in clients]
        assert stands == [shard == chosen(key) for shard in range(len(clients))]
        found: Any = json.loads(bytes((await api.get(request_of(key), {})).body))
        assert found["data"]["info"]["key"] == key
        assert (await api.update(request_of(key, b'{"ttl":700}'), {})).status_code == 200
        await api.cancel(request_of(key), {})
        found = json.loads(bytes((await api.get(request_of(key), {})).body))
        assert found["data"]["info"]["state"] == "cancelled"


async def test_statistics_are_the_sum_of_all_shards_and_a_purge_is_of_all(
    clients: list[RedisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "shard_of", chosen)
    api = ManyApi(clients, "writer", 1_000)
    for _ in range(30):
        await api.schedule(request_of("", b'{"webhook":"http://127.0.0.1:9/","ttl":600}'), {})
    stand = [(await Views(client).ledger()).due for client in clients]
    assert sum(stand) == 30
    assert max(stand) < 30
    assert await statistics_of(api) == {"due": 30, "scheduled": 30, "purged": 0, "balanced": True}
    assert json.loads(bytes((await api.purge(request_of(""), {})).body))["data"] == 30
    assert [(await Views(client).ledger()).due for client in clients] == [0, 0, 0]
    assert await statistics_of(api) == {"due": 0, "scheduled": 30, "purged": 30, "balanced": True}


async def statistics_of(api: Api) -> dict[str, Any]:
    data = json.loads(bytes((await api.stats(request_of(""), {})).body))["data"]
    counters = {name: data["counters"][name] for name in ("scheduled", "purged")}
    return {"due": data["states"]["due"], "balanced": data["ledger_balanced"]} | counters


async def test_an_api_is_ready_while_each_shard_answers_and_knows_its_deployment_in_each(
    client: RedisClient, tmp_path: Path
) -> None:
    async with (
        redis_process(tmp_path) as other,
        Shard(other.url, client.keys).connected(1) as second,
    ):
        deployments = Deployment(), Deployment()
        probes = Probes(
            [(deployments[0], client), (deployments[1], second)], is_stopping=lambda: False, document=lambda: (b"", "")
        )
        assert (await probes.readiness(request_of(""), {})).status_code == 200
        ids = [deployment.id.encode() for deployment in deployments]
        assert len({*ids}) == 2
        assert [await probes.is_own([one]) for one in (*ids, b"0" * 32)] == [True, True, False]
        await other.kill()
        await wait_until(lambda: is_away(probes), "it is not ready")


async def is_away(probes: Probes) -> bool:
    return (await probes.readiness(request_of(""), {})).status_code == 503


def test_today_each_key_stands_in_the_only_shard() -> None:
    assert {shard_of(new_task_key()) for _ in range(1_000)} | {shard_of("foreign")} == {0}
