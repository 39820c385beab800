"""POST /schedules/shift: what it moves, over several requests, and once whatever is sent again."""

from datetime import datetime
from typing import Any

import pytest

from redis_scheduler.api import steps
from tests.acceptance.test_filters import listed
from tests.support.service import Client

COUNT = 2 * steps.STEP_TASKS + 30
WEBHOOK = "http://a.example/"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def due_of(api: Client, **filters: str) -> dict[str, int]:
    return {info["key"]: ms(info["due"]) for info in await listed(api, **filters)}


async def step(api: Client, query: str) -> dict[str, Any]:
    status, content = await api.call("POST", f"/schedules/shift?{query}")
    assert status == 200, content
    found: dict[str, Any] = content
    return found


async def shifted(api: Client, query: str) -> dict[str, Any]:
    """Go on until that was all; the last answer, which has the totals."""
    cursor = ""
    for _ in range(100):
        found = await step(api, query + cursor)
        if found["next"] is None:
            return found
        cursor = "" if "cursor=" in query else f"&cursor={found['next']}"
    raise AssertionError("without an end")


@pytest.fixture
async def tasks(api: Client) -> None:
    """Tasks an instant apart, and a second apart: so some of what is moved comes among the others."""
    for first in range(0, COUNT, 46):
        many = [
            {"webhook": WEBHOOK, "ttl": 1_000 + number % 40, "labels": {"order": "17"}, "type": "mail"}
            for number in range(first, min(first + 46, COUNT))
        ]
        assert (await api.call("POST", "/schedules", json={"tasks": many}))[0] == 200


@pytest.mark.parametrize("by", ["20", "-20", "3600.5", "-0.001"])
@pytest.mark.parametrize("query", ["host=a.example", "type=mail", "label=order=17", "due_after=2020-01-01T00:00:00Z"])
async def test_each_task_is_moved_once(query: str, by: str, api: Client, tasks: None) -> None:
    before = await due_of(api)
    dry = await shifted(api, f"{query}&by={by}&dry_run=true")
    assert (dry["touched"], dry["looked_at"], dry["dry_run"], "operation" in dry) == (COUNT, COUNT, True, False)
    assert await due_of(api) == before
    done = await shifted(api, f"{query}&by={by}")
    assert (done["data"], done["touched"], done["looked_at"], done["dry_run"]) == ("shifted", COUNT, COUNT, False)
    assert await due_of(api) == {key: due + round(float(by) * 1000) for key, due in before.items()}
    assert {info["expires"] == info["due"] for info in await listed(api)} == {True}


async def test_what_the_filters_do_not_want_stays(api: Client) -> None:
    first = await api.schedule(WEBHOOK, 100)
    middle = await api.schedule(WEBHOOK, 200, "/schedule?type=mail")
    last = await api.schedule(WEBHOOK, 300)
    queued = await api.schedule(WEBHOOK, 0)
    kept = await api.schedule(WEBHOOK, 250)
    assert (await api.call("POST", f"/schedule/{kept}/pause"))[0] == 200
    everything = {first, middle, last, kept}

    async def moves(query: str, wanted: set[str]) -> None:
        before = await due_of(api)
        assert (await shifted(api, f"by=1{query}"))["touched"] == len(wanted), query
        assert {key for key, due in (await due_of(api)).items() if due != before[key]} == wanted, query

    await moves("&type=mail", {middle})
    await moves("&state=scheduled", {first, middle, last})
    await moves("&type=default&state=paused", {kept})
    await moves(f"&key_prefix={first}", {first})
    due = {info["key"]: info["due"] for info in await listed(api)}
    await moves(f"&due_after={due[middle]}&due_before={due[last]}", {middle, kept})
    await moves("", everything)
    assert (await due_of(api)).keys() == {*everything, queued}


