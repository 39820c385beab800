"""What a token with limits changes, replays or has come sooner needs room, and counts towards its rate."""

from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.steps import STEP_TASKS
from redis_scheduler.process.process import process_name
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.listing import TOKEN_MARK
from tests.scripts import states
from tests.support.names import KEYS
from tests.support.quotas import BODY, HOOK, LIMITS, full_of, owner, share, user
from tests.support.service import Client
from tests.support.shards import keys_of
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until


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
