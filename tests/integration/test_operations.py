"""What is done to many tasks, where its first step has no answer: the 503 names the operation, which goes on."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from tests.support.api import api_here
from tests.support.names import KEYS
from tests.support.proxy import Fate, Proxy, proxying
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client

WEBHOOK = "http://a.example/"
COUNT = 7


@pytest.fixture
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisProcess]:
    async with redis_process(tmp_path_factory.mktemp("redis") / "one") as found:
        yield found


@pytest.fixture
async def proxy(server: RedisProcess) -> AsyncIterator[Proxy]:
    async with proxying(server.port) as found:
        yield found


@pytest.fixture
async def api(proxy: Proxy) -> AsyncIterator[Client]:
    """A client of an API in this process, with tasks."""
    client = RedisClient(proxy.url, 0.5, KEYS)
    try:
        await client.create_group()
        async with api_here(client) as port, aiohttp.ClientSession() as session:
            api = Client(session, f"http://127.0.0.1:{port}")
            tasks = [{"webhook": WEBHOOK, "ttl": 600 + number} for number in range(COUNT)]
            assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
            yield api
    finally:
        await client.aclose()


async def dues(api: Client) -> list[datetime]:
    listed = (await api.call("GET", "/schedules"))[1]["data"]
    return [datetime.fromisoformat(task["info"]["due"]) for task in listed]


@pytest.mark.parametrize("fate", [Fate.NOT_EXECUTED, Fate.NOT_ANSWERED])
async def test_a_shift_whose_first_step_has_no_answer_moves_each_task_once(
    fate: Fate, api: Client, proxy: Proxy
) -> None:
    before = await dues(api)

    def fate_of(command: list[bytes]) -> Fate:
        return fate if any(b"operation:" in part for part in command) else Fate.ANSWERED

    proxy.fate_of = fate_of
    status, refused = await api.call("POST", "/schedules/shift?by=60")
    assert (status, refused["code"]) == (503, "redis-unavailable")
    proxy.fate_of = lambda _: Fate.ANSWERED
    for _ in range(2):
        status, done = await api.call("POST", f"/schedules/shift?by=60&operation={refused['operation']}")
        assert (status, done["touched"], done["next"]) == (200, COUNT, None), done
        assert await dues(api) == [due + timedelta(seconds=60) for due in before]


@pytest.mark.parametrize("verb", ["cancel?host=a.example", "pause?", "run?rate=1", "shift?by=5"])
async def test_without_its_redis_an_operation_is_named_and_a_dry_run_is_none(
    verb: str, api: Client, proxy: Proxy
) -> None:
    assert len(await dues(api)) == COUNT  # so it knows how many shards there are
    await proxy.cut()
    status, refused = await api.call("POST", f"/schedules/{verb}&dry_run=true")
    assert (status, "operation" in refused) == (503, False)
    status, refused = await api.call("POST", f"/schedules/{verb}")
    assert status == 503
    named = refused.get("operation")
    # A run asks for the time first: without that nothing began.
    assert (named is None) == verb.startswith("run")
    await proxy.listen()
    query = verb if named is None else f"{verb}&operation={named}"
    status, done = await api.call("POST", f"/schedules/{query}")
    assert (status, done["touched"], done["next"]) == (200, COUNT, None), done


async def test_where_redis_becomes_full_in_the_middle_the_answer_says_how_far_it_is(
    api: Client, proxy: Proxy, server: RedisProcess
) -> None:
    raw = redis.asyncio.Redis(port=server.port, protocol=2)
    try:
        for _ in range(3):
            tasks = [{"webhook": WEBHOOK, "ttl": 600}] * 100
            assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
        await raw.config_set("maxmemory", 1)
        status, refused = await api.call("POST", "/schedules/shift?by=60")
        assert (status, refused["code"]) == (507, "redis-full")
        await raw.config_set("maxmemory", 0)
        status, done = await api.call("POST", f"/schedules/shift?by=60&operation={refused['operation']}")
        assert (status, done["touched"], done["next"]) == (200, 300 + COUNT, None), done
    finally:
        await raw.aclose()
