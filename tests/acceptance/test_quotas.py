"""A token with limits fills its share and is told so; others go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from redis_scheduler.api.steps import STEP_TASKS
from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.listing import TOKEN_MARK
from tests.scripts import states
from tests.support.names import KEYS, KEYS_OF_SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.shards import keys_of
from tests.support.store import Store
from tests.support.tokens import ALL_RIGHTS, id_of, make_token
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/"
BODY: dict[str, Any] = {"webhook": HOOK, "ttl": 60}


async def user(api: Client, client: RedisClient, **limits: Any) -> Client:
    return api.with_token(await make_token(client, "schedule", types=("mail",), **limits))


async def waiting(client: RedisClient) -> int:
    return sum([await client.command("ZCARD", keys.type_index("mail")) for keys in KEYS_OF_SHARDS])


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


async def owner(api: Client, client: RedisClient, **limits: Any) -> tuple[Client, str]:
    """Whoever has a token with these limits and all rights, and its id."""
    text = await make_token(client, *ALL_RIGHTS, **limits)
    return api.with_token(text), id_of(text)


async def share(client: RedisClient, token_id: str) -> tuple[int, int]:
    """How many tasks of a token wait, and the bytes of their records."""
    names = [keys.owned(token_id) for keys in KEYS_OF_SHARDS]
    counts = [await client.command("HLEN", name) for name in names]
    sums = [await client.command("HGET", name, ".bytes") for name in names]
    return sum(max(0, count - 1) for count in counts), sum(int(one or 0) for one in sums)


def full_of(status: int, content: dict[str, Any], name: str) -> bool:
    return (status, content["code"]) == (507, "token-full") and f"({name})" in content["error"]


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


LIMITS: list[dict[str, Any]] = [{"tasks": 2}, {"task_bytes": 300}, {"rate": 0.01}]


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


async def test_what_replaces_an_own_task_needs_no_room_for_it_and_what_takes_anothers_does(
    api: Client, client: RedisClient
) -> None:
    (small, small_id), (other, other_id) = await owner(api, client, tasks=2), await owner(api, client)
    batch = {"tasks": [BODY | {"key": "own:a"}, BODY | {"key": "own:b"}]}
    for _ in range(2):
        assert (await small.call("POST", "/schedules", json=batch))[0] == 200
        assert (await small.call("PUT", "/schedule/own:a", json=BODY))[0] == 200
    for one in (api, other):
        assert (await one.call("PUT", "/schedule/own:c", json=BODY))[0] == 200
        assert full_of(*await small.call("PUT", "/schedule/own:c", json=BODY), "tasks")
        more = {"tasks": [BODY | {"key": "own:a"}, BODY | {"key": "own:c"}]}
        assert full_of(*await small.call("POST", "/schedules", json=more), "tasks")
    assert (await share(client, small_id))[0] == 2
    assert (await other.call("PUT", "/schedule/own:a", json=BODY))[0] == 200
    assert [(await share(client, one))[0] for one in (small_id, other_id)] == [1, 2]
    assert (await small.call("PUT", "/schedule/own:c", json=BODY))[0] == 200
    assert [(await share(client, one))[0] for one in (small_id, other_id)] == [2, 1]
    await api.call("POST", "/purge")


async def test_a_change_that_grows_asks_the_token_whose_task_it_is(api: Client, client: RedisClient) -> None:
    (small, small_id), text = await owner(api, client, task_bytes=500), await make_token(client, "schedule")
    other = api.with_token(text)
    key = (await small.call("POST", "/schedule", json=BODY | {"data": "x" * 200}))[1]["key"]
    for one in (small, other):
        before = await api.call("GET", f"/schedule/{key}")
        status, content = await one.call("PATCH", f"/schedule/{key}", json={"data": "x" * 600})
        assert full_of(status, content, "bytes")
        assert (small_id in content["error"]) is (one is small)
        assert await api.call("GET", f"/schedule/{key}") == before
        assert (await one.call("PATCH", f"/schedule/{key}", json={"data": "x" * 190}))[0] == 200
        assert (await one.call("PATCH", f"/schedule/{key}", json={"data": "x" * 200}))[0] == 200
    assert (await api.call("PATCH", f"/schedule/{key}", json={"data": "x" * 600}))[0] == 200
    assert (await share(client, small_id))[1] > 600
    assert (await small.call("PATCH", f"/schedule/{key}", json={"data": "x" * 599}))[0] == 200
    await api.call("POST", "/purge")


async def test_a_task_of_api_auth_that_is_led_elsewhere_is_of_the_token_that_does_so(
    api: Client, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    small, small_id = await owner(api, client, tasks=2)
    keys = [await api.schedule(HOOK, 60) for _ in range(3)]
    assert (await small.call("PATCH", f"/schedule/{keys[0]}", json={"data": 1, "on_success": None}))[0] == 200
    assert await share(client, small_id) == (0, 0)
    assert (await small.call("PATCH", f"/schedule/{keys[0]}", json={"webhook": f"{HOOK}b"}))[0] == 200
    assert (await small.call("PATCH", f"/schedule/{keys[1]}", json={"on_failure": {"webhook": HOOK}}))[0] == 200
    records = [await raw.hget((await keys_of(raw, key)).tasks, key) for key in keys[:2]]
    assert await share(client, small_id) == (2, sum(len(record or b"") for record in records))
    before = await api.call("GET", f"/schedule/{keys[2]}")
    assert full_of(*await small.call("PATCH", f"/schedule/{keys[2]}", json={"webhook": f"{HOOK}b"}), "tasks")
    assert await api.call("GET", f"/schedule/{keys[2]}") == before
    assert (await small.call("PATCH", f"/schedule/{keys[0]}", json={"webhook": HOOK}))[0] == 200
    await api.call("POST", "/purge")


@pytest.mark.parametrize("limits", LIMITS[:2], ids=["tasks", "bytes"])
async def test_a_replay_asks_for_room(limits: dict[str, Any], api: Client, client: RedisClient) -> None:
    (small, small_id), (other, _) = await owner(api, client, **limits), await owner(api, client)
    store = Store(client, process_name())
    dead = [(await states.dead(store, TOKEN_MARK + small_id)).key for _ in range(3)]
    while (await small.call("POST", "/schedule", json=BODY))[0] == 200:
        pass
    before = await share(client, small_id)
    for one in (small, other):
        assert (await one.call("POST", f"/dead/{dead[0]}/replay"))[1]["code"] == "token-full"
        assert (await one.call("PATCH", f"/schedule/{dead[0]}", json={"ttl": 5}))[1]["code"] == "token-full"
        assert (await one.call("POST", "/dead/replay"))[1]["touched"] == 0
        assert (await one.call("PATCH", f"/schedule/{dead[0]}", json={"data": "x" * 900}))[0] == 200
    assert await share(client, small_id) == before
    assert (await api.call("POST", f"/dead/{dead[1]}/replay"))[0] == 200
    await api.call("POST", "/schedules/cancel?state=scheduled")
    assert (await small.call("POST", f"/dead/{dead[2]}/replay", json={"ttl": 60}))[0] == 200
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


async def of_mail(store: Store, count: int) -> list[str]:
    """So many dead letters of tasks of a type."""
    letters = []
    for _ in range(count):
        task = await states.dead(store)
        raw = await store.client.command("HGET", KEYS.tasks, task.key)
        await store.client.command("HSET", KEYS.tasks, task.key, raw.replace(b',"ttl"', b',"type":"mail","ttl"', 1))
        letters.append(task.key)
    return letters


@pytest.mark.parametrize("types", [(), ("mail",)])
async def test_what_comes_back_counts_towards_the_rate(
    types: tuple[str, ...], api: Client, client: RedisClient
) -> None:
    letters = await of_mail(Store(client, process_name()), 4)
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/dead/{}/replay", {"json": {"ttl": 60}}),
        ("PATCH", "/schedule/{}", {"json": {"ttl": 60}}),
        ("POST", "/dead/replay?key_prefix={}", {}),
    ]
    for method, path, given in ways:
        user, _ = await owner(api, client, rate=0.1, types=types)
        assert (await user.call(method, path.format(letters.pop()), **given))[0] == 200
        status, content = await user.call(method, path.format(letters[0]), **given)
        assert (status, content["code"]) == (429, "token-rate")
        assert (await user.call("POST", "/schedule?type=mail", json=BODY))[1]["code"] == "token-rate"
        assert (await api.call("GET", f"/dead/{letters[0]}"))[0] == 200, "it stays a dead letter"
    await api.call("POST", "/purge")


async def test_a_replay_of_many_goes_on_as_soon_as_the_rate_lets_it(api: Client, client: RedisClient) -> None:
    count = STEP_TASKS + 10
    await of_mail(Store(client, process_name()), count)
    user, _ = await owner(api, client, rate=STEP_TASKS / 2)
    status, content = await user.call("POST", "/dead/replay?operation=all")
    assert (status, content["touched"], content["next"]) == (200, STEP_TASKS, "all")

    async def has_ended() -> bool:
        status, content = await user.call("POST", "/dead/replay?cursor=all")
        assert status == 200 or content["code"] == "token-rate"
        return status == 200 and content["touched"] == count and content["next"] is None

    await wait_until(has_ended, "all came back")
    await api.call("POST", "/purge")


SERIES: dict[str, Any] = {"webhook": HOOK, "ttl": 900, "repeat": {"every": 3600}}
SOONER: list[tuple[str, str, Any]] = [
    ("POST", "/schedule/own:s/run", None),
    ("PATCH", "/schedule/own:s", {"ttl": 0}),
    ("PATCH", "/schedule/own:s", {"repeat": {"every": 1}}),
    ("PUT", "/schedule/own:s?type=mail", SERIES | {"ttl": 0}),
    ("POST", "/schedules?type=mail", {"tasks": [SERIES | {"ttl": 0, "key": "own:s"}]}),
]


@pytest.mark.parametrize(("method", "path", "body"), SOONER)
async def test_an_occurrence_that_comes_sooner_counts_as_a_task(
    method: str, path: str, body: Any, api: Client, client: RedisClient
) -> None:
    """Else a series would bring any number, as often as its client runs it."""
    given = {} if body is None else {"json": body}
    for limits, refusal in (({"tasks": 1}, (507, "token-full")), ({"rate": 0.1}, (429, "token-rate"))):
        small = await user(api, client, **limits)
        assert (await small.call("PUT", "/schedule/own:s?type=mail", json=SERIES))[0] == 200
        before = await api.call("GET", "/schedule/own:s")
        status, content = await small.call(method, path, **given)
        assert (status, content["code"]) == refusal
        assert await api.call("GET", "/schedule/own:s") == before
        if "tasks" in limits:
            assert (await small.call("PATCH", "/schedule/own:s", json={"ttl": 1800}))[0] == 200, "it comes later"
        await api.call("POST", "/purge")
    large = await user(api, client, tasks=2, rate=2)
    assert (await large.call("PUT", "/schedule/own:s?type=mail", json=SERIES))[0] == 200
    assert (await large.call(method, path, **given))[0] == 200
    await api.call("POST", "/purge")


async def test_for_a_token_an_earlier_shift_leaves_series_out(api: Client, client: RedisClient) -> None:
    small = api.with_token(await make_token(client, "schedule", "bulk"))
    assert (await small.call("PUT", "/schedule/own:s", json=SERIES))[0] == 200
    for one, by, touched in ((small, -60, 0), (small, 60, 1), (api, -60, 1)):
        assert (await one.call("POST", f"/schedules/shift?by={by}"))[1]["touched"] == touched
    await api.call("POST", "/purge")
