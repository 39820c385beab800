"""Each field that takes a time takes the same forms of it, and refuses the others in the same words."""

import json
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import InvalidRequest
from redis_scheduler.process.task_line import moved_of
from redis_scheduler.task.due import TIME_RULE
from tests.acceptance.test_dead_letters import died
from tests.support.service import Client
from tests.support.store import Store
from tests.support.written import written

HOOK = "http://127.0.0.1:9/"

TAKEN = [
    "2199-01-31T09:00:00Z",
    "2199-01-31t09:00:00z",
    "2199-01-31T09:00:00+01:00",
    "2199-01-31T09:00:00-23:59",
    "2199-01-31T09:00:00-00:00",
    *(f"2199-01-31T09:00:00.{'123456789' * 2:.{digits}}Z" for digits in (1, 2, 3, 4, 6, 7, 9, 10, 18)),
    "2199-01-31T23:59:60Z",
    "2199-02-01T00:59:60.5+01:00",
    "2196-02-29T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999Z",
]
REFUSED = [
    "2199-01-31T09:00:00",
    "2199-01-31T09:00:00+0100",
    "2199-01-31T09:00:00+01",
    "2199-01-31T09:00:00+24:00",
    "2199-01-31T09:00:00+01:60",
    "2199-01-31T09:00:00+01:00:00",
    "2199-01-31T09:00:00\u221201:00",
    "2199-01-31 09:00:00Z",
    "2199-01-31_09:00:00Z",
    "2199-01-31T24:00:00Z",
    "2199-01-31T09:60:00Z",
    "2199-01-31T09:00:61Z",
    "2199-01-31T09:00:60Z",
    "2199-01-30T23:59:60Z",
    "2199-01-31T09:00:00,5Z",
    "2199-01-31T09:00:00.Z",
    "2199-01-31T09:00Z",
    "21990131T090000Z",
    "2199-02-29T00:00:00Z",
    "2199-13-01T00:00:00Z",
    "2199-00-01T00:00:00Z",
    "2199-01-00T00:00:00Z",
    "9999-12-31T23:59:59.9991Z",
    "9999-12-31T23:59:59-00:01",
    "10000-01-01T00:00:00Z",
    "-001-01-01T00:00:00Z",
    "+2199-01-31T09:00:00Z",
    " 2199-01-31T09:00:00Z",
    "2199-01-31T09:00:00Z ",
    "2199-01-31T09:00:00Z\n",
    "2199-01-31T09:00:00.5 Z",
    "\u0662\u0661\u0669\u0669-01-31T09:00:00Z",
    "2199-01-31",
    "09:00:00Z",
    "4294967296",
    "now",
    "",
    "2199-01-31T09:00:00." + "1" * 100 + "Z",
]

FILTERED = [
    *(("GET", path, name) for path in ("/schedules", "/dead", "/dead/groups") for name in ("due_after", "due_before")),
    *(("POST", f"/schedules/{verb}?dry_run=true", "due_before") for verb in ("cancel", "pause", "resume", "run")),
    ("POST", "/schedules/shift?by=1&dry_run=true", "due_after"),
    *(("POST", f"/dead/{verb}?dry_run=true", "died_before") for verb in ("replay", "delete")),
    ("GET", "/dead", "died_before"),
]


def bodies(key: str, dead: str, text: str) -> list[tuple[str, str, dict[str, Any], str]]:
    """Each body with a time: method, path, body, and the field as errors name it."""
    task = {"webhook": HOOK, "ttl": 60}
    until = {"repeat": {"every": 5, "until": text}}
    found: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/schedule", {"webhook": HOOK, "at": text}, "at"),
        ("PUT", "/schedule/order:1", {"webhook": HOOK, "at": text}, "at"),
        ("PATCH", f"/schedule/{key}", {"at": text}, "at"),
        ("POST", f"/dead/{dead}/replay", {"at": text}, "at"),
        ("POST", "/schedules", {"tasks": [{"webhook": HOOK, "at": text}]}, "at"),
        ("POST", "/schedule", {"webhook": HOOK, **until}, "repeat.until"),
        ("PUT", "/schedule/order:2", {"webhook": HOOK, **until}, "repeat.until"),
        ("PATCH", f"/schedule/{key}", until, "repeat.until"),
        ("POST", "/schedules", {"tasks": [{"webhook": HOOK, **until}]}, "repeat.until"),
        ("POST", "/repeat/preview", until, "repeat.until"),
    ]
    for name in ("on_success", "on_failure"):
        callback = {name: {"webhook": HOOK, "at": text}}
        nested = {name: {"webhook": HOOK, "on_failure": {"webhook": HOOK, "at": text}}}
        found += [
            ("POST", "/schedule", task | callback, f"{name}.at"),
            ("POST", "/schedule", task | nested, f"{name}.on_failure.at"),
            ("POST", "/schedules", {"tasks": [task | callback]}, f"{name}.at"),
            ("PATCH", f"/schedule/{key}", callback, f"{name}.at"),
        ]
    return found