async def test_what_is_sent_again_is_answered_and_moves_nothing_twice(api: Client, tasks: None) -> None:
    before = await due_of(api)
    first = await step(api, "by=3600&operation=night")
    assert first["operation"] == "night"
    second = await step(api, "by=3600&operation=night")
    assert second["touched"] >= first["touched"]
    cursor = first["next"] or "night"
    for again in (f"cursor={cursor}", f"operation=night&cursor={cursor}", "operation=night"):
        last = await shifted(api, f"by=3600&{again}")
        assert (last["touched"], last["looked_at"], last["next"]) == (COUNT, COUNT, None)
    assert await due_of(api) == {key: due + 3_600_000 for key, due in before.items()}
    other = await shifted(api, "by=3600")
    assert other["operation"] != "night"
    assert await due_of(api) == {key: due + 7_200_000 for key, due in before.items()}


async def test_a_series_comes_at_another_time_once(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 600, repeat={"every": 60})
    before = await due_of(api)
    assert (await shifted(api, "by=30"))["touched"] == 1
    assert await due_of(api) == {key: before[key] + 30_000}


async def test_a_calendar_is_not_moved_back(api: Client) -> None:
    body = {"webhook": WEBHOOK, "repeat": {"cron": "@yearly"}}
    yearly: str = (await api.call("POST", "/schedule", json=body))[1]["key"]
    every = await api.schedule(WEBHOOK, 600, repeat={"every": 60})
    before = await due_of(api)
    for query in ("by=-30&dry_run=true", "by=-30"):
        assert (await shifted(api, query))["touched"] == 1
    assert await due_of(api) == {yearly: before[yearly], every: before[every] - 30_000}
    assert (await shifted(api, "by=30"))["touched"] == 2
    assert await due_of(api) == {yearly: before[yearly] + 30_000, every: before[every]}


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("", "by", "missing-field"),
        ("by=0", "by", "invalid-value"),
        ("by=-0.000", "by", "invalid-value"),
        ("by=x", "by", "invalid-value"),
        ("by=nan", "by", "invalid-value"),
        ("by=1e3", "by", "invalid-value"),
        ("by=%2B5", "by", "invalid-value"),
        ("by=1.2345", "by", "invalid-value"),
        ("by=--5", "by", "invalid-value"),
        ("by=999999999", "by", "invalid-value"),
        ("by=-999999999", "by", "invalid-value"),
        ("by=" + "9" * 400, "by", "invalid-value"),
        ("by=5&by=6", "by", "invalid-value"),
        ("by=5&state=queued", "state", "contradiction"),
        ("by=5&state=deferred", "state", "contradiction"),
        ("by=5&operation=a.b", "operation", "invalid-value"),
        ("by=5&operation=" + "x" * 65, "operation", "invalid-value"),
        ("by=5&operation=a&dry_run=true", "operation", "contradiction"),
        ("by=5&operation=a&cursor=b", "operation", "contradiction"),
        ("by=5&cursor=unknown", "cursor", "invalid-value"),
        ("by=5&cursor=a%20b", "cursor", "invalid-value"),
        ("by=5&cursor=x&dry_run=true", "cursor", "invalid-value"),
        ("by=5&rate=5", "rate", "unknown-parameter"),
        ("by=6&operation=known", "operation", "contradiction"),
        ("by=5&operation=known&type=mail", "operation", "contradiction"),
        ("by=6&cursor=known", "cursor", "contradiction"),
    ],
)
async def test_a_wrong_shift_is_refused_and_moves_nothing(query: str, field: str, code: str, api: Client) -> None:
    await api.schedule(WEBHOOK, 600)
    assert (await shifted(api, "by=5&operation=known"))["touched"] == 1
    before = await due_of(api)
    status, content = await api.call("POST", f"/schedules/shift?{query}".rstrip("?"))
    assert (status, content.get("field"), content["code"]) == (400, field, code), content
    assert len(content["error"]) < 400
    assert await due_of(api) == before
