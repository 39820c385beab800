"""Requests made from the OpenAPI document, good ones and bad ones (schemathesis): none makes the service fail, each
answer is one that the document has, and what is valid by the document is refused only for a reason that it names."""

import json
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import UnsupportedSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from redis_scheduler.api.openapi import FOR_VALID, rendered
from tests.support.service import TOKEN, Client, Process
from tests.support.store import Store

HOOK = "http://127.0.0.1:9/hook"
FURTHER = "x-checked-further"
EXAMPLES = 6
"""Of each route, good ones and as many bad ones."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
KEYS = ["own:1", "own:2", "own:3", "none"]
HOSTS = ["127.0.0.1:9", "@tenant"]

schemathesis.openapi.format("uri", strategies.sampled_from([HOOK, "https://[::1]:9/?a=%2F", "HTTP://shop.example"]))
schemathesis.openapi.format("cron", strategies.sampled_from(["0 9 * * 1-5", "@daily", "*/5 * * * *", "0 0 29 2 *"]))
schemathesis.openapi.format("time-zone", strategies.sampled_from(["Europe/Berlin", "UTC", "Asia/Kathmandu"]))


def document() -> dict[str, Any]:
    """The document, with keys in the paths that are there; the token is not what is tried."""
    found: dict[str, Any] = json.loads(rendered()[0])
    for path, methods in found["paths"].items():
        for operation in methods.values():
            del operation["security"]
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": HOSTS if path.startswith("/hosts") else KEYS}
    return found


def checked_further(schema: Any, name: str = "") -> set[str]:
    """The names of the fields whose rule is more than a schema can say."""
    if isinstance(schema, list):
        return {found for one in schema for found in checked_further(one, name)}
    if not isinstance(schema, dict):
        return set()
    own = {name} if FURTHER in schema else set()
    if "in" in schema and FURTHER in schema.get("schema", {}):
        own = {schema["name"]}
    return own | {
        found for key, one in schema.items() for found in checked_further(one, key if key != "anyOf" else name)
    }


DOCUMENT = document()
FREE = checked_further(DOCUMENT)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]  # it is valid


@pytest.fixture
async def url(api: Client, store: Store) -> str:
    """Where the service is; tasks with some keys are there."""
    for key in KEYS[:2]:
        assert (await api.call("PUT", f"/schedule/{key}", json={"webhook": HOOK, "ttl": 60}))[0] == 200
    return api.url


def check_valid_is_taken(content: Any) -> None:
    if content["status"] == 400:
        words = [code.word for code in FOR_VALID]
        assert content["code"] in words, content
        if content["code"] == "invalid-value":
            is_whole_with_a_point = content["error"].endswith(".0")  # a schema takes 5.0 for a whole number
            assert is_whole_with_a_point or content["field"].split(".")[-1] in FREE, content


@strategies.composite
def cases(draw: strategies.DrawFn, operation: Any, mode: GenerationMode) -> Any:
    """Requests of a route, but for those that the library at times finds that it cannot make bad in its way."""
    try:
        return draw(operation.as_strategy(generation_mode=mode))
    except UnsupportedSchema:
        hypothesis.reject()


def can_be_bad(operation: Any) -> bool:
    return bool(operation.body or [one for one in operation.iter_parameters() if one.location.value != "path"])


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
        for operation in OPERATIONS
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if mode is GenerationMode.POSITIVE or can_be_bad(operation)
    ],
)
def test_requests_by_the_document(operation: Any, mode: GenerationMode, url: str, api_process: Process) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],  # to make a failing one smaller takes a thousand requests
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases(operation, mode))
    def ask(case: Any) -> None:
        response = case.call(base_url=url, headers={"Authorization": TOKEN})
        case.validate_response(response, checks=CHECKS)
        if mode is GenerationMode.NEGATIVE:
            assert 400 <= response.status_code < 500, (case.query, case.headers, response.text)
        elif response.status_code != 200:
            check_valid_is_taken(response.json())

    ask()
    assert not api_process.events("fault")
