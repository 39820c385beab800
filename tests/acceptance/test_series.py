"""Series: tasks that repeat, as a user and the receiver see them."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.acceptance.test_bad_input import refused
from tests.acceptance.test_repeat import WRONG_RULES
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.shards import keys_of
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/"


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """The all-in-one service; a task that failed twice is dead."""
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "1"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


async def series_of(api: Client, webhook: str, repeat: dict[str, Any], **fields: Any) -> str:
    status, content = await api.call("POST", "/schedule", json={"webhook": webhook, "repeat": repeat} | fields)
    assert status == 200, content
    key: str = content["key"]
    return key


async def info(api: Client, key: str) -> dict[str, Any]:
    status, content = await api.call("GET", f"/schedule/{key}")
    assert status == 200, content
    found: dict[str, Any] = content["data"]["info"]
    return found


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def numbers(receiver: Receiver) -> list[int]:
    """The numbers of the occurrences that came, in the order of their first attempts."""
    return [int(one.headers["Schedule-Occurrence"]) for one in receiver.arrivals if one.attempt == 1]


async def gone(api: Client, key: str) -> None:
    async def is_gone() -> bool:
        return bool((await info(api, key))["state"] == "ended")

    await wait_until(is_gone, "the series has ended")


async def test_it_makes_a_task_of_its_own_each_time_and_ends(service: Client, receiver: Receiver) -> None:
    before = seconds((await service.call("POST", "/repeat/preview", json={"repeat": {"every": 1}}))[1]["data"][0])
    key = await series_of(service, receiver.url, {"every": 1, "times": 3}, data={"n": 1})
    first = await info(service, key)
    assert before <= seconds(first["due"]) < before + 1
    assert (first["repeat"], first["state"], first["ttl"]) == ({"every": 1, "times": 3}, "scheduled", None)
    assert (first["series"]["made"], first["series"]["skipped"], len(first["series"]["next"])) == (0, 0, 3)
    await gone(service, key)
    await service.drained()
    ended = await info(service, key)
    last = {"key": receiver.arrivals[-1].key, "state": "delivered"}
    assert ended["series"] == {"made": 3, "skipped": 0, "last": last}
    assert seconds(ended["due"]) == seconds(first["due"]) + 2
    assert seconds(ended["ended"]) >= seconds(ended["due"])
    await service.drained()
    assert numbers(receiver) == [1, 2, 3]
    assert {one.headers["Schedule-Series"] for one in receiver.arrivals} == {key}
    assert len({one.key for one in receiver.arrivals} | {key}) == 4
    assert {one.body for one in receiver.arrivals} == {b'{"n": 1}'}
    due = seconds(first["due"])
    for number, one in enumerate(receiver.arrivals):
        assert due + number <= one.at < due + number + 0.9
    stats = await service.stats()
    assert stats["counters"]["ended"] == 1
    assert stats["counters"]["scheduled"] == 4
    assert stats["counters"]["delivered"] == 3
    assert stats["ledger_balanced"]


@pytest.mark.parametrize("when", ["ttl", "at"])
async def test_ttl_and_at_say_when_it_begins(service: Client, receiver: Receiver, when: str) -> None:
    begins: dict[str, Any] = {"ttl": 0} if when == "ttl" else {"at": "2020-01-01T00:00:00Z"}
    key = await series_of(service, receiver.url, {"every": 3600}, **begins)
    await wait_until(lambda: receiver.arrivals, "it has begun")

    async def has_fired() -> dict[str, Any] | None:
        shown = await info(service, key)
        return shown if shown["series"]["made"] else None

    shown = await wait_until(has_fired, "it waits for its next time") or {}
    assert 3590 < seconds(shown["due"]) - receiver.arrivals[0].at < 3601
    assert shown["series"]["last"]["key"] == receiver.arrivals[0].key
    other = await series_of(service, HOOK, {"cron": "0 9 * * *", "tz": "Asia/Tokyo"}, at="2035-01-31T23:59:59Z")
    assert (await info(service, other))["due"] == "2035-02-01T00:00:00.000Z"


async def test_an_occurrence_that_fails_is_retried_and_holds_none_back(service: Client, receiver: Receiver) -> None:
    receiver.status = 503
    key = await series_of(service, receiver.url, {"every": 1, "times": 3, "overlap": "allow"}, ttl=0)
    await gone(service, key)
    stats = await service.drained()
    assert stats["states"]["dead"] == 3
    assert numbers(receiver) == [1, 2, 3]
    assert sorted(one.attempt for one in receiver.arrivals) == [1, 1, 1, 2, 2, 2]


async def test_with_overlap_skip_none_is_made_while_the_one_before_is_unfinished(
    service: Client, receiver: Receiver
) -> None:
    receiver.may_answer.clear()
    key = await series_of(service, receiver.url, {"every": 1, "overlap": "skip", "times": 2}, ttl=0)

    async def skipped() -> int:
        count: int = (await info(service, key))["series"]["skipped"]
        return count

    await wait_until(lambda: receiver.arrivals, "the first has come")

    async def has_skipped_two() -> bool:
        return await skipped() >= 2

    await wait_until(has_skipped_two, "two were skipped")
    shown = (await info(service, key))["series"]
    assert (shown["made"], shown["last"]) == (1, {"key": receiver.arrivals[0].key, "state": "in delivery"})
    receiver.may_answer.set()
    await gone(service, key)
    await service.drained()
    assert numbers(receiver) == [1, 2]


async def test_an_occurrence_becomes_no_series(service: Client, receiver: Receiver) -> None:
    receiver.status = 500
    _, content = await service.call(
        "POST", "/schedule", json={"webhook": receiver.url, "ttl": 0, "retry_time": 600, "repeat": {"every": 600}}
    )
    await wait_until(lambda: receiver.arrivals, "an occurrence was attempted")
    path = f"/schedule/{receiver.arrivals[0].key}"
    status, refused = await service.call("PATCH", path, json={"repeat": {"every": 60}})
    said = (
        f'repeat: must not be given to an occurrence: its series, {content["key"]}, makes the next, got {{"every":60}}'
    )
    assert (status, refused["error"], refused["code"]) == (400, said, "contradiction")
    assert "repeat" not in (await service.call("GET", path))[1]["data"]["info"]
    assert (await service.call("PATCH", path, json={"repeat": None, "ttl": 600}))[0] == 200


async def test_a_dead_occurrence_is_a_finished_one(service: Client, receiver: Receiver) -> None:
    receiver.statuses = [500, 500]
    key = await series_of(service, receiver.url, {"every": 1, "overlap": "skip", "times": 2}, ttl=0)

    async def is_dead() -> dict[str, Any] | None:
        last = (await info(service, key))["series"].get("last", {})
        return last if last.get("state") == "dead" else None

    last = await wait_until(is_dead, "the first is dead") or {}
    assert last["last_failure"]["status"] == 500
    await gone(service, key)
    await service.drained()
    assert numbers(receiver) == [1, 2]


async def test_a_delete_ends_the_series_and_its_occurrence_runs_on(service: Client, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    key = await series_of(service, receiver.url, {"every": 1}, ttl=0)
    await wait_until(lambda: receiver.arrivals, "the first has come")
    assert (await service.call("DELETE", f"/schedule/{key}"))[0] == 200
    running = await info(service, receiver.arrivals[0].key)
    assert running["occurrence"] == {"series": key, "number": 1}
    assert "repeat" not in running
    receiver.may_answer.set()
    stats = await service.drained()
    assert stats["counters"]["cancelled"] == 1
    assert stats["ledger_balanced"]


async def test_a_series_changes_while_its_occurrence_runs(service: Client, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    key = await series_of(service, receiver.url, {"every": 3600}, ttl=0, data=1)
    await wait_until(lambda: receiver.arrivals, "the first has come")
    change = {"repeat": {"every": 1, "times": 3}, "data": 2}
    assert (await service.call("PATCH", f"/schedule/{key}", json=change))[0] == 200
    await wait_until(lambda: len(receiver.arrivals) == 2, "the second has come by the new rule")
    receiver.may_answer.set()
    await gone(service, key)
    await service.drained()
    assert [one.body for one in receiver.arrivals] == [b"1", b"2", b"2"]
    assert numbers(receiver) == [1, 2, 3]


async def test_a_change_of_the_rest_keeps_the_time_and_null_makes_it_an_ordinary_task(
    service: Client, receiver: Receiver
) -> None:
    key = await series_of(service, HOOK, {"every": 3600})
    before = await info(service, key)
    assert (await service.call("PATCH", f"/schedule/{key}", json={"data": 5}))[0] == 200
    assert await info(service, key) == before | {"has_data": True}
    other = {"repeat": {"cron": "0 0 1 1 *"}}
    status, content = await service.call("PATCH", f"/schedule/{key}", json=other)
    assert (status, content["due"][4:]) == (200, "-01-01T00:00:00.000Z")
    plain = {"repeat": None, "webhook": receiver.url, "ttl": 0}
    assert (await service.call("PATCH", f"/schedule/{key}", json=plain))[0] == 200
    await service.drained()
    [arrival] = receiver.arrivals
    assert arrival.key == key
    assert "Schedule-Series" not in arrival.headers
    task = await service.schedule(HOOK, 3600)
    assert (await service.call("PATCH", f"/schedule/{task}", json={"repeat": {"every": 60}}))[0] == 200
    shown = await info(service, task)
    assert (shown["series"]["made"], len(shown["series"]["next"])) == (0, 5)


async def test_a_rule_by_which_all_was_made_already_is_refused(service: Client, receiver: Receiver) -> None:
    key = await series_of(service, receiver.url, {"every": 3600}, ttl=0)
    await wait_until(lambda: receiver.arrivals, "the first has come")
    await service.call("DELETE", f"/schedule/{receiver.arrivals[0].key}")
    for times, status in ((1, 400), (2, 200)):
        found, content = await service.call(
            "PATCH", f"/schedule/{key}", json={"repeat": {"every": 3600, "times": times}}
        )
        assert (found, content.get("field")) == (status, "repeat.times" if status == 400 else None)


async def test_run_makes_one_more_now_and_the_series_keeps_its_time(service: Client, receiver: Receiver) -> None:
    key = await series_of(service, receiver.url, {"cron": "0 0 1 1 *"})
    due = (await info(service, key))["due"]
    assert (await service.call("POST", f"/schedule/{key}/run"))[0] == 200
    await wait_until(lambda: receiver.arrivals, "it has come")

    async def has_fired() -> dict[str, Any] | None:
        shown = await info(service, key)
        return shown if shown["series"]["made"] else None

    shown = await wait_until(has_fired, "the series waits again") or {}
    assert (shown["due"], shown["state"], numbers(receiver)) == (due, "scheduled", [1])


async def test_a_run_just_before_the_time_of_a_series_makes_one_more(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """Though its time is over when a worker takes it up."""
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN}
    async with serving(tmp_path, "api", **settings) as api, client_of(api) as client:
        key = await series_of(client, receiver.url, {"every": 1, "times": 3, "missed": "all"})
        due = seconds((await info(client, key))["due"])
        assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
        await wait_until(lambda: time.time() > due + 0.2, "its time is over")
        async with serving(tmp_path, "worker", **settings):
            await gone(client, key)
            await client.drained()
    late_ms = {
        one.headers["Schedule-Occurrence"]: round((seconds(one.headers["Schedule-Due"]) - due) * 1000)
        for one in receiver.arrivals
    }
    assert late_ms.pop("1") > 200
    assert late_ms == {"2": 0, "3": 1_000}


async def test_a_run_that_would_make_nothing_is_refused(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """A series that was told to run makes one occurrence for that, however often it is told before."""
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN}
    async with serving(tmp_path, "api", **settings) as api, client_of(api) as client:
        key = await series_of(client, receiver.url, {"every": 3600})
        other = await client.schedule(receiver.url, 3600)
        answers = [await client.call("POST", f"/schedule/{one}/run") for one in (key, key, other, other)]
        assert [(status, content.get("code")) for status, content in answers] == [
            (200, None),
            (409, "series-queued"),
            (200, None),
            (200, None),
        ]
        assert (await client.call("POST", f"/schedule/{key}/pause"))[0] == 200
        status, content = await client.call("POST", f"/schedule/{key}/run")
        assert (status, "if it is paused, resume it" in content["error"]) == (409, True)
        assert (await info(client, key))["state"] == "paused"


@pytest.mark.parametrize("missed", ["latest", "all"])
async def test_what_passed_while_nothing_delivered_is_made_as_the_series_says(
    missed: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN}
    async with serving(tmp_path, "api", **settings) as api, client_of(api) as client:
        key = await series_of(client, receiver.url, {"every": 1, "missed": missed, "times": 6})
        due = seconds((await info(client, key))["due"])
        await asyncio.sleep(4)  # its times pass, one a second, and there is no worker
        async with serving(tmp_path, "worker", **settings):
            await wait_until(lambda: len(receiver.arrivals) == 6, "it goes on")
            shown = (await info(client, key))["series"]
    assert sorted(numbers(receiver)) == [1, 2, 3, 4, 5, 6]
    dues = sorted(seconds(one.headers["Schedule-Due"]) for one in receiver.arrivals)
    left_out = round(dues[-1] - due) - 5
    assert shown["skipped"] == left_out
    if missed == "latest":
        assert left_out >= 2
        return
    assert left_out == 0
    passed = int(receiver.arrivals[0].at - due)
    at_once = [one for one in receiver.arrivals if one.at < receiver.arrivals[0].at + 0.4]
    assert len(at_once) >= passed >= 2


async def test_two_workers_make_each_occurrence_once(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN}
    async with (
        serving(tmp_path, **settings) as one,
        serving(tmp_path, "worker", **settings),
        client_of(one) as client,
    ):
        keys = [await series_of(client, receiver.url, {"every": 1, "times": 3}, ttl=0) for _ in range(30)]
        for key in keys:
            await gone(client, key)
        await client.drained()
    found = sorted((one.headers["Schedule-Series"], one.headers["Schedule-Occurrence"]) for one in receiver.arrivals)
    assert found == sorted((key, number) for key in keys for number in "123")


async def test_a_list_shows_what_a_series_has_done_but_not_its_next_times(api: Client) -> None:
    key = await series_of(api, HOOK, {"every": 60}, headers={"X-A": "1"})
    [task] = (await api.call("GET", "/schedules"))[1]["data"]
    assert task["info"]["key"] == key
    assert task["info"]["series"] == {"made": 0, "skipped": 0}
    assert task["info"]["headers"] == {"X-A": "1"}


@pytest.mark.parametrize(("repeat", "field", "said"), WRONG_RULES)
async def test_a_wrong_rule_is_refused_wherever_it_is_given(
    api: Client, raw: redis.asyncio.Redis, repeat: Any, field: str, said: str
) -> None:
    status, error = await refused(api, raw, "POST", "/schedule", json={"webhook": HOOK, "repeat": repeat})
    assert status == 400
    assert said in error
    key = await api.schedule(HOOK, 3600)
    before = await info(api, key)
    if repeat is not None:  # which gives a PATCH the default again
        status, content = await api.call("PATCH", f"/schedule/{key}", json={"repeat": repeat})
        assert (status, content["field"]) == (400, field)
        assert said in content["error"]
    assert await info(api, key) == before


async def test_an_end_before_the_beginning_is_refused(api: Client, raw: redis.asyncio.Redis) -> None:
    repeat = {"every": 3600, "until": "2030-01-01T00:00:00Z"}
    body = {"webhook": HOOK, "at": "2031-01-01T00:00:00Z", "repeat": repeat}
    assert "repeat.until" in (await refused(api, raw, "POST", "/schedule", json=body))[1]
    assert (await api.call("POST", "/schedule", json=body | {"at": "2030-01-01T00:00:00Z"}))[0] == 200


async def test_a_rule_that_other_hands_wrote_ends_no_worker(
    service: Client, raw: redis.asyncio.Redis, receiver: Receiver, tmp_path: Path
) -> None:
    keys = [await series_of(service, HOOK, {"cron": "0 0 11 1 *"}) for _ in range(2)]
    for key, wrong in zip(keys, ("0 0 99 1 *", "0 0 30 2 *"), strict=True):
        tasks = (await keys_of(raw, key)).tasks
        record = await raw.hget(tasks, key)
        text = record.decode() if isinstance(record, bytes) else str(record)
        await raw.hset(tasks, key, text.replace("0 0 11 1 *", wrong))
        await service.call("POST", f"/schedule/{key}/run")
        assert (await info(service, key))["series"] == {"made": 0, "skipped": 0, "next": []}
    await service.schedule(receiver.url)
    await wait_until(lambda: receiver.arrivals, "the service lives")

    async def waits_again() -> bool:
        return all([(await info(service, key))["state"] == "scheduled" for key in keys])

    await wait_until(waits_again, "they are left for another machine")
