"""A body where none is taken: a filter in it would be passed over, and everything paused or deleted."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.routes import ROUTES, Route
from tests.acceptance.test_bad_input import refused
from tests.support.service import Client

TASK = {"webhook": "http://127.0.0.1:9/", "ttl": 600}
BARE = [route for route in ROUTES if route.body is None and route.method != "GET"]
BODIES = [b'{"type":"mail"}', b"x", b"[]", b"{" + b" " * 100_000]


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 10):
        yield body[at : at + 10]


@pytest.mark.parametrize("route", BARE, ids=lambda route: f"{route.method} {route.path}")
async def test_a_body_that_would_be_passed_over_is_refused(
    api: Client, raw: redis.asyncio.Redis, route: Route[Any]
) -> None:
    await api.call("PUT", "/schedule/own", json=TASK)
    before = await api.call("GET", "/schedule/own")
    for body in BODIES:
        for data in (body, pieces(body)):
            status, said = await refused(api, raw, route.method, route.path.replace("{key}", "own"), data=data)
            assert (status, said.partition(":")[0]) == (400, "The body would be passed over")
    assert await api.call("GET", "/schedule/own") == before


@pytest.mark.parametrize("body", [b"", b"{}", b" null \n"])
async def test_a_body_that_says_nothing_is_taken(api: Client, body: bytes) -> None:
    for _ in range(2):  # on one connection: nothing of the body is left on it
        await api.call("PUT", "/schedule/own", json=TASK)
        status, content = await api.call("POST", "/schedule/own/pause", data=body)
        assert (status, content["found"]) == (200, "scheduled"), json.dumps(content)
        assert (await api.call("DELETE", "/schedule/own", data=body))[0] == 200
    assert (await api.call("POST", "/purge", data=body))[0] == 200
