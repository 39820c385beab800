"""If-Match, If-None-Match and Idempotency-Key: served where the table of routes says, and refused elsewhere."""

from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.routes import CONDITIONS, ROUTES, Access, Route
from tests.acceptance.test_bad_input import refused
from tests.support.service import Client

HOOK = "http://127.0.0.1:9/"
TASK = {"webhook": HOOK, "ttl": 60}
VALUES = {"If-Match": '"a"', "If-None-Match": "*", "Idempotency-Key": "order-17"}
SERVED = {
    ("POST", "/schedule"): {"Idempotency-Key"},
    ("POST", "/schedules"): {"Idempotency-Key"},
    ("PUT", "/schedule/{key}"): {"If-Match", "If-None-Match"},
    ("PATCH", "/schedule/{key}"): {"If-Match"},
    ("DELETE", "/schedule/{key}"): {"If-Match"},
}


def test_they_are_served_where_they_should_be() -> None:
    served = {(route.method, route.path): set(route.headers) for route in ROUTES if route.headers}
    assert served == SERVED


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.access is Access.TOKEN],
    ids=lambda route: f"{route.method} {route.path}",
)
async def test_a_route_serves_a_header_or_refuses_it(
    api: Client, raw: redis.asyncio.Redis, route: Route[Any], name: str
) -> None:
    await api.call("PUT", "/schedule/own", json=TASK)
    path = route.path.replace("{key}", "own")
    bodies: dict[str, Any] = {"POST /schedules": {"tasks": [TASK]}, "PATCH /schedule/{key}": {"ttl": 1}}
    body = bodies.get(f"{route.method} {route.path}", TASK)
    options: dict[str, Any] = {"json": body} if route.body else {}
    options["headers"] = {name: VALUES[name]}
    if name in SERVED.get((route.method, route.path), set()):
        status, content = await api.call(route.method, path, **options)
        assert (status, content["status"]) in ((200, 200), (412, 412))
        return
    before = await api.call("GET", "/schedule/own")
    status, said = await refused(api, raw, route.method, path, **options)
    assert (status, said.partition(", but by ")[0]) == (400, f"{name}: is not served by {route.method} here")
    assert all(f"{method} {served}" in said for (method, served), names in SERVED.items() if name in names)
    assert await api.call("GET", "/schedule/own") == before


async def test_open_routes_pass_them_over(api: Client) -> None:
    for route in ROUTES:
        if route.access is Access.OPEN and route.path != "/openapi.json":  # which may be kept, by its ETag
            assert (await api.call(route.method, route.path, headers=VALUES))[0] == 200