LINE: dict[str, Any] = {"key": "a", "due": "2199-01-01T00:00:00Z", "state": "scheduled", "webhook": HOOK, "ttl": 60}
NO_LONGER_DUE = {"state": "dead", "died": "2199-01-01T00:00:00Z"}


def lines(text: str) -> list[tuple[dict[str, Any], str]]:
    """Each line of an export with a time, and the field as errors name it."""
    at = {"webhook": HOOK, "at": text}
    return [
        (LINE | {"due": text}, "due"),
        (LINE | {"next": text}, "next"),
        (LINE | NO_LONGER_DUE | {"died": text}, "died"),
        (LINE | {"repeat": {"every": 5, "until": text}}, "repeat.until"),
        (LINE | {"on_success": at}, "on_success.at"),
        (LINE | {"on_failure": {"webhook": HOOK, "on_success": at}}, "on_failure.on_success.at"),
    ]


def shown(text: str) -> str:
    """The text as errors show it."""
    return json.dumps(text if len(text) <= 60 else f"{text[:60]}…", ensure_ascii=False)


@pytest.mark.parametrize("text", REFUSED)
async def test_a_text_that_is_no_time_is_refused_alike_by_each_field(
    api: Client, store: Store, raw: redis.asyncio.Redis, text: str
) -> None:
    key, dead = await api.schedule(HOOK, 60), await died(store)
    before = await written(raw)
    for method, path, body, field in bodies(key, dead, text):
        status, content = await api.call(method, path, json=body)
        assert (status, content.get("field")) == (400, field), (path, content)
        assert content["error"].removeprefix("tasks[0].") == f"{field}: {TIME_RULE}, got {shown(text)}"
    for method, path, name in FILTERED:
        status, content = await api.call(method, path, params={name: text})
        assert (status, content.get("field")) == (400, name), (path, content)
        said = 'must be given once, and not empty, got ""' if not text else f"{TIME_RULE}, got {shown(text)}"
        assert content["error"] == f"{name}: {said}"
    for line, field in lines(text):
        with pytest.raises(InvalidRequest) as error:
            moved_of(json.dumps(line).encode(), 0)
        assert str(error.value) == f"{field}: {TIME_RULE}, got {shown(text)}"
    assert await written(raw) == before


@pytest.mark.parametrize("text", TAKEN)
async def test_a_time_is_taken_by_each_field(api: Client, store: Store, text: str) -> None:
    """A field may refuse it for another reason: no series ends before its first time, and no line is of the year 0."""
    is_past = text < "1970"
    # Each change finds a task that is as it was scheduled.
    fresh = [(await api.schedule(HOOK, 60), await died(store)) for _ in bodies("", "", text)]
    for number, (key, dead) in enumerate(fresh):
        method, path, body, field = bodies(key, dead, text)[number]
        status, content = await api.call(method, path, json=body)
        if is_past and field == "repeat.until":
            assert (status, content["field"]) == (400, field)
            assert content["error"].endswith(f"must not end before the first time, got {shown(text)}")
        else:
            assert status == 200, (path, body, content)
    for method, path, name in FILTERED:
        status, content = await api.call(method, path, params={name: text})
        assert status == 200, (path, name, content)
    for line, field in lines(text):
        if is_past and field in ("due", "next", "died"):
            with pytest.raises(InvalidRequest, match="must be from 1970 to 9999"):
                moved_of(json.dumps(line).encode(), 0)
        else:
            assert moved_of(json.dumps(line).encode(), 0).key == "a"


async def test_the_end_of_a_series_is_shown_as_it_was_given_and_holds(api: Client) -> None:
    for until, times in (
        ("2199-01-01T00:00:09.999Z", 1),
        ("2199-01-01T00:00:10Z", 2),
        ("2199-01-01t01:00:10.0009+01:00", 2),
        ("2198-12-31T23:59:60Z", 1),
    ):
        body = {"webhook": HOOK, "at": "2199-01-01T00:00:00Z", "repeat": {"every": 10, "until": until}}
        status, content = await api.call("POST", "/schedule", json=body)
        assert status == 200
        info = (await api.call("GET", f"/schedule/{content['key']}"))[1]["data"]["info"]
        assert (info["repeat"]["until"], len(info["series"]["next"])) == (until, times)


async def test_a_plus_that_a_query_does_not_escape_is_one(api: Client) -> None:
    """A blank stands where a + came; in a body it is none."""
    for query in ("due_before=2199-01-31T09:00:00+01:00", "due_before=2199-01-31T09:00:00%2B01:00"):
        assert (await api.call("GET", f"/schedules?{query}"))[0] == 200
    status, content = await api.call("POST", "/schedule", json={"webhook": HOOK, "at": "2199-01-31T09:00:00 01:00"})
    assert (status, content["field"]) == (400, "at")
