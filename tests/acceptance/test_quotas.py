"""A token with limits fills its share and is told so; others go on."""

import asyncio
from typing import Any

import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.tokens import make_token

HOOK = "http://127.0.0.1:9/"
BODY: dict[str, Any] = {"webhook": HOOK, "ttl": 60}


async def user(api: Client, client: RedisClient, **limits: Any) -> Client:
    return Client(api.session, api.url, await make_token(client, "schedule", types=("mail",), **limits))


async def waiting(client: RedisClient) -> int:
    return int(await client.command("ZCARD", KEYS.type_index("mail")))


ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/schedule?type=mail", {"json": BODY}),
    ("POST", "/schedule?type=mail", {"json": BODY, "headers": {"Idempotency-Key": "a"}}),
    ("PUT", "/schedule/own:a?type=mail", {"json": BODY}),
    ("POST", "/schedules?type=mail", {"json": {"tasks": [BODY]}}),
]


@pytest.mark.parametrize(("method", "path", "given"), ASKED)
async def test_above_the_rate_nothing_is_scheduled_and_the_answer_says_when(
    method: str, path: str, given: dict[str, Any], api: Client, client: RedisClient
) -> None:
    small, other = await user(api, client, rate=0.1), await user(api, client)
    assert (await small.call("POST", "/schedule?type=mail", json=BODY))[0] == 200
    async with small.session.request(
        method, small.url + path, **{**given, "headers": small.headers | given.get("headers", {})}
    ) as response:
        content = await response.json()
        assert (response.status, content["code"]) == (429, "token-rate")
        assert 8 <= int(response.headers["Retry-After"]) <= 10
    assert await waiting(client) == 1
    for one in (other, api):
        assert (await one.call(method, path, **given))[0] == 200
    await api.call("POST", "/purge")


@pytest.mark.parametrize(("method", "path", "given"), ASKED)
async def test_a_full_share_refuses_what_enters_and_nothing_else(
    method: str, path: str, given: dict[str, Any], api: Client, client: RedisClient
) -> None:
    small, other = await user(api, client, tasks=3), await user(api, client)
    for _ in range(3):
        key = (await small.call("POST", "/schedule?type=mail", json=BODY))[1]["key"]
    status, content = await small.call(method, path, **given)
    assert (status, content["code"]) == (507, "token-full")
    assert "may have 3" in content["error"]
    assert await waiting(client) == 3
    assert (await small.call("PATCH", f"/schedule/{key}", json={"ttl": 70}))[0] == 200
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200
    assert (await small.call(method, path, **given))[0] == 200
    assert (await other.call("POST", "/schedule?type=mail", json=BODY))[0] == 200
    await api.call("POST", "/purge")


async def test_requests_at_once_do_not_pass_the_limit_together(api: Client, client: RedisClient) -> None:
    small = await user(api, client, tasks=20)
    body = {"tasks": [BODY] * 3}
    answers = await asyncio.gather(*(small.call("POST", "/schedules?type=mail", json=body) for _ in range(40)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 507}
    assert 0 < await waiting(client) == 3 * statuses.count(200) <= 20
    await api.call("POST", "/purge")
