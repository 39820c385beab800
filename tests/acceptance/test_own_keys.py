"""Own keys: a PUT creates a task or takes its place, whatever goes on at the same time."""

import asyncio
import string
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.api.requests import RESERVED_KEYS
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.key import hashed_shard
from redis_scheduler.task.record import record_tail
from tests.acceptance.test_preconditions import asked, etag_of
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

HOOK = "http://127.0.0.1:9/"
KEYS_TAKEN = ["a", "0", "_", "-", ":", "order:17", "user:42:reminder", "A" * 128, "x" * 21, "x" * 23, ":" * 22]
KEYS_REFUSED = [
    "a.b",
    "a%2Fb",
    "a/b/",
    "a%2Fpause/run",
    "a%20b",
    "%C3%A9",
    "a" * 129,
    "a%00",
    "a%0D%0AX-Evil:1",
    "%F0%9F%98%80",
    "*",
    "a+b",
    "%ff",
    *RESERVED_KEYS,
]
LAST_LETTERS = string.ascii_letters + string.digits + "-_"


@pytest.fixture
async def service(redis_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path, REDIS_URL=redis_url, RETRY_TIME="1") as process, client_of(process) as client:
        yield client


async def put(api: Client, key: str, ttl: float = 60, **fields: Any) -> tuple[int, Any]:
    return await api.call("PUT", f"/schedule/{key}", json={"webhook": HOOK, "ttl": ttl} | fields)


@pytest.mark.parametrize("key", KEYS_TAKEN)
async def test_a_task_is_created_replaced_shown_changed_and_deleted_by_its_own_key(api: Client, key: str) -> None:
    path = f"/schedule/{key}"
    status, content = await put(api, key, data=1)
    assert (status, content["key"], content["data"], content["created"]) == (200, key, key, True)
    assert "found" not in content
    status, content = await put(api, key, ttl=5_000, data=2)
    assert (status, content["created"], content["found"]) == (200, False, "updated")
    shown = (await api.call("GET", path))[1]["data"]
    assert (shown["info"]["key"], shown["info"]["due"], shown["data"]) == (key, content["due"], 2)
    assert (await api.call("PATCH", path, json={"data": 3}))[0] == 200
    assert [task["info"]["key"] for task in (await api.call("GET", "/schedules"))[1]["data"]] == [key]
    assert (await api.call("DELETE", path))[0] == 200
    assert (await api.call("GET", path))[0] == 404
    assert (await put(api, key))[1]["created"] is True


@pytest.mark.parametrize("key", KEYS_REFUSED)
async def test_what_can_be_no_own_key_is_refused(api: Client, raw: redis.asyncio.Redis, key: str) -> None:
    status, content = await put(api, key)
    assert (status, content["code"], content["field"]) == (400, "invalid-value", "key")
    assert await raw.hlen(KEYS.tasks) == 0


@pytest.mark.parametrize("letter", LAST_LETTERS)
async def test_a_key_of_the_service_s_form_is_no_own_one_whatever_shard_it_tells(
    api: Client, raw: redis.asyncio.Redis, letter: str
) -> None:
    """Also where it tells a shard that is not there: an import may bring such keys, and the number may change."""
    key = "x" * 21 + letter
    task = {"webhook": HOOK, "ttl": 60}
    for status, content in (
        await put(api, key),
        await asked_to_create(api, key),
        await api.call("POST", "/schedules", json={"tasks": [task, task | {"key": key}]}),
    ):
        assert (status, content["code"], content["field"]) == (409, "service-key", "key")
        assert content["error"].endswith(f'got "{key}"')
    assert sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS]) == 0


async def asked_to_create(api: Client, key: str) -> tuple[int, Any]:
    headers = {"If-None-Match": "*"}
    status, content, _ = await asked(api, "PUT", f"/schedule/{key}", headers=headers, json={"webhook": HOOK, "ttl": 60})
    return status, content


async def test_no_put_takes_the_place_of_a_task_whose_key_the_service_made(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    made = [await api.schedule(HOOK, 60, data=1) for _ in range(8)]
    for key in made:
        status, content = await put(api, key, data=2)
        assert (status, content["code"], content["field"]) == (409, "service-key", "key")
        assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["data"] == 1
    assert sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS]) == len(made)


async def test_a_task_that_stands_under_such_a_key_is_shown_changed_and_deleted(
    api: Client, store: Store, raw: redis.asyncio.Redis
) -> None:
    """A version before took it for an own one, and made it in the shard of its hash."""
    key = next(key for key in (f"order-{number:016}" for number in count()) if hashed_shard(key, SHARDS) == KEYS.shard)
    tail = record_tail(HOOK, 60, None, b"1")
    await store.schedule([NewTask(key, 60_000, tail, None)])
    shown = (await api.call("GET", f"/schedule/{key}"))[1]["data"]
    assert (shown["info"]["key"], shown["data"]) == (key, 1)
    assert (await put(api, key))[0] == 409
    assert (await api.call("PATCH", f"/schedule/{key}", json={"data": 2}))[0] == 200
    assert (await api.call("GET", f"/schedule/{key}"))[1]["data"]["data"] == 2
    assert (await api.call("DELETE", f"/schedule/{key}"))[0] == 200
    assert sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS]) == 0


