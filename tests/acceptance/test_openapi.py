"""The OpenAPI document: it is valid, it says what is served, and its examples are answered as they say."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
import redis.asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator

from redis_scheduler.api.bodies import Document
from redis_scheduler.api.diagnosis import RULES
from redis_scheduler.api.examples import EXAMPLES, Example
from redis_scheduler.api.openapi import rendered
from redis_scheduler.api.routes import ROUTES, Access
from redis_scheduler.errors import Code
from redis_scheduler.store.views import Views
from redis_scheduler.store.workers import format_suffix
from redis_scheduler.task.acknowledgement import acknowledgement_token
from redis_scheduler.task.options import RECORD_FORMAT
from tests.scripts import states
from tests.scripts.states import Task
from tests.support.names import KEYS
from tests.support.service import TOKEN, Client
from tests.support.store import Store
from tests.support.waiting import wait_until

HOOK = {"webhook": "https://shop.example/orders", "ttl": 0}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MADE_KEY = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
LOOKED_AT = re.compile('"looked_at": *[0-9]+')
FIGURES = ("GET /stats", "GET /audit", "DELETE /schedules")
"""The numbers of these are others each time."""


def document() -> Any:
    return json.loads(rendered()[0])


def without_chance(text: str) -> Any:
    """An answer with the same stand-in for each time, and for each key that the service made; without how many tasks
    were looked at, which goes by what the examples before have left."""
    return json.loads(LOOKED_AT.sub('"looked_at": 0', MADE_KEY.sub("KEY", TIME.sub("TIME", text))))


async def test_it_is_valid_and_open_to_all(api: Client) -> None:
    async with api.session.get(f"{api.url}/openapi.json") as response:
        body, etag = await response.read(), response.headers["ETag"]
        assert (response.status, response.content_type) == (200, "application/json")
    OpenAPIV31SpecValidator(json.loads(body)).validate()
    assert json.loads(body) == document()
    assert "304" in document()["paths"]["/openapi.json"]["get"]["responses"]
    for known, status in ((etag, 304), (f'W/{etag}, "x"', 304), ("*", 304), ('"x"', 200), ("", 200)):
        headers = {"If-None-Match": known} if known else {}
        async with api.session.get(f"{api.url}/openapi.json", headers=headers) as response:
            assert (response.status, response.headers["ETag"]) == (status, etag), known
            assert await response.read() == (b"" if status == 304 else body)


def test_it_has_each_route_with_its_rights_and_an_example() -> None:
    paths = document()["paths"]
    served = {(route.path, route.method.lower()): route for route in ROUTES}
    assert {(path, method) for path in paths for method in paths[path]} == served.keys()
    names = [paths[path][method]["operationId"] for path, method in served]
    assert len(names) == len(set(names))
    for (path, method), route in served.items():
        operation = paths[path][method]
        assert (operation["security"] == []) == (route.access is Access.OPEN), path
        assert len(operation["summary"]) > 5, path
        has_example = (route.method, route.path) in EXAMPLES
        assert has_example == (route.answer not in (Document, str)), path


def test_its_examples_are_valid_by_its_schemas_and_one_shows_a_refusal() -> None:
    found, seen = document(), 0
    parts = [one["content"]["application/json"] for one in found["components"]["responses"].values()]
    for operation in (one for path in found["paths"].values() for one in path.values()):
        parts += operation["parameters"]
        for place in (operation.get("requestBody", {}), operation["responses"]["200"]):
            parts += place.get("content", {}).values()
    for part in parts:
        validator = jsonschema.Draft202012Validator(part["schema"] | {"components": found["components"]})
        for name, example in part.get("examples", {}).items():
            seen += 1
            assert [error.message for error in validator.iter_errors(example["value"])] == [], (name, example)
    assert seen > 50
    shown = found["components"]["responses"]["400"]["content"]["application/json"]["examples"]
    assert [one["value"]["code"] for one in shown.values()] == ["invalid-value"]


@pytest.mark.parametrize("label", ["order=17", "user=anna müller", "a==b", f"{'x' * 32}={'é' * 64}"])
async def test_whatever_label_a_task_has_may_be_asked_for_by_it(api: Client, label: str) -> None:
    name, _, value = label.partition("=")
    key = await api.schedule("http://a.example/", 600, labels={name: value})
    for parameter in document()["paths"]["/schedules"]["get"]["parameters"]:
        if parameter["name"] == "label":
            jsonschema.validate(label, parameter["schema"])
    _, found = await api.call("GET", f"/schedules?{urlencode({'label': label})}")
    assert [task["info"]["key"] for task in found["data"]] == [key]


def test_it_has_each_code_at_some_route_but_of_what_is_no_route() -> None:
    at_routes = {word for path in document()["paths"].values() for one in path.values() for word in one["x-codes"]}
    assert {code.word for code in Code} - at_routes == {"path-not-found", "method-not-allowed"}


def test_it_says_of_each_field_that_is_sent_what_it_means_and_its_rule() -> None:
    schemas = document()["components"]["schemas"]
    for kind in ("ScheduleRequest", "BatchItem", "UpdateRequest", "Callback", "Repeat", "LimitRequest"):
        assert schemas[kind]["additionalProperties"] is False
        for name, field in schemas[kind]["properties"].items():
            meaning, _, rule = field["description"].partition(" It must be")
            assert len(meaning) > 5, (kind, name)
            assert bool(rule) == (name in RULES), (kind, name)


async def awaiting(store: Store, api: Client, key: str) -> Task:
    task = await claimed(store, api, key, ack=True)
    assert await store.expect([states.taken_on(task)]) == [1]
    api.headers["Schedule-Ack"] = acknowledgement_token(TOKEN, key, task.claim.id, 0)
    return task


async def claimed(store: Store, api: Client, key: str, **options: Any) -> Task:
    assert (await api.call("PUT", f"/schedule/{key}", json={**HOOK, **options}))[0] == 200

    async def is_promoted() -> bool:
        await store.promote()
        return await store.client.command("ZSCORE", KEYS.due, key) is None

    await wait_until(is_promoted, "the task is due", every_s=0.001)
    [claim] = await states.claimed(store, 1)
    while claim.key != key:  # the examples before have made others due
        [claim] = await states.claimed(store, 1)
    return Task(key, claim)


async def served(store: Store, _api: Client, _key: str) -> None:
    """A worker lives, as its looks would say."""
    now_ms = await Views(store.client).now_ms()
    await store.client.command("ZADD", KEYS.workers, now_ms, f"worker-a{format_suffix(RECORD_FORMAT)}")


async def dead(store: Store, api: Client, key: str) -> None:
    assert await store.bury(states.failed(await claimed(store, api, key))) == [1]


STAGED: dict[str, Callable[[Store, Client, str], Awaitable[Any]]] = {
    "GET /schedule/{key}": served,
    "POST /schedule/{key}/extend": awaiting,
    "POST /schedule/{key}/fail": awaiting,
    "GET /dead": lambda store, api, _: dead(store, api, "order:19"),
    "DELETE /dead/{key}": dead,
}
"""What must stand in Redis before the examples of a route, which the examples before do not leave there."""


async def sent(api: Client, method: str, path: str, example: Example) -> tuple[int, str]:
    operation = document()["paths"][path][method.lower()]
    places = {one["name"]: one["in"] for one in operation["parameters"]}
    given = {
        place: {name: example.given[name] for name in example.given if places[name] == place}
        for place in places.values()
    }
    url = api.url + path.format(**given.get("path", {}))
    if query := given.get("query"):
        url += f"?{urlencode(query)}"
    headers = given.get("header", {}) | api.headers
    async with api.session.request(method, url, headers=headers, json=example.body) as response:
        return response.status, await response.text()


@pytest.mark.one_shard("the own keys of examples stand in several shards, and the worker here serves one")
async def test_each_example_is_answered_as_it_says(api: Client, store: Store, raw: redis.asyncio.Redis) -> None:
    schemas = {"components": document()["components"]}
    for (method, path), examples in EXAMPLES.items():
        for example in examples:
            if stage := STAGED.get(f"{method} {path}"):
                await stage(store, api, example.given.get("key", ""))
            status, text = await sent(api, method, path, example)
            if f"{method} {path}" in FIGURES:
                assert example.answer.keys() == json.loads(text).keys()
            else:
                assert without_chance(text) == without_chance(json.dumps(example.answer)), (method, path, text)
            assert status == example.status
            operation = document()["paths"][path][method.lower()]
            shape = operation["responses"][str(status)]
            if "$ref" in shape:
                shape = schemas["components"]["responses"][str(status)]
            schema = shape["content"]["application/json"]["schema"] | schemas
            for answer in (json.loads(text), example.answer):
                jsonschema.Draft202012Validator(schema).validate(answer)
