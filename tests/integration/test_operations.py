"""What is done to many tasks, where its first step has no answer: the 503 names the operation, which goes on."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.claim import Unsettled
from tests.scripts.states import FAILURE, claimed, dead
from tests.support.api import api_here
from tests.support.names import KEYS
from tests.support.proxy import Fate, Proxy, proxying
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import Client
from tests.support.store import Store
from tests.support.waiting import wait_until

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


@pytest.mark.parametrize("fate", [Fate.NOT_EXECUTED, Fate.NOT_ANSWERED])
@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("verb", ["cancel?host=a.example", "pause?type=default", "run?rate=1"])
async def test_a_first_step_without_an_answer_is_taken_and_counted_once(
    verb: str, is_named: bool, fate: Fate, api: Client, proxy: Proxy
) -> None:
    path = f"/schedules/{verb}" + ("&operation=night" if is_named else "")
    await _load_script(api, path.partition("?")[0])
    # The name is in the keys of the step, and in what is asked before it where it was given.
    proxy.fate_of = lambda command: fate if _is_step(command) else Fate.ANSWERED
    status, refused = await api.call("POST", path)
    assert (status, refused["code"]) == (503, "redis-unavailable")
    proxy.fate_of = lambda _: Fate.ANSWERED
    before = await dues(api)
    late = (await api.call("POST", "/schedule", json={"webhook": WEBHOOK, "ttl": 700}))[1]["key"]
    for _ in range(2):
        status, done = await api.call("POST", f"/schedules/{verb}&operation={refused['operation']}")
        assert (status, done["next"]) == (200, None), done
        # What came after a step that was taken is not met by that step a second time.
        assert done["touched"] == done["looked_at"] == COUNT + (fate is Fate.NOT_EXECUTED)
    listed = (await api.call("GET", "/schedules"))[1]["data"]
    states = {task["info"]["state"] for task in listed if task["info"]["key"] == late}
    if fate is Fate.NOT_ANSWERED:
        assert states == {"scheduled"}
        assert len(listed) == len(before) + 1


async def _load_script(api: Client, path: str) -> None:
    """Have Redis know the script, by a step for no task: what it does not know is sent twice."""
    assert (await api.call("POST", f"{path}?host=b.example&operation=none"))[0] == 200


def _is_step(command: list[bytes]) -> bool:
    return command[0] == b"EVALSHA" and any(b"operation:" in part for part in command)


async def test_a_replay_whose_answer_is_lost_leaves_what_died_once_more(
    api: Client, proxy: Proxy, server: RedisProcess
) -> None:
    """The step of a replay is taken, its tasks die again, and the client sends it once more."""
    client = RedisClient(f"redis://127.0.0.1:{server.port}", 5, KEYS)
    try:
        await _replayed_twice(api, proxy, Store(client, "worker"))
    finally:
        await client.aclose()


async def _replayed_twice(api: Client, proxy: Proxy, store: Store) -> None:
    for _ in range(COUNT):
        await dead(store)
    await _load_script(api, "/dead/replay")
    proxy.fate_of = lambda command: Fate.NOT_ANSWERED if _is_step(command) else Fate.ANSWERED
    status, refused = await api.call("POST", "/dead/replay")
    assert (status, refused["code"]) == (503, "redis-unavailable")
    proxy.fate_of = lambda _: Fate.ANSWERED
    assert (await api.call("GET", "/dead"))[1]["data"] == []

    async def are_queued() -> bool:
        await store.promote()
        return bool(await store.client.command("XLEN", KEYS.queue) == COUNT)

    await wait_until(are_queued, "what was replayed is queued")
    again = [Unsettled(claim, FAILURE, 0) for claim in await claimed(store, COUNT)]
    assert await store.bury(again) == [1] * COUNT
    assert len((await api.call("GET", "/dead"))[1]["data"]) == COUNT
    for _ in range(2):
        status, done = await api.call("POST", f"/dead/replay?operation={refused['operation']}")
        assert (status, done["touched"], done["next"]) == (200, COUNT, None), done
        assert len((await api.call("GET", "/dead"))[1]["data"]) == COUNT


@pytest.mark.parametrize("verb", ["cancel?host=a.example", "pause?type=default", "run?rate=1000", "shift?by=60"])
async def test_two_requests_with_one_name_at_once_do_all_of_it_once_and_count_all(verb: str, api: Client) -> None:
    tasks = [{"webhook": WEBHOOK, "ttl": 600 + number} for number in range(293)]
    assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    path = f"/schedules/{verb}&operation=night"

    async def follow() -> dict[str, Any]:
        while True:
            status, content = await api.call("POST", path)
            assert status == 200, content
            if content["next"] is None:
                done: dict[str, Any] = content
                return done

    for done in await asyncio.gather(follow(), follow(), follow()):
        assert (done["touched"], done["looked_at"]) == (300, 300)


@pytest.mark.parametrize("verb", ["cancel?", "pause?", "run?", "shift?by=60&"])
async def test_a_step_for_large_tasks_is_of_few(verb: str, api: Client, server: RedisProcess) -> None:
    tasks = [{"webhook": WEBHOOK, "ttl": 600, "type": "large", "data": "x" * 60_000}] * 4
    for _ in range(3):
        assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    status, done = await api.call("POST", f"/schedules/{verb}type=large&operation=night")
    assert (status, done["touched"], done["next"]) == (200, 12, None), done
    async with redis.asyncio.Redis(port=server.port, protocol=2) as raw:
        kept = await raw.get(KEYS.operation("night"))
    # A shift of all of them at once would hold Redis for milliseconds.
    assert isinstance(kept, bytes)
    assert kept.split()[:3] == [b"3", b"12", b"12"]


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

        async def is_all() -> dict[str, Any] | None:
            status, done = await api.call("POST", f"/schedules/shift?by=60&operation={refused['operation']}")
            assert status == 200, done
            return done if done["next"] is None else None

        done = await wait_until(is_all, "all steps are made, in as many requests as they take")
        assert done is not None
        assert done["touched"] == 300 + COUNT
    finally:
        await raw.aclose()
