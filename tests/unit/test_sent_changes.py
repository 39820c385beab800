"""What a task says of its request is shown as it was given, and a change leaves what it does not name."""

import json
from typing import Any

import pytest

from redis_scheduler.api.bodies import encode_answer
from redis_scheduler.api.shown import view_of
from redis_scheduler.errors import InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.content import format_needed
from redis_scheduler.task.record import read_record
from tests.support.changes import change_by
from tests.unit.test_sent import raw_of


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "PUT", "headers": {"data": '\\","data":{', "X": "1"}, "timeout": 0.5},
        {"body": '\\","data":"\n😀'},
        {"body_base64": "/+8="},
        {"headers": {"data": ""}, "body": ""},
    ],
)
def test_a_task_is_shown_as_it_was_given(fields: dict[str, Any]) -> None:
    raw = raw_of(**fields)
    json.loads(raw)  # an older worker finds a member in it that it does not know
    record = read_record(raw)
    shown = json.loads(json.dumps(shown_of(raw)))
    told = {name: shown["info"].get(name, shown.get(name)) for name in fields}
    assert told == fields
    assert shown["info"]["has_data"] is False
    assert shown["data"] is None
    assert format_needed(record.options, record.content) == 2


def stored(raw: bytes) -> Stored:
    return Stored("key", raw, read_record(raw), 0, None, "scheduled", 7)


def shown_of(raw: bytes) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(encode_answer(view_of(stored(raw))))
    return view


def changed(raw: bytes, **changes: Any) -> bytes:
    return b'{"due":1732358400123' + change_by(stored(raw), json.dumps(changes).encode()).tail


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({"data": 1}, {"body": "a"}, {"body": "a"}),
        ({"body": "a"}, {"data": None}, {"data": None}),
        ({"body": "a"}, {"body_base64": "YQ=="}, {"body_base64": "YQ=="}),
        ({"body": "a"}, {"ttl": 1}, {"body": "a"}),
        ({"body": "a"}, {"body": None}, {}),
        ({"data": 1}, {"body_base64": None}, {}),
        ({"data": 1, "method": "PUT"}, {"method": None}, {"data": 1}),
        ({"data": 1}, {"method": "GET", "body": None}, {"method": "GET"}),
        ({"headers": {"X": "1"}, "timeout": 1}, {"headers": {"Y": "1"}, "timeout": None}, {"headers": {"Y": "1"}}),
        ({"headers": {"X": "1"}}, {"headers": None}, {}),
    ],
)
def test_a_change_leaves_what_it_says(before: dict[str, Any], changes: dict[str, Any], after: dict[str, Any]) -> None:
    assert changed(raw_of(**before), **changes) == raw_of(**after)


@pytest.mark.parametrize("before", [{"data": 1}, {"body": ""}])
def test_a_change_to_a_get_must_leave_no_content(before: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="method: GET sends no body"):
        changed(raw_of(**before), method="GET")
    with pytest.raises(InvalidField, match="method: GET sends no body"):
        changed(raw_of(method="GET"), **before)
