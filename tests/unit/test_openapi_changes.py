"""Who goes by the OpenAPI document that is kept goes on: nothing of it is removed, renamed or narrowed."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from redis_scheduler.api.openapi import rendered
from tests.support.openapi_changes import SAMPLE, breaks, lacks, without_texts

BEFORE = json.loads(SAMPLE.read_text())
NOW = without_texts(json.loads(rendered()[0]))


def test_this_version_breaks_nothing_of_what_is_kept() -> None:
    assert breaks(BEFORE, NOW) == []


def test_what_is_kept_has_all_of_this_version() -> None:
    assert lacks(BEFORE, NOW) == [], "keep it, too: python -m tests.support.openapi_changes"


def operation(document: Any, path: str = "/schedule", method: str = "post") -> Any:
    return document["paths"][path][method]


def field(document: Any, name: str, kind: str = "ScheduleRequest") -> Any:
    return document["components"]["schemas"][kind]["properties"][name]


def parameter(document: Any, name: str) -> Any:
    found = operation(document, "/schedules", "get")["parameters"]
    return next(one for one in found if one["name"] == name)


def schema(document: Any, kind: str) -> Any:
    return document["components"]["schemas"][kind]


CHANGES: dict[str, Callable[[Any], object]] = {
    "POST /schedule: is removed": lambda it: it["paths"].pop("/schedule"),
    "DELETE /dead/{key}: is removed": lambda it: it["paths"]["/dead/{key}"].pop("delete"),
    "POST /schedule: is called other, no longer schedule": lambda it: operation(it).update(operationId="other"),
    "GET /healthz: needs a token": lambda it: operation(it, "/healthz", "get").update(
        security=[{"bearer": []}, {"bare": []}]
    ),
    "POST /schedule: needs the rights ['admin']": lambda it: operation(it)["security"][0]["bearer"].append("admin"),
    "POST /schedule: the query parameter type is removed": lambda it: operation(it)["parameters"].pop(0),
    "GET /schedules: the query parameter limit must be given": lambda it: parameter(it, "limit").update(required=True),
    "GET /schedules: limit: its maximum is 5": lambda it: parameter(it, "limit")["schema"].update(maximum=5),
    "GET /schedules: state: does not take ['held']": lambda it: parameter(it, "state")["schema"]["enum"].remove("held"),
    "GET /schedules: type: takes only ['a']": lambda it: parameter(it, "type")["schema"].update(enum=["a"]),
    "POST /purge: must have a body": lambda it: operation(it, "/purge").update(
        requestBody={"required": True, "content": {}}
    ),
    "POST /dead/{key}/replay: must have a body": lambda it: operation(it, "/dead/{key}/replay")["requestBody"].update(
        required=True
    ),
    "POST /schedule: takes no body": lambda it: operation(it).pop("requestBody"),
    "POST /schedule.retries: is removed": lambda it: schema(it, "ScheduleRequest")["properties"].pop("retries"),
    "POST /schedule.ttl: must be given": lambda it: schema(it, "ScheduleRequest")["required"].append("ttl"),
    "POST /schedule.retries: is string, no longer integer": lambda it: field(it, "retries").update(type="string"),
    "POST /schedule.retries: its minimum is 0": lambda it: field(it, "retries").update(minimum=0),
    "POST /schedule.webhook: its maxLength is 9": lambda it: field(it, "webhook").update(maxLength=9),
    "POST /schedule.webhook: has another pattern": lambda it: field(it, "webhook").update(pattern="^https://"),
    "POST /schedule.method: does not take ['PUT']": lambda it: field(it, "method")["enum"].remove("PUT"),
    "POST /schedule.on_success.webhook: its maxLength is 9": lambda it: field(it, "webhook", "Callback").update(
        maxLength=9
    ),
    "POST /schedules.tasks[].key: is removed": lambda it: schema(it, "BatchItem")["properties"].pop("key"),
    "PATCH /schedule/{key}.retries: its kind 1 is no longer taken": lambda it: field(it, "retries", "UpdateRequest")[
        "anyOf"
    ].pop(1),
    "POST /schedule 200.due: is removed": lambda it: schema(it, "Scheduled")["properties"].pop("due"),
    "POST /schedule 200.due: may be absent": lambda it: schema(it, "Scheduled")["required"].remove("due"),
    "GET /schedules 200.data[].info.retry: is string, no longer integer": lambda it: field(it, "retry", "Info").update(
        type="string"
    ),
    "GET /schedules 200.next: its kind 2 is new": lambda it: field(it, "next", "Listed")["anyOf"].append(
        {"type": "integer"}
    ),
    "GET /metrics: does not answer text/plain": lambda it: operation(it, "/metrics", "get")["responses"]["200"][
        "content"
    ].pop("text/plain"),
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_change_that_breaks_something_is_told(said: str) -> None:
    after = copy.deepcopy(BEFORE)
    CHANGES[said](after)
    assert said in breaks(BEFORE, after)


def test_what_is_new_and_may_be_left_out_breaks_nothing_and_is_to_be_kept() -> None:
    after = copy.deepcopy(BEFORE)
    after["paths"]["/new"] = {"get": {}}
    operation(after)["parameters"].append({"in": "query", "name": "new", "required": False, "schema": {}})
    schema(after, "ScheduleRequest")["properties"]["new"] = {"type": "string"}
    schema(after, "Scheduled")["properties"]["new"] = {"type": "string"}
    schema(after, "Scheduled")["required"].append("new")
    field(after, "method")["enum"].append("QUERY")
    field(after, "retries")["maximum"] = 10**9
    assert breaks(BEFORE, after) == []
    assert lacks(BEFORE, after) == [
        "components.schemas.ScheduleRequest.properties.method.enum.QUERY",
        "components.schemas.ScheduleRequest.properties.new",
        "components.schemas.ScheduleRequest.properties.new.type",
        "components.schemas.Scheduled.properties.new",
        "components.schemas.Scheduled.properties.new.type",
        "components.schemas.Scheduled.required.new",
        "paths./new",
        "paths./new.get",
        *(f"paths./schedule.post.parameters.new{one}" for one in ("", ".in", ".name", ".required", ".schema")),
    ]
