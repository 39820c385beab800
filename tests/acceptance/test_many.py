"""What is done to many tasks at once: all that the filters want, and no other; in steps; dry; and what is refused."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from redis_scheduler.api import steps
from redis_scheduler.store.client import RedisClient
from tests.acceptance.test_filters import listed
from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

COUNT = 3 * steps.STEP_TASKS


async def done(api: Client, verb: str, query: str) -> dict[str, Any]:
    """Go on until that was all; the totals, which only a dry run does not keep."""
    touched = looked_at = 0
    cursor = ""
    for _ in range(100):
        status, content = await api.call("POST", f"/schedules/{verb}?{query}{cursor}")
        assert status == 200, content
        if not content["dry_run"]:
            touched = looked_at = 0
        touched, looked_at = touched + content["touched"], looked_at + content["looked_at"]
        if content["next"] is None:
            return {"touched": touched, "looked_at": looked_at, "dry_run": content["dry_run"]}
        cursor = f"&cursor={content['next']}"
    raise AssertionError("without an end")


@pytest.fixture
async def tasks(api: Client) -> set[str]:
    """More tasks of one type than a step has, and one of another."""
    for first in range(0, COUNT, 100):
        body = {
            "tasks": [
                {"webhook": "http://a.example/", "ttl": 600 + number}
                for number in range(first, min(first + 100, COUNT))
            ]
        }
        status, _ = await api.call("POST", "/schedules?type=mail", json=body)
        assert status == 200
    await api.schedule("http://b.example/", 600)
    return {info["key"] for info in await listed(api, type="mail")}


async def test_what_the_filters_want_is_cancelled_and_nothing_else(api: Client, tasks: set[str]) -> None:
    dry = await done(api, "cancel", "host=a.example&dry_run=true")
    assert (dry["touched"], dry["dry_run"]) == (COUNT, True)
    assert dry["looked_at"] == COUNT + 1
    assert (await api.stats())["running_schedules"] == COUNT + 1
    assert (await done(api, "cancel", "host=a.example"))["touched"] == COUNT
    assert (await done(api, "cancel", "host=a.example"))["touched"] == 0
    (left,) = await listed(api)
    assert left["webhook"] == "http://b.example/"
    stats = await api.stats()
    assert stats["counters"]["cancelled"] == COUNT
    assert stats["ledger_balanced"]


async def test_many_are_paused_resumed_and_run(api: Client, tasks: set[str]) -> None:
    for verb, state in (("pause", "paused"), ("resume", "scheduled"), ("pause", "paused")):
        assert (await done(api, verb, "type=mail"))["touched"] == COUNT
        assert {info["state"] for info in await listed(api, type="mail")} == {state}
        assert (await done(api, verb, "type=mail&dry_run=true"))["touched"] == 0
        assert (await done(api, verb, "type=mail"))["touched"] == 0
    assert [info["state"] for info in await listed(api, type="default")] == ["scheduled"]
    assert (await done(api, "run", "state=paused"))["touched"] == COUNT
    await asyncio.sleep(0.002)  # a due time is rounded up to a ms, so that only a later ms is behind theirs
    now = (await api.call("POST", "/schedule", json={"webhook": "http://b.example/", "ttl": 0}))[1]["due"]
    assert len(await listed(api, type="mail", due_before=now)) == COUNT


async def test_a_pause_does_not_look_at_what_is_paused(api: Client, tasks: set[str]) -> None:
    (other,) = {info["key"] for info in await listed(api)} - tasks
    assert (await api.call("POST", f"/schedule/{other}/pause"))[0] == 200
    assert await done(api, "pause", "") == {"touched": COUNT, "looked_at": COUNT, "dry_run": False}
    assert await done(api, "pause", "host=a.example") == {"touched": 0, "looked_at": 0, "dry_run": False}


@pytest.mark.parametrize(
    ("path", "field", "told"),
    [
        ("cancel", None, "The query names no filter"),
        ("cancel?dry_run=true", None, "The query names no filter"),
        ("cancel?state=dead", "state", "must be one of"),
        ("resume?state=scheduled", "state", "must be paused: others cannot be resumed, got"),
        ("pause?state=paused", "state", "must be scheduled or deferred or queued or waiting"),
        ("run?state=awaiting", "state", "others cannot be run"),
        ("pause?dry_run=yes", "dry_run", "must be true or false"),
        ("run?cursor=x", "cursor", "must be the `next`"),
        ("resume?limit=1", "limit", "is not a parameter here"),
        ("pause?operation=a.b", "operation", "must be 1 to 64 letters"),
        ("pause?operation=a&dry_run=true", "operation", "must not be given beside dry_run"),
        ("pause?operation=a&cursor=b", "operation", "is another than that of the cursor"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_done(
    path: str, field: str | None, told: str, api: Client
) -> None:
    await api.schedule("http://a.example/", 600)
    status, content = await api.call("POST", f"/schedules/{path}")
    assert (status, content.get("field")) == (400, field)
    assert told in content["error"]
    if field is not None and content["code"] != "unknown-parameter":
        assert content["error"].endswith(f', got "{dict(parse_qsl(path.partition("?")[2]))[field]}"')
    assert [info["state"] for info in await listed(api)] == ["scheduled"]


async def test_a_rate_spreads_what_is_run_and_delays_nothing(api: Client, tasks: set[str]) -> None:
    await api.schedule("http://a.example/", 1, "/schedule?type=mail")
    before = {info["key"]: info["expires"] for info in await listed(api, type="mail")}
    for _ in range(2):  # again: nothing comes later than it did
        assert (await done(api, "run", "type=mail&rate=50"))["touched"] == COUNT + 1
        times = sorted(info["expires"] for info in await listed(api, type="mail"))
        moments = [datetime.fromisoformat(text).timestamp() for text in times]
        assert COUNT / 50 - 2 < moments[-1] - moments[0] < COUNT / 50 + 8
    after = {info["key"]: info["expires"] for info in await listed(api, type="mail")}
    assert all(after[key] <= before[key] for key in after)


async def test_a_run_that_is_sent_again_is_answered_and_keeps_its_pace(api: Client, tasks: set[str]) -> None:
    first = await done(api, "run", "type=mail&rate=50&operation=night")
    before = {info["key"]: info["expires"] for info in await listed(api, type="mail")}
    late = await api.schedule("http://a.example/", 500, "/schedule?type=mail")
    assert await done(api, "run", "type=mail&rate=50.0&operation=night") == first
    after = {info["key"]: info["expires"] for info in await listed(api, type="mail")}
    assert {key: after[key] for key in before} == before
    assert datetime.fromisoformat(after[late]) > datetime.fromisoformat(max(before.values()))


@pytest.mark.one_shard("an operation over several shards has a step for each, so it may always be asked for again")
async def test_an_operation_is_known_only_where_it_may_be_asked_for_again(
    api: Client, store: Store, tasks: set[str]
) -> None:
    at_once = "due_before=2020-01-01T00:00:00Z"
    for query, is_kept in ((at_once, False), ("dry_run=true", False), ("type=mail", True), ("operation=a", True)):
        status, content = await api.call("POST", f"/schedules/pause?{query}")
        assert (status, "operation" in content) == (200, is_kept), query
        assert is_kept or await store.client.command("KEYS", KEYS.operation("*")) == [], query
        for name in await store.client.command("KEYS", KEYS.operation("*")):
            await store.client.command("DEL", name)


@pytest.mark.one_shard("turns are given shard by shard")
async def test_what_comes_before_its_turn_takes_none(api: Client, store: Store) -> None:
    soon = [await api.schedule("http://a.example/", number) for number in (5, 6, 7, 40)]
    await store.pause(soon[2:])
    queued = await api.schedule("http://a.example/", 0)
    late = [await api.schedule("http://a.example/", ttl) for ttl in (600, 601)]
    before = {info["key"]: info["due"] for info in await listed(api)}
    assert (await done(api, "run", "rate=0.1"))["touched"] == 7
    infos = {info["key"]: info for info in await listed(api)}
    assert {info["state"] for key, info in infos.items() if key != queued} == {"scheduled"}
    # The first of all takes the turn now, the last ones those that follow.
    moments = [datetime.fromisoformat(infos[key]["expires"]).timestamp() for key in (soon[0], *late, soon[3])]
    assert [round((moment - moments[0]) / 10) for moment in moments] == [0, 1, 2, 3]
    assert [infos[key]["expires"] for key in soon[1:3]] == [before[key] for key in soon[1:3]]


async def test_series_are_not_run_among_many(api: Client, store: Store) -> None:
    series = await api.schedule("http://a.example/", 600, repeat={"every": 1})
    task = await api.schedule("http://a.example/", 600)
    assert (await done(api, "run", "host=a.example&dry_run=true"))["touched"] == 1
    assert (await done(api, "run", "host=a.example"))["touched"] == 1
    infos = {info["key"]: info for info in await listed(api)}
    assert infos[series]["expires"] == infos[series]["due"]
    assert infos[task]["expires"] < infos[task]["due"]


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
async def test_a_rate_has_a_meaning_only_where_tasks_come_due(verb: str, api: Client) -> None:
    status, content = await api.call("POST", f"/schedules/{verb}?type=mail&rate=5")
    assert (status, content["code"], content["field"]) == (400, "unknown-parameter", "rate")


@pytest.mark.one_shard("where each shard has a part of the tasks, all that the flood asks for is done in time")
async def test_many_requests_of_one_token_leave_turns_to_another(api: Client, client: RedisClient) -> None:
    flooding, other = [
        api.with_token(await make_token(client, "schedule", "bulk", types=(name,))) for name in ("flood", "other")
    ]
    task = {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}
    for _ in range(10):
        assert (await flooding.call("POST", "/schedules?type=flood", json={"tasks": [task] * 100}))[0] == 200
    assert (await other.call("POST", "/schedules?type=other", json={"tasks": [task] * 3}))[0] == 200
    has_ended, statuses = asyncio.Event(), Counter[int]()

    async def flood() -> None:
        while not has_ended.is_set():
            for verb in ("pause", "resume"):
                status, _ = await flooding.call("POST", f"/schedules/{verb}?type=flood")
                statuses[status] += 1

    floods = [asyncio.create_task(flood()) for _ in range(60)]
    await wait_until(lambda: statuses[503] > 0, "more is asked for than is done")
    answers = [await other.call("POST", f"/schedules/{verb}?type=other") for verb in ("pause", "resume") * 3]
    has_ended.set()
    await asyncio.gather(*floods)
    assert [(status, content["touched"]) for status, content in answers] == [(200, 3)] * 6
    await api.call("POST", "/purge")
