"""A token with limits fills its share and is told so; others go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS_OF_SHARDS
from tests.support.quotas import BODY, HOOK, LIMITS, full_of, owner, share, user, waiting
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.waiting import wait_until

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/schedule?type=mail", {"json": BODY}),
    ("POST", "/schedule?type=mail", {"json": BODY, "headers": {"Idempotency-Key": "a"}}),
    ("PUT", "/schedule/own:a?type=mail", {"json": BODY}),
    ("POST", "/schedules?type=mail", {"json": {"tasks": [BODY]}}),
]


@pytest.mark.parametrize(("method", "path", "given"), ASKED)
async def test_above_the_rate_nothing_is_scheduled_and_the_answer_says_when(
    method: str, path: str, given: dict[str, Any], api: Client, client: RedisClient
) -> None:
    small, other = await user(api, client, rate=0.1), await user(api, client)
    assert (await small.call("POST", "/schedule?type=mail", json=BODY))[0] == 200
    async with small.session.request(
        method, small.url + path, **{**given, "headers": small.headers | given.get("headers", {})}
    ) as response:
        content = await response.json()
        assert (response.status, content["code"]) == (429, "token-rate")
        assert 8 <= int(response.headers["Retry-After"]) <= 10
    assert await waiting(client) == 1
    for one in (other, api):
        assert (await one.call(method, path, **given))[0] == 200
    await api.call("POST", "/purge")


@pytest.mark.parametrize(("method", "path", "given"), ASKED)
async def test_a_full_share_refuses_what_enters_and_nothing_else(
    method: str, path: str, given: dict[str, Any], api: Client, client: RedisClient
) -> None:
    small, other = await user(api, client, tasks=3), await user(api, client)
    for _ in range(3):
        key = (await small.call("POST", "/schedule?type=mail", json=BODY))[1]["key"]
    status, content = await small.call(method, path, **given)
    assert (status, content["code"]) == (507, "token-full")
    assert "may have 3 (tasks)" in content["error"]
    assert await waiting(client) == 3
    assert (await small.call("PATCH", f"/schedule/{key}", json={"ttl": 70}))[0] == 200
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200
    assert (await small.call(method, path, **given))[0] == 200
    assert (await other.call("POST", "/schedule?type=mail", json=BODY))[0] == 200
    await api.call("POST", "/purge")


LIMITED = {"TOKEN_TASKS": ({"tasks": 4}, "tasks"), "TOKEN_BYTES": ({"task_bytes": 800}, "bytes")}


@pytest.mark.parametrize("setting", LIMITED)
async def test_a_token_without_a_limit_has_that_of_the_setting(
    setting: str, tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    limits, name = LIMITED[setting]
    given = {setting: str(next(iter(limits.values())) // 2), "TOKEN_RATE": "100"}
    async with serving(tmp_path, "api", REDIS_URL=redis_url, **given) as process, client_of(process) as api:
        usual, own = await user(api, client), await user(api, client, **limits)
        counts = []
        for one in (usual, own):
            answers = [await one.call("POST", "/schedule?type=mail", json=BODY) for _ in range(12)]
            counts.append([status for status, _ in answers].index(507))
            assert full_of(*answers[-1], name)
        assert 0 < counts[0] < counts[1]
        assert (await api.call("POST", "/schedules", json={"tasks": [BODY] * 200}))[0] == 200
        await api.call("POST", "/purge")


async def test_the_rate_of_the_setting_is_that_of_tokens_without_one(
    tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, TOKEN_RATE="0.1") as process,
        client_of(process) as api,
    ):
        usual, own = await user(api, client), await user(api, client, rate=100)
        for one, second in ((usual, 429), (own, 200), (api, 200)):
            assert (await one.call("POST", "/schedule?type=mail", json=BODY))[0] == 200
            assert (await one.call("POST", "/schedule?type=mail", json=BODY))[0] == second


async def test_requests_at_once_do_not_pass_the_limit_together(api: Client, client: RedisClient) -> None:
    small = await user(api, client, tasks=20)
    body = {"tasks": [BODY] * 3}
    answers = await asyncio.gather(*(small.call("POST", "/schedules?type=mail", json=body) for _ in range(40)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 507}
    assert 0 < await waiting(client) == 3 * statuses.count(200) <= 20
    await api.call("POST", "/purge")


async def test_changes_at_once_that_bring_nothing_more_are_all_done(api: Client, client: RedisClient) -> None:
    small = await user(api, client, tasks=1_000)
    paths = [f"/schedule/own:{number}?type=mail" for number in range(20)]
    for _ in range(3):
        answers = await asyncio.gather(*(small.call("PUT", path, json=BODY) for path in paths))
        assert {status for status, _ in answers} == {200}, answers
    assert await waiting(client) == 20
    await api.call("POST", "/purge")


async def test_hundreds_of_requests_of_a_token_at_once_are_no_outage(
    tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url) as process, client_of(process) as api:
        small = await user(api, client, tasks=20)
        async with aiohttp.ClientSession(headers=small.headers, connector=aiohttp.TCPConnector(limit=0)) as session:
            answers = await asyncio.gather(
                *(session.post(f"{small.url}/schedule?type=mail", json=BODY) for _ in range(400))
            )
            assert {answer.status for answer in answers} == {200, 507}
        assert await waiting(client) == 20
        assert not process.events("redis-away")
        await api.call("POST", "/purge")


@pytest.mark.one_shard("over several shards, what another process serves in the same moment may pass a limit")
async def test_requests_at_once_to_several_processes_do_not_pass_the_limits_together(
    tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, PROCESSES="3") as process,
        client_of(process) as api,
    ):
        for number, limits in enumerate(({"tasks": 20}, {"task_bytes": 4_000}, {"tasks": 20}, {"task_bytes": 4_000})):
            small, small_id = await owner(api, client, **limits)
            body = {"tasks": [BODY] * 3}
            async with aiohttp.ClientSession(headers=small.headers, connector=aiohttp.TCPConnector(limit=0)) as session:
                answers = await asyncio.gather(
                    *(session.post(f"{small.url}/schedules", json=body) for _ in range(100)),
                    *(session.put(f"{small.url}/schedule/own:{number}:{one}", json=BODY) for one in range(20)),
                )
            assert {answer.status for answer in answers} == {200, 507}
            has = await share(client, small_id)
            assert has[0] <= limits.get("tasks", 10**9)
            assert has[1] <= limits.get("task_bytes", 10**9)
            # Nothing is about to be written any more: what is left may be filled, one after another.
            while (answer := await small.call("POST", "/schedule", json=BODY))[0] == 200:
                pass
            assert full_of(*answer, next(iter(limits)).removeprefix("task_"))
            assert (await share(client, small_id))[0] == limits.get("tasks", (await share(client, small_id))[0])
        await api.call("POST", "/purge")


async def test_only_tasks_of_the_token_count_and_those_that_end_make_room(api: Client, client: RedisClient) -> None:
    (small, _), (other, _) = await owner(api, client, tasks=2), await owner(api, client)
    for one in (api, other, small, small):
        key = await one.schedule(HOOK, 60)
    assert full_of(*await small.call("POST", "/schedule", json=BODY), "tasks")
    await small.call("DELETE", f"/schedule/{key}")
    assert (await small.call("POST", "/schedule", json=BODY))[0] == 200
    assert full_of(*await small.call("POST", "/schedule", json=BODY), "tasks")
    await api.call("POST", "/purge")
    assert (await small.call("POST", "/schedules", json={"tasks": [BODY] * 2}))[0] == 200
    await api.call("POST", "/purge")


async def test_above_its_bytes_nothing_is_scheduled(api: Client, client: RedisClient) -> None:
    small, small_id = await owner(api, client, task_bytes=1_000)
    body = BODY | {"data": "x" * 300}
    for _ in range(2):
        assert (await small.call("POST", "/schedule", json=body))[0] == 200
    before = await share(client, small_id)
    for method, path, given in (
        ("POST", "/schedule", body),
        ("PUT", "/schedule/own:a", body),
        ("POST", "/schedules", {"tasks": [BODY, body]}),
    ):
        status, content = await small.call(method, path, json=given)
        assert full_of(status, content, "bytes")
        assert content["error"].startswith(f"{before[1]} bytes of records")
    assert await share(client, small_id) == before
    assert (await small.call("POST", "/schedule", json=BODY))[0] == 200
    assert sum((await share(client, small_id))[1:]) <= 1_000
    await api.call("POST", "/purge")


@pytest.mark.parametrize("limits", LIMITS, ids=[next(iter(one)) for one in LIMITS])
@pytest.mark.parametrize(
    ("path", "body"), [("/schedule", BODY), ("/schedules", {"tasks": [BODY] * 2})], ids=["one", "many"]
)
async def test_a_repeat_of_what_was_accepted_is_answered_also_at_the_limit(
    path: str, body: dict[str, Any], limits: dict[str, Any], api: Client, client: RedisClient
) -> None:
    small, small_id = await owner(api, client, **limits)
    asked = {"json": body, "headers": {"Idempotency-Key": "a"}}
    first = await small.call("POST", path, **asked)
    assert first[0] == 200
    while (await small.call("POST", "/schedule", json=BODY))[0] == 200:
        pass
    before = await share(client, small_id)
    assert await small.call("POST", path, **asked) == first
    assert (await small.call("POST", path, json=body, headers={"Idempotency-Key": "b"}))[0] in (429, 507)
    assert await share(client, small_id) == before
    await api.call("POST", "/purge")


async def test_of_a_batch_that_was_written_in_part_the_rest_needs_room(api: Client, client: RedisClient) -> None:
    small, small_id = await owner(api, client, tasks=4)
    asked = {"json": {"tasks": [BODY] * 3}, "headers": {"Idempotency-Key": "a"}}
    assert (await small.call("POST", "/schedules", **asked))[0] == 200

    async def forget_one() -> None:
        kept = [(keys, await client.command("HKEYS", keys.idempotency)) for keys in KEYS_OF_SHARDS]
        keys, name = next((keys, names[0]) for keys, names in kept if names)
        await client.command("HDEL", keys.idempotency, name)
        await client.command("ZREM", keys.idempotency_ends, name)

    await forget_one()
    assert (await small.call("POST", "/schedules", **asked))[0] == 200
    assert (await share(client, small_id))[0] == 4
    assert (await small.call("POST", "/schedules", **asked))[0] == 200
    await forget_one()
    assert full_of(*await small.call("POST", "/schedules", **asked), "tasks")
    assert (await share(client, small_id))[0] == 4
    await api.call("POST", "/purge")


@pytest.fixture
async def service(redis_url: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Client]:
    """The all-in-one service."""
    receiver.statuses = [200]
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as client:
        yield client


async def test_what_is_accepted_goes_on_whatever_it_brings(
    service: Client, client: RedisClient, receiver: Receiver
) -> None:
    small, small_id = await owner(service, client, tasks=1, task_bytes=700)
    later = {"webhook": receiver.url, "ttl": 3_600, "data": "x" * 900}
    body = {"webhook": receiver.url, "repeat": {"every": 1}, "ttl": 0, "on_success": later}
    assert (await small.call("POST", "/schedule", json=body))[0] == 507, "it says all that comes of it"
    await small.call("PUT", "/schedule/own:a", json=body | {"on_success": later | {"data": "x" * 200}})

    async def are_three() -> bool:
        return (await share(client, small_id))[0] >= 3

    await wait_until(are_three, "the series and two callbacks of its occurrences wait")
    assert (await small.call("POST", "/schedule", json=BODY))[0] == 507
    assert (await small.call("DELETE", "/schedule/own:a"))[0] == 200
    await service.call("POST", "/purge")
