"""A task remembers whose token scheduled it, and so does all that comes of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.record import read_record
from tests.support.names import KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.tokens import ALL_RIGHTS, id_of, make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/"
BODY: dict[str, Any] = {"webhook": HOOK, "ttl": 3_600}


async def owner(client: RedisClient, key: str) -> str | None:
    """The id of the token in a task's record."""
    return read_record(await record_of(client, key)).token


async def record_of(client: RedisClient, key: str) -> bytes:
    """The record of a task, in whichever shard it stands."""
    [found] = filter(None, [await client.command("HGET", keys.tasks, key) for keys in KEYS_OF_SHARDS])
    return bytes(found)


async def user(api: Client, client: RedisClient, *can: str) -> tuple[Client, str]:
    """Whoever has a token with these rights, and its id."""
    text = await make_token(client, *can)
    return api.with_token(text), id_of(text)


async def shown(asked: Client, path: str) -> Any:
    status, content = await asked.call("GET", path)
    assert status == 200, content
    return content["data"]


@pytest.mark.parametrize("fields", [{}, {"retries": 3, "labels": {"a": "b"}}, {"repeat": {"every": 60}}, {"body": "x"}])
async def test_api_auth_and_admins_see_whose_a_task_is(
    fields: dict[str, Any], api: Client, client: RedisClient
) -> None:
    (one, one_id), (admin, _) = await user(api, client, "schedule", "read"), await user(api, client, "read", "admin")
    key = (await one.call("POST", "/schedule", json=BODY | fields))[1]["key"]
    for asked, wanted in ((api, one_id), (admin, one_id), (one, None)):
        assert (await shown(asked, f"/schedule/{key}"))["info"].get("token") == wanted
        assert [task["info"].get("token") for task in await shown(asked, "/schedules")] == [wanted]
    await api.call("POST", "/purge")


async def test_a_task_of_api_auth_has_the_bytes_that_it_had(api: Client, client: RedisClient) -> None:
    for fields, wanted in (
        ({}, b'"webhook":"http://127.0.0.1:9/","ttl":3600,"data":7}'),
        ({"retries": 3}, b'"head":55,"webhook":"http://127.0.0.1:9/","ttl":3600,"retries":3,"data":7}'),
    ):
        key = (await api.call("POST", "/schedule", json=BODY | {"data": 7} | fields))[1]["key"]
        assert (await record_of(client, key)).partition(b",")[2] == wanted
        assert "token" not in (await shown(api, f"/schedule/{key}"))["info"]
    await api.call("POST", "/purge")


async def test_a_change_and_a_replay_leave_it_and_a_put_is_of_whoever_wrote_it(
    api: Client, client: RedisClient
) -> None:
    (one, one_id), (two, two_id) = await user(api, client, *ALL_RIGHTS), await user(api, client, *ALL_RIGHTS)
    for change in ({"ttl": 70}, {"retries": 2}, {"data": 1}, {"webhook": f"{HOOK}b"}):
        await one.call("PUT", "/schedule/own:a", json=BODY)
        for asked in (two, api):
            assert (await asked.call("PATCH", "/schedule/own:a", json=change))[0] == 200
            assert await owner(client, "own:a") == one_id
    batch = {"tasks": [BODY | {"key": "own:a"}, BODY]}
    for asked, wanted in ((two, two_id), (one, one_id), (api, None), (two, two_id)):
        keys = (await asked.call("POST", "/schedules", json=batch))[1]["data"]
        assert [await owner(client, key) for key in keys] == [wanted, wanted]
    for asked, wanted in ((one, one_id), (api, None), (two, two_id)):
        assert (await asked.call("PUT", "/schedule/own:a", json=BODY))[0] == 200
        assert await owner(client, "own:a") == wanted
    await api.call("POST", "/purge")


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Client]:
    """The all-in-one service; what fails at /ill dies at once."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/ill" else 200)

    receiver.behaviour = answer
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process, client_of(process) as client:
        yield client


async def come(service: Client, state: str, count: int) -> None:
    """Wait until so many tasks are in a state."""

    async def are_there() -> bool:
        return bool((await service.stats())["states"][state] == count)

    await wait_until(are_there, f"{count} are {state}")


async def test_what_comes_of_a_task_is_of_the_same_token(
    service: Client, client: RedisClient, receiver: Receiver
) -> None:
    (one, one_id), (two, _) = await user(service, client, *ALL_RIGHTS), await user(service, client, *ALL_RIGHTS)
    later = {"webhook": receiver.url, "ttl": 3_600, "on_failure": {"webhook": receiver.url}}
    ended = {"webhook": f"{receiver.url}ill", "ttl": 0, "on_failure": later}
    for body in (ended, ended | {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        dead = (await one.call("POST", "/schedule", json=body))[1]["key"]
        assert (await service.call("POST", "/schedule", json=body))[0] == 200
        await come(service, "due", 2)
        tokens = [task["info"].get("token") for task in await shown(service, "/schedules")]
        assert set(tokens) == {one_id, None}
        await come(service, "dead", 2)
        assert (await two.call("POST", f"/dead/{dead}/replay", json={"ttl": 3_600}))[0] == 200
        assert await owner(client, dead) == one_id
        await service.call("POST", "/purge")

    series = {"webhook": f"{receiver.url}ill", "ttl": 0, "repeat": {"every": 3_600}}
    key = (await one.call("POST", "/schedule", json=series))[1]["key"]
    await come(service, "dead", 1)
    [occurrence] = await shown(service, "/dead")
    assert occurrence["info"]["token"] == one_id
    assert await owner(client, key) == one_id
    await service.call("POST", "/purge")