async def test_a_task_is_filed_under_its_last_type(api: Client) -> None:
    for type_name, others in (("mail", "bill"), ("bill", "mail")):
        status, _ = await api.call("PUT", f"/schedule/own?type={type_name}", json={"webhook": HOOK, "ttl": 60})
        assert status == 200
        listed = (await api.call("GET", f"/schedules?type={type_name}"))[1]["data"]
        assert [task["info"]["type"] for task in listed] == [type_name]
        assert (await api.call("GET", f"/schedules?type={others}"))[1]["data"] == []


async def test_nothing_of_the_task_before_is_kept(api: Client) -> None:
    await put(api, "own", data=1, retries=3, headers={"A": "b"})
    await put(api, "own")
    shown = (await api.call("GET", "/schedule/own"))[1]["data"]
    assert (shown["info"]["has_data"], "retries" in shown["info"], "headers" in shown["info"]) == (False, False, False)


async def test_a_put_that_may_only_create_or_only_replace(api: Client) -> None:
    async def demanded(**headers: str) -> tuple[int, Any, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asked(api, "PUT", "/schedule/own", headers=named, json={"webhook": HOOK, "ttl": 60})

    for value in ("*", '"a"'):
        status, content, _ = await demanded(If_Match=value)
        assert (status, content["code"], content["field"]) == (412, "precondition-failed", "If-Match")
    status, content, etag = await demanded(If_None_Match="*")
    assert (status, content["created"]) == (200, True)
    assert etag == await etag_of(api, "own")
    status, content, _ = await demanded(If_None_Match="*")
    assert (status, content["field"]) == (412, "If-None-Match")
    assert await etag_of(api, "own") == etag
    status, content, newer = await demanded(If_Match=str(etag))
    assert (status, content["created"]) == (200, False)
    assert (await demanded(If_Match=str(etag)))[0] == 412
    assert await etag_of(api, "own") == newer
    for headers in ({"If_None_Match": "x"}, {"If_None_Match": "*", "If_Match": "*"}, {"If_None_Match": '"a"'}):
        status, content, _ = await demanded(**headers)
        assert (status, content["field"]) == (400, "If-None-Match")


async def test_of_many_puts_at_once_one_creates_and_the_last_stays(api: Client, raw: redis.asyncio.Redis) -> None:
    answers = await asyncio.gather(*(put(api, "own", ttl=60 + number, data=number) for number in range(20)))
    assert [status for status, _ in answers] == [200] * 20
    assert sum(content["created"] for _, content in answers) == 1
    shown = (await api.call("GET", "/schedule/own"))[1]["data"]
    [last] = [content for _, content in answers if content["due"] == shown["info"]["due"]]
    assert answers[shown["data"]][1] == last
    assert sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS]) == 1
    assert (await api.stats())["running_schedules"] == 1


async def test_puts_beside_deletes_and_purges_leave_one_task_or_none(api: Client, raw: redis.asyncio.Redis) -> None:
    for _ in range(10):
        calls = [put(api, "own") for _ in range(4)]
        calls += [api.call("DELETE", "/schedule/own"), api.call("POST", "/purge")]
        answers = await asyncio.gather(*calls)
        assert {status for status, _ in answers} <= {200, 404}
    assert (await put(api, "own"))[0] == 200
    assert sum([await raw.hlen(keys.tasks) for keys in KEYS_OF_SHARDS]) == 1


async def test_a_task_that_is_put_again_and_again_fires_once(service: Client, receiver: Receiver) -> None:
    for number in range(20):
        status, content = await put(service, "debounce", ttl=0.5, webhook=receiver.url, data=number)
        assert (status, content["created"]) == (200, number == 0)
    await wait_until(lambda: receiver.arrivals, "it arrived", 20)
    await service.drained()
    assert [arrival.body for arrival in receiver.arrivals] == [b"19"]


async def test_a_put_beside_its_delivery_is_delivered_too(service: Client, receiver: Receiver) -> None:
    """The attempt under way may arrive, but its outcome does not take the new task with it."""
    last = 0
    for number in range(40):
        status, content = await put(service, "own", ttl=0, webhook=receiver.url, data=number)
        assert (status, content["key"]) == (200, "own")
        last = number
        await asyncio.sleep(0.002 * (number % 5))  # so that some come before, some in and some behind a delivery

    def has_last() -> bool:
        return any(arrival.body == b"%d" % last for arrival in receiver.arrivals)

    await wait_until(has_last, "the last is delivered", 20)
    await service.drained()


async def test_a_series_has_its_own_key_and_an_etag_of_its_rule(api: Client) -> None:
    async def put_series(**fields: Any) -> tuple[int, Any, str | None]:
        body = {"webhook": HOOK, "repeat": {"every": 3600}} | fields
        return await asked(api, "PUT", "/schedule/hourly", json=body)

    status, content, first = await put_series(data=1)
    assert (status, content["created"]) == (200, True)
    assert first == await etag_of(api, "hourly")
    await asyncio.sleep(0.01)  # so that its next time, an hour from its put, is another
    status, content, again = await put_series(data=1)
    assert (status, content["created"], again) == (200, False, first)
    status, content, changed = await put_series(data=2)
    assert status == 200
    assert changed == await etag_of(api, "hourly") != first
    status, content = await put(api, "hourly")
    assert (status, content["created"], content["found"]) == (200, False, "updated")
    assert "repeat" not in (await api.call("GET", "/schedule/hourly"))[1]["data"]["info"]
