"""Labels: what carries them, what finds tasks by them, what is done to tasks by them, and what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from redis_scheduler.process.moving import export_tasks, import_tasks
from redis_scheduler.settings import Settings
from redis_scheduler.store.client import RedisClient
from tests.acceptance.test_filters import listed
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, serving
from tests.support.store import Store
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

WEBHOOK = "http://a.example/"


async def found(api: Client, label: str, **filters: str) -> set[str]:
    return {info["key"] for info in await listed(api, label=label, **filters)}


async def test_a_task_is_found_by_each_of_its_labels_until_it_ends(api: Client) -> None:
    first = await api.schedule(WEBHOOK, 600, "/schedule?type=mail", labels={"order": "17", "user": "anna müller"})
    second = await api.schedule(WEBHOOK, 300, labels={"order": "17"})
    await api.schedule(WEBHOOK, 600, labels={"order": "170", "order2": "17"})
    _, shown = await api.call("GET", f"/schedule/{first}")
    assert shown["data"]["info"]["labels"] == {"order": "17", "user": "anna müller"}
    assert [info["key"] for info in await listed(api, label="order=17")] == [second, first]
    assert await found(api, "user=anna müller") == {first}
    assert await found(api, "order=17", type="mail") == {first}
    assert await found(api, "order=17", type="default") == {second}
    assert await found(api, "order=17", limit="1") == {first, second}
    assert await found(api, "user=17") == set()
    await api.call("DELETE", f"/schedule/{first}")
    assert await found(api, "order=17") == {second}


async def test_a_change_and_a_put_list_a_task_by_its_new_labels(api: Client) -> None:
    key = await api.schedule(WEBHOOK, 600, labels={"order": "17"})
    for path, body in (
        (f"/schedule/{key}", {"labels": {"order": "18"}}),
        (f"/schedule/{key}", {"labels": None}),
        (f"/schedule/{key}", {"labels": {"order": "17"}, "ttl": 700}),
    ):
        assert (await api.call("PATCH", path, json=body))[0] == 200
        wanted = (body["labels"] or {}).get("order")  # type: ignore[attr-defined]
        for order in ("17", "18"):
            assert await found(api, f"order={order}") == ({key} if order == wanted else set())
    for order in ("a", "b"):
        body = {"webhook": WEBHOOK, "ttl": 600, "labels": {"order": order}}
        assert (await api.call("PUT", "/schedule/own-key", json=body))[0] == 200
    assert await found(api, "order=a") == set()
    assert await found(api, "order=b") == {"own-key"}


async def test_no_list_keeps_a_task_that_was_changed_while_it_was_deleted(api: Client, raw: Redis) -> None:
    async def change(order: str) -> int:
        return (await api.call("PATCH", "/schedule/own", json={"labels": {"order": order}}))[0]

    async def put(order: str) -> int:
        body = {"webhook": WEBHOOK, "ttl": 600, "labels": {"order": order}}
        return (await api.call("PUT", f"/schedule/own?type=of-{order}", json=body))[0]

    async def delete() -> int:
        return (await api.call("DELETE", "/schedule/own"))[0]

    for _ in range(60):
        assert await put("a") == 200
        statuses = await asyncio.gather(change("b"), delete(), put("c"), delete(), change("d"), delete())
        assert set(statuses) <= {200, 404}
    await delete()
    assert [await raw.smembers(keys.types) for keys in KEYS_OF_SHARDS] == [set()] * SHARDS
    assert not [name async for name in raw.scan_iter("*label:*")]


async def test_tasks_are_counted_and_cancelled_by_a_label(api: Client) -> None:
    tasks = [
        {"webhook": WEBHOOK, "ttl": 600, "labels": {"order": str(number % 2)}, "type": "mail"} for number in range(6)
    ]
    assert (await api.call("POST", "/schedules", json={"tasks": tasks}))[0] == 200
    _, counted = await api.call("POST", "/schedules/cancel?label=order=1&dry_run=true")
    assert (counted["touched"], counted["looked_at"]) == (3, 3)
    _, cancelled = await api.call("POST", "/schedules/cancel?label=order%3D1")
    assert cancelled["touched"] == 3
    assert len(await found(api, "order=0")) == 3
    assert await found(api, "order=1") == set()


async def test_what_workers_do_keeps_the_lists_by_label_right(
    redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url) as process, client_of(process) as user:
        receiver.status = 500
        key = await user.schedule(receiver.url, 0, labels={"order": "17"}, retries=0)

        async def is_dead() -> bool:
            return (await user.call("GET", f"/dead/{key}"))[0] == 200

        await wait_until(is_dead, "it is dead")
        assert await found(user, "order=17") == set()
        receiver.status = 200
        assert (await user.call("POST", f"/dead/{key}/replay", json={"ttl": 600}))[0] == 200
        assert await found(user, "order=17") == {key}
        assert (await user.call("POST", f"/schedule/{key}/run"))[0] == 200
        await user.drained()
        assert await found(user, "order=17") == set()

        follow_up = {"webhook": receiver.url, "ttl": 600, "type": "mail", "labels": {"order": "19"}}
        await user.schedule(receiver.url, 0, labels={"order": "17"}, on_success=follow_up)

        async def has_followed() -> bool:
            return len(await found(user, "order=19", type="mail")) == 1

        await wait_until(has_followed, "it is followed by another")
        series = await user.schedule(receiver.url, 0, labels={"order": "18"}, repeat={"every": 600})
        receiver.may_answer.clear()

        async def has_come() -> bool:
            return any("occurrence" in info for info in await listed(user, label="order=18"))

        await wait_until(has_come, "the series has made an occurrence")
        receiver.may_answer.set()

        async def is_alone() -> bool:
            return await found(user, "order=18") == {series}

        await wait_until(is_alone, "the occurrence is delivered")


async def test_an_import_brings_labels_with_their_tasks(
    api: Client, store: Store, redis_url: str, tmp_path: Path
) -> None:
    key, settings = (
        await api.schedule(WEBHOOK, 600, labels={"order": "17"}),
        Settings(redis_url=redis_url, shards=SHARDS),
    )
    assert await export_tasks(settings, str(tmp_path / "tasks"))
    assert (await api.call("PATCH", f"/schedule/{key}", json={"labels": {"order": "18"}}))[0] == 200
    assert await import_tasks(settings, str(tmp_path / "tasks"), 0, replaces=True, is_dry=False)
    assert await found(api, "order=17") == {key}
    assert await found(api, "order=18") == set()


WRONG: tuple[tuple[Any, str], ...] = (
    ("order", "must be an object of 1 to 4 texts"),
    (["order"], "must be an object of 1 to 4 texts"),
    ({"order": 17}, '"order" must be a text, got 17'),
    ({"order": None}, '"order" must be a text, got null'),
    (None, "must be an object of 1 to 4 texts"),
    ({}, "must be 1 to 4 labels, got 0"),
    ({str(number): "x" for number in range(5)}, "must be 1 to 4 labels, got 5"),
    ({"": "x"}, "must have names of 1 to 32"),
    ({"a=b": "x"}, "must have names of 1 to 32"),
    ({"a b": "x"}, 'letters, digits, _, - or ., got "a b"'),
    ({"ü": "x"}, "must have names of 1 to 32"),
    ({"a\n": "x"}, "must have names of 1 to 32"),
    ({"x" * 33: "x"}, "must have names of 1 to 32"),
    ({"order": ""}, "order must be 1 to 64 printable characters"),
    ({"order": "x" * 65}, "order must be 1 to 64 printable characters"),
    ({"order": "a\nb"}, "order must be 1 to 64 printable characters"),
    ({"order": "a\x00"}, "order must be 1 to 64 printable characters"),
    ({"order": "x" * 8_000}, "order must be 1 to 64 printable characters"),
)


@pytest.mark.parametrize(("labels", "told"), WRONG, ids=range(len(WRONG)))
async def test_wrong_labels_are_refused_and_nothing_is_written(labels: Any, told: str, api: Client) -> None:
    body = {"webhook": WEBHOOK, "ttl": 600, "labels": labels}
    for method, path, given in (
        ("POST", "/schedule", body),
        ("PUT", "/schedule/own", body),
        ("POST", "/schedules", {"tasks": [body]}),
    ):
        status, content = await api.call(method, path, json=given)
        assert (status, content["code"], content.get("field")) == (400, "invalid-value", "labels"), content
        assert told in content["error"]
        assert len(content["error"]) < 600
    assert await listed(api) == []


async def test_a_label_that_is_given_twice_is_refused(api: Client) -> None:
    text = '{"webhook": "http://a.example/", "ttl": 600, "labels": {"a": "1", "a": "2"}}'
    status, content = await api.call("POST", "/schedule", data=text, headers={"Content-Type": "application/json"})
    assert (status, content["code"]) == (400, "repeated-field"), content


async def test_a_purge_leaves_nothing_of_more_labels_than_one_call_takes(api: Client, store: Store) -> None:
    for first in range(0, 1_200, 100):
        many = [{"webhook": WEBHOOK, "ttl": 600, "labels": {"order": str(first + number)}} for number in range(100)]
        assert (await api.call("POST", "/schedules", json={"tasks": many}))[0] == 200
    status, content = await api.call("DELETE", "/schedules")
    assert (status, content["data"]) == (200, 1_200)
    assert await store.client.command("EXISTS", KEYS.types, KEYS.remains) == 0
    assert await store.client.command("KEYS", KEYS.type_index("\torder=*")) == []


@pytest.mark.one_shard("names are counted in each shard")
async def test_no_more_types_and_labels_have_tasks_than_may(tmp_path: Path, redis_url: str, raw: Redis) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, LABELS_MOST="4") as process,
        client_of(process) as api,
    ):
        first = await api.schedule(WEBHOOK, 600, "/schedule?type=mail", labels={"order": "1", "user": "anna"})

        async def refused(method: str, path: str, **body: Any) -> None:
            before = await raw.smembers(KEYS.types), await raw.hlen(KEYS.tasks)
            status, content = await api.call(method, path, json=body)
            assert (status, content["code"]) == (507, "labels-full"), content
            assert "LABELS_MOST" in content["error"]
            assert (await raw.smembers(KEYS.types), await raw.hlen(KEYS.tasks)) == before

        one = {"webhook": WEBHOOK, "ttl": 600}
        # All of a request is looked at before the first task of it is written.
        await refused("POST", "/schedules", tasks=[{**one, "labels": {"order": str(number)}} for number in range(9)])

        async def is_taken(**labels: str) -> bool:
            body = {**one, "labels": labels}
            return bool((await api.call("POST", "/schedule", json=body))[0] == 200)

        # For a second it counts that the first of them might have been written.
        await wait_until(lambda: is_taken(order="2"), "there is room for one more")
        await refused("POST", "/schedule", **one, labels={"order": "3"})
        await refused("POST", "/schedule?type=other", **one)
        await refused("PUT", "/schedule/own-key", **one, labels={"order": "3"})
        await refused("PATCH", f"/schedule/{first}", labels={"order": "3"})
        # What is there may be used, and so may none.
        for _ in range(3):
            await api.schedule(WEBHOOK, 600, "/schedule?type=mail", labels={"order": "2", "user": "anna"})
        await api.schedule(WEBHOOK, 600)
        assert (await api.call("PATCH", f"/schedule/{first}", json={"labels": {"order": "2"}}))[0] == 200
        # The last task with order=1 has another label now.
        assert await raw.scard(KEYS.types) == 3
        await api.schedule(WEBHOOK, 600, labels={"order": "3"})
        await refused("POST", "/schedule", **one, labels={"order": "4"})


@pytest.mark.one_shard("names are counted in each shard")
async def test_a_token_that_may_have_many_tasks_leaves_half_of_all_names_to_others(
    tmp_path: Path, redis_url: str, client: RedisClient
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, LABELS_MOST="10") as process,
        client_of(process) as api,
    ):
        unlimited = api.with_token(await make_token(client, "schedule"))
        limited, many = [api.with_token(await make_token(client, "schedule", tasks=tasks)) for tasks in (1, 2)]
        body = {"webhook": WEBHOOK, "ttl": 600}
        names = iter("abcdefghijkl")
        for name in names:
            status, content = await unlimited.call("POST", f"/schedule?type={name}", json=body)
            if status != 200:
                break
        assert name in "ef"  # tokens have a name each, which counts from the next look at Redis on
        assert content["code"] == "labels-full"
        assert "LABELS_MOST allows, 5 to a token without --tasks" in content["error"]
        for one in (unlimited, many):
            assert (await one.call("PUT", f"/schedule/own:1?type={name}", json=body))[0] == 507
        await unlimited.schedule(WEBHOOK, 600, "/schedule?type=a")
        await limited.schedule(WEBHOOK, 600, f"/schedule?type={next(names)}")
        await api.schedule(WEBHOOK, 600, f"/schedule?type={next(names)}")
        await api.call("POST", "/purge")
