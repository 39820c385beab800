"""Long jobs: a receiver that takes a task on with a 202, and says later what became of it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.acceptance.test_moving import command, exported
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.waiting import wait_until


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Client]:
    """The all-in-one service, with one retry at once and one slot; its receiver takes everything on."""
    receiver.status = 202
    variables = {"REDIS_URL": redis_url, "RETRIES": "1", "RETRY_TIME": "0", "CONCURRENCY": "1"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        yield client


async def info(api: Client, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
    return found


async def awaits(api: Client, *keys: str) -> None:
    async def is_so() -> bool:
        return [(await info(api, key))["state"] for key in keys] == ["awaiting"] * len(keys)

    await wait_until(is_so, "the receiver has taken the tasks on")


async def say(api: Client, key: str, verb: str, token: str) -> tuple[int, str]:
    status, content = await api.call("POST", f"/schedule/{key}/{verb}", headers={"Schedule-Ack": token})
    return status, content.get("found", content.get("code"))


async def test_a_job_that_was_taken_on_holds_no_slot_and_ends_when_its_receiver_says_so(
    service: Client, receiver: Receiver
) -> None:
    keys = [await service.schedule(receiver.url, 0, data=number, ack=True) for number in range(3)]
    await awaits(service, *keys)
    stats = await service.stats()
    assert (stats["states"]["awaiting"], stats["running_schedules"], stats["ledger_balanced"]) == (3, 3, True)
    shown = await info(service, keys[0])
    assert shown["waits_for"] == f"an acknowledgement of its attempt 1, until {shown['expires']}"
    listed = (await service.call("GET", "/schedules"))[1]["data"]
    assert {task["info"]["key"] for task in listed} == set(keys)
    tokens = {arrival.key: arrival.headers["Schedule-Ack"] for arrival in receiver.arrivals}
    assert len(set(tokens.values())) == 3
    assert TOKEN not in tokens.values()
    for verb in ("done", "fail", "extend"):
        assert await say(service, keys[0], verb, tokens[keys[1]]) == (409, "wrong-acknowledgement")
        assert (await service.call("POST", f"/schedule/{keys[0]}/{verb}"))[1]["field"] == "Schedule-Ack"
        assert await say(service, "A" * 22, verb, tokens[keys[0]]) == (404, "task-not-found")
    for verb in ("pause", "run"):
        assert (await service.call("POST", f"/schedule/{keys[0]}/{verb}"))[1]["code"] == "in-delivery"
    for key in keys:
        assert await say(service, key, "extend", tokens[key]) == (200, "awaiting")
        assert await say(service, key, "done", tokens[key]) == (200, "awaiting")
    await service.drained()
    assert (await service.stats())["counters"]["delivered"] == 3
    assert len(receiver.arrivals) == 3
    assert await say(service, keys[0], "done", tokens[keys[0]]) == (404, "task-not-found")


async def test_a_job_that_failed_is_tried_again_with_a_token_of_its_own(service: Client, receiver: Receiver) -> None:
    key = await service.schedule(receiver.url, 0, ack=True)
    await awaits(service, key)
    first = receiver.arrivals[0].headers["Schedule-Ack"]
    assert await say(service, key, "fail", first) == (200, "awaiting")
    await wait_until(lambda: len(receiver.arrivals) == 2, "it is tried again")
    await awaits(service, key)
    shown = await info(service, key)
    assert (shown["retry"], shown["last_failure"]["error"]) == (1, "the receiver said that it has failed")
    for verb in ("fail", "done"):
        assert await say(service, key, verb, first) == (409, "wrong-acknowledgement")
    second = receiver.arrivals[1]
    assert second.attempt == 2
    assert await say(service, key, "fail", second.headers["Schedule-Ack"]) == (200, "awaiting")

    async def is_dead() -> bool:
        return bool((await info(service, key))["state"] == "dead")

    await wait_until(is_dead, "it is a dead letter")
    assert (await service.stats())["counters"]["failed"] == 2


async def test_a_job_of_which_nothing_is_heard_has_failed(
    service: Client, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    key = await service.schedule(receiver.url, 0, ack=True, ack_within=0.2)

    async def is_dead() -> bool:
        return bool((await info(service, key))["state"] == "dead")

    await wait_until(is_dead, "both attempts have failed", 20)
    assert (await info(service, key))["last_failure"]["error"] == "not acknowledged within 0.2 s"
    assert [arrival.attempt for arrival in receiver.arrivals] == [1, 2]
    for attempt in (await info(service, key))["attempts"]:
        assert (attempt["status"], attempt["elapsed_ms"] >= 200) == (202, True)
    assert await raw.zcard(KEYS.awaiting) == 0


async def test_a_receiver_may_say_so_before_its_202_arrives(service: Client, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    key = await service.schedule(receiver.url, 0, ack=True)
    await wait_until(lambda: receiver.in_flight, "it is delivered")
    assert await say(service, key, "done", receiver.arrivals[0].headers["Schedule-Ack"]) == (200, "in delivery")
    receiver.may_answer.set()
    await service.drained()
    assert ((await service.stats())["counters"]["delivered"], len(receiver.arrivals)) == (1, 1)


async def test_while_all_is_paused_an_end_is_refused_and_nothing_of_it_is_kept(
    service: Client, receiver: Receiver, redis_url: str, tmp_path: Path
) -> None:
    key = await service.schedule(receiver.url, 0, ack=True)
    await awaits(service, key)
    token = receiver.arrivals[0].headers["Schedule-Ack"]
    await command(0, "pause-all", REDIS_URL=redis_url)
    for verb in ("done", "fail"):
        assert await say(service, key, verb, token) == (503, "all-paused")
    assert await say(service, key, "extend", token) == (200, "awaiting")
    line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[key]
    assert (line["state"], "next" in line) == ("awaiting", False)
    # As a version before wrote it.
    (tmp_path / "b").write_text(json.dumps(line | {"next": "2200-01-01T00:00:00.000Z"}))
    there = {"REDIS_URL": redis_url, "NAMESPACE": "there"}
    await command(0, "import", str(tmp_path / "b"), **there)
    (moved,) = (await exported(tmp_path / "c", **there)).values()
    assert moved == line | {"state": "scheduled"}
    await command(0, "resume-all", REDIS_URL=redis_url)
    assert await say(service, key, "done", token) == (200, "awaiting")
    await service.drained()
    assert len(receiver.arrivals) == 1


@pytest.mark.parametrize("verb", ["done", "fail"])
async def test_what_was_said_before_a_pause_of_all_comes_over_with_an_export(
    verb: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.status = 202
    here = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "RETRIES": "0"}
    async with serving(tmp_path, "api", **here) as api, client_of(api) as client:
        async with serving(tmp_path, "worker", **here):
            key = await client.schedule(receiver.url, 0, ack=True)
            await awaits(client, key)
        # No worker writes it.
        assert await say(client, key, verb, receiver.arrivals[0].headers["Schedule-Ack"]) == (200, "awaiting")
        await command(0, "pause-all", REDIS_URL=redis_url)
        line = (await exported(tmp_path / "a", REDIS_URL=redis_url))[key]
        assert (line["state"], line["acknowledged"]) == ("queued", "done" if verb == "done" else "failed")
    there = here | {"NAMESPACE": "there"}
    for folder in ("a", "b"):
        await command(0, "import", "--replace", str(tmp_path / folder), **there)
        (moved,) = (await exported(tmp_path / "b", **there)).values()
        assert moved == line | {"state": "scheduled"}
    async with serving(tmp_path, **there) as service, client_of(service) as client:
        await client.drained()
        counted = (await client.stats())["counters"]
    assert (counted["delivered"], counted["died"]) == ((1, 0) if verb == "done" else (0, 1))
    assert len(receiver.arrivals) == 1


async def test_without_ack_a_202_is_a_success_and_with_it_a_200_is(service: Client, receiver: Receiver) -> None:
    await service.schedule(receiver.url, 0)
    await service.drained()
    assert "Schedule-Ack" not in receiver.arrivals[0].headers
    receiver.status = 200
    await service.schedule(receiver.url, 0, ack=True)
    await service.drained()
    assert (await service.stats())["counters"]["delivered"] == 2


WRONG: list[Any] = [0, -1, 604_801, 1e300, "5", None, [], {}, True]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ack": 1}, "ack"),
        ({"ack": "true"}, "ack"),
        ({"ack": None}, "ack"),
        *[({"ack": True, "ack_within": within}, "ack_within") for within in WRONG],
        ({"ack_within": 5}, "ack_within"),
        ({"ack": False, "ack_within": 5}, "ack_within"),
    ],
)
async def test_a_wrong_option_is_refused(service: Client, fields: dict[str, Any], field: str) -> None:
    body = {"webhook": "http://127.0.0.1:9/", "ttl": 60, **fields}
    status, content = await service.call("POST", "/schedule", json=body)
    assert (status, content["field"]) == (400, field)
    assert (await service.stats())["running_schedules"] == 0
