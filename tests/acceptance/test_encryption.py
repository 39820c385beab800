"""With DATA_KEY nothing that a client sent, and no answer of a receiver, stands in Redis so that a neighbour can read
it; and a neighbour can make no task that is sent."""

import asyncio
import base64
import json
import signal
from pathlib import Path
from typing import Any

import redis.asyncio
from aiohttp import web

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import SealedKeys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.vault import Vault
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.record import record_tail
from tests.support.names import KEYS, KEYS_OF_SHARDS, SHARDS
from tests.support.receiver import Receiver
from tests.support.service import Client, Process, client_of, run, serving
from tests.support.shards import keys_of, put_in_the_first
from tests.support.store import Store
from tests.support.waiting import wait_until

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
FAR_S = 600
SECRET = "s3cr3t-of-a-client"


async def all_of(raw: redis.asyncio.Redis) -> bytes:
    """All that stands in Redis, as text."""
    found = b""
    async for name in raw.scan_iter():
        kind: Any = await raw.type(name)
        read: dict[bytes, Any] = {
            b"hash": raw.hgetall,
            b"zset": lambda name: raw.zrange(name, 0, -1),
            b"stream": raw.xrange,
        }
        found += repr(await read.get(kind, raw.dump)(name)).encode()
    return found


async def dead(client: Client, webhook: str, **fields: Any) -> str:
    """A task that has died."""
    key = await client.schedule(webhook, 0, retries=0, **fields)

    await has_died(client, key)
    return key


async def has_died(client: Client, key: str) -> None:
    async def is_dead() -> bool:
        status, _ = await client.call("GET", f"/dead/{key}")
        return status == 200

    await wait_until(is_dead, "the task died", every_s=0.05)


async def test_what_is_private_stands_in_redis_sealed_alone(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    async def answered(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/500" else 200, text=SECRET)

    receiver.behaviour = answered
    sent: dict[str, Any] = {"headers": {"x-a": SECRET}, "data": {"of": SECRET}}
    async with (
        serving(tmp_path, REDIS_URL=redis_url, DATA_KEY=OLD) as process,
        client_of(process) as client,
    ):
        names: dict[str, Any] = {"path": "/schedule?type=mail", "labels": {"order": "1"}}
        kept = await client.schedule(receiver.url + SECRET, FAR_S, **names, **sent)
        letter = await dead(client, receiver.url + "500", **sent, on_failure={"webhook": receiver.url + SECRET})
        await wait_until(lambda: f"/{SECRET}" in [arrival.path for arrival in receiver.arrivals], "the follow-up")
        assert SECRET.encode() not in await all_of(raw)
        for query in ("type=mail", "label=order%3D1"):
            _, page = await client.call("GET", f"/schedules?{query}")
            assert [task["info"]["key"] for task in page["data"]] == [kept]
        _, content = await client.call("GET", f"/schedule/{kept}")
        assert content["data"]["data"] == sent["data"]
        _, content = await client.call("GET", f"/dead/{letter}")
        assert content["data"]["info"]["last_failure"]["status"] == 500
        _, content = await client.call("GET", "/dead/groups")
        assert [group["error"] for group in content["data"]] == ["answered 500"]
        assert (await client.call("PATCH", f"/schedule/{kept}", json={"data": SECRET * 2}))[0] == 200
        assert (await client.call("POST", f"/dead/{letter}/replay"))[0] == 200
        variables: dict[str, str]
        for variables in ({}, {"DATA_KEY": OLD}, {"DATA_KEY": NEW}):
            found = await asyncio.to_thread(run, "doctor", REDIS_URL=redis_url, **variables)
            assert (found.returncode, found.stderr) == (0, ""), found.stdout
        exported = await asyncio.to_thread(run, "export", REDIS_URL=redis_url, DATA_KEY=f"{NEW} {OLD}")
        assert SECRET in exported.stdout
        assert (await asyncio.to_thread(run, "export", REDIS_URL=redis_url)).returncode == 1


async def test_a_task_waits_for_a_worker_that_has_its_key(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url, DATA_KEY=OLD) as process, client_of(process) as client:
        key = await client.schedule(receiver.url, 0)
    async with serving(tmp_path, REDIS_URL=redis_url, DATA_KEY=NEW) as process, client_of(process) as client:

        async def is_put_off() -> bool:
            return await raw.zscore((await keys_of(raw, key)).due, key) is not None

        await wait_until(is_put_off, "the worker puts the task off")
        _, content = await client.call("GET", f"/schedule/{key}")
        assert "sealed with a DATA_KEY that is not given here" in json.dumps(content)
        assert receiver.arrivals == []
        assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
    async with serving(tmp_path, REDIS_URL=redis_url, DATA_KEY=f"{NEW} {OLD}") as process, client_of(process) as client:
        await client.call("POST", f"/schedule/{key}/run")
        await client.drained()
    assert len(receiver.arrivals) == 1


async def test_a_record_that_other_hands_made_is_buried_and_never_sent(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with (
        serving(tmp_path, REDIS_URL=redis_url, DATA_KEY=OLD, DATA_PLAIN="refuse") as process,
        client_of(process) as client,
    ):
        moved, plain = await put_in_the_first(client, receiver.url, FAR_S, FAR_S)
        [other] = await raw.hmget(KEYS.tasks, [plain])
        forged = json.dumps({"due": 1, "webhook": receiver.url, "ttl": 1}, separators=(",", ":"))
        await raw.hset(KEYS.tasks, mapping={moved: other or b"", plain: forged})
        for key in (moved, plain):
            assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
        await client.drained()
        for key in (moved, plain):
            _, content = await client.call("GET", f"/dead/{key}")
            assert "unreadable record" in json.dumps(content)
        assert receiver.arrivals == []


async def command(code: int, name: str, *arguments: str, **variables: str) -> str:
    """Run a command that must end so; return what it printed."""
    ended = await asyncio.to_thread(run, name, *arguments, **variables)
    assert ended.returncode == code, ended
    return ended.stdout + ended.stderr


async def test_a_key_is_changed_beside_live_workers_and_the_old_one_goes(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    failing = True

    async def answered(request: web.Request) -> web.Response:
        return web.Response(status=500 if failing and request.path == "/500" else 200)

    receiver.behaviour = answered
    at_redis = {"REDIS_URL": redis_url}
    async with serving(tmp_path, "api", **at_redis) as process, client_of(process) as client:
        plain = [await client.schedule(receiver.url + "plain", FAR_S, path="/schedule?type=mail") for _ in range(3)]
    both = at_redis | {"DATA_KEY": f"{NEW} {OLD}"}
    async with serving(tmp_path, **at_redis, DATA_KEY=f"{OLD} {NEW}") as process, client_of(process) as client:
        far = [await client.schedule(receiver.url + "far", FAR_S, data={"n": number}) for number in range(150)]
        retried = await client.schedule(receiver.url + "500", 0, retries=9, retry_time=FAR_S)
        letter = await dead(client, receiver.url + "500")
        await wait_until(lambda: len(receiver.arrivals) == 2, "both have failed")
        soon = [await client.schedule(receiver.url + "soon", number / 100) for number in range(300)]
        assert "Not all is sealed with the first key" in await command(1, "rekey", "--dry-run", **both)
        async with serving(tmp_path, **both):
            await process.stop()
            assert "0 left.\nNo older key is needed.\n" in await command(0, "rekey", **both)
            assert " 0 sealed anew, 0 left.\n" in await command(0, "rekey", **both)
            await command(0, "doctor", **at_redis)
    found = await all_of(raw)
    for key in (OLD, NEW):
        [key_id] = Vault([base64.b64decode(key)])._keys
        assert (key == NEW) == (key_id.hex().encode() in found) == (base64.b64encode(key_id)[:5] in found)
    failing = False
    async with (
        serving(tmp_path, **at_redis, DATA_KEY=NEW, DATA_PLAIN="refuse") as process,
        client_of(process) as client,
    ):
        assert (await client.call("POST", f"/dead/{letter}/replay"))[0] == 200
        for key in (*plain, *far, retried):
            await client.call("POST", f"/schedule/{key}/run")
        await client.drained()
        await command(0, "doctor", **at_redis)
    assert {arrival.headers["Schedule-Key"] for arrival in receiver.arrivals} == {*plain, *far, *soon, letter, retried}
    assert [await raw.exists(keys.tasks) for keys in KEYS_OF_SHARDS] == [0] * SHARDS
    assert len(receiver.arrivals) == len(plain + far + soon) + 4


async def test_no_seal_changes_an_etag(redis_url: str, tmp_path: Path) -> None:
    """It is a hash of what the caller defined: a client that has one may change the task, whatever sealed it since."""
    webhook, at_redis = "http://127.0.0.1:9/", {"REDIS_URL": redis_url}
    wanted: dict[str, dict[str, Any]] = {
        "plain": {"data": {"n": 1}},
        "typed": {"path": "/schedule/typed?type=mail", "labels": {"order": "1"}},
        "options": {"method": "PUT", "headers": {"X-A": "b"}, "retries": 3, "on_failure": {"webhook": webhook}},
        "body": {"body": "text"},
        "series": {"repeat": {"every": 60}},
        "again": {"again_most": 2},
    }

    async def asked(client: Client, method: str, key: str, **options: Any) -> str:
        headers = client.headers | options.pop("headers", {})
        path = options.pop("path", f"/schedule/{key}")
        async with client.session.request(method, client.url + path, headers=headers, **options) as response:
            assert response.status == 200, await response.text()
            return response.headers["ETag"]

    async def put(client: Client, key: str) -> str:
        fields = {"webhook": webhook, "at": "2199-01-01T00:00:00Z"} | wanted[key]
        return await asked(client, "PUT", key, path=fields.pop("path", f"/schedule/{key}"), json=fields)

    async with serving(tmp_path, "api", **at_redis) as process, client_of(process) as client:
        etags = {key: await put(client, key) for key in wanted}
        assert etags == {key: await asked(client, "GET", key) for key in wanted}
    async with serving(tmp_path, "api", **at_redis, DATA_KEY=OLD) as process, client_of(process) as client:
        for key, etag in etags.items():
            assert await asked(client, "GET", key) == etag, key  # it is not sealed yet
            changed = await asked(client, "PATCH", key, json={"timeout": 5}, headers={"If-Match": etag})
            assert changed == await asked(client, "GET", key) != etag, key
            before = {"If-Match": changed}
            assert await asked(client, "PATCH", key, json={"timeout": None}, headers=before) == etag, key
            assert await asked(client, "GET", key) == etag, key
            assert await put(client, key) == etag, key
            assert await asked(client, "GET", key) == etag, key
    both = at_redis | {"DATA_KEY": f"{NEW} {OLD}"}
    assert f"{len(wanted)} sealed anew, 0 left.\n" in await command(0, "rekey", **both)
    async with serving(tmp_path, "api", **both) as process, client_of(process) as client:
        assert {key: await asked(client, "GET", key) for key in wanted} == etags


async def test_a_rekey_that_is_killed_is_run_again_beside_live_workers(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    old = RedisClient(redis_url, 3, SealedKeys(KEYS.tag, Vault([base64.b64decode(OLD)])))
    store, tail = Store(old, "api"), record_tail(receiver.url, FAR_S, None, b'{"n":1}')
    for _ in range(100):
        await store.schedule([NewTask(new_task_key(), FAR_S * 1000, tail, None) for _ in range(100)])
    await old.aclose()
    variables = {"REDIS_URL": redis_url, "DATA_KEY": f"{NEW} {OLD}"}
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        before = await raw.hgetall(KEYS.tasks)
        keys = [await client.schedule(receiver.url, number / 10) for number in range(20)]
        rekey = Process(tmp_path, "rekey", **variables)

        sample = [*before][:200]

        async def has_begun() -> bool:
            found = await raw.hmget(KEYS.tasks, sample)
            return any(record != before[key] for key, record in zip(sample, found, strict=True))

        await wait_until(has_begun, "it seals", every_s=0.001)
        rekey.signal(signal.SIGKILL)
        await rekey.ended()
        after = await raw.hgetall(KEYS.tasks)
        assert 0 < sum(after[key] == record for key, record in before.items()) < 10_000
        await command(0, "doctor", REDIS_URL=redis_url)
        assert "No older key is needed." in await command(0, "rekey", **variables)
        await wait_until(lambda: len(receiver.arrivals) == len(keys), "what came due meanwhile is delivered")
    await command(0, "doctor", REDIS_URL=redis_url)
    assert await raw.hlen(KEYS.tasks) == 10_000


async def test_rekey_makes_no_task_of_other_hands_a_good_one(
    redis_url: str, tmp_path: Path, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    variables = {"REDIS_URL": redis_url, "DATA_KEY": f"{NEW} {OLD}", "DATA_PLAIN": "refuse"}
    async with serving(tmp_path, "api", REDIS_URL=redis_url, DATA_KEY=OLD) as process, client_of(process) as client:
        moved, plain, other = await put_in_the_first(client, receiver.url, FAR_S, FAR_S, FAR_S)
    [record] = await raw.hmget(KEYS.tasks, [other])
    forged = json.dumps({"due": 1, "webhook": receiver.url, "ttl": 1}, separators=(",", ":"))
    await raw.hset(KEYS.tasks, mapping={moved: record or b"", plain: forged, "\x1b" + "k" * 5_000: forged})
    said = await command(1, "rekey", **variables)
    assert f"task \\x1b{'k' * 299}: its record is left" in said
    await raw.hdel(KEYS.tasks, "\x1b" + "k" * 5_000)
    assert f"task {moved}: its record is left: other hands changed it" in said
    assert f"task {plain}: its record is left: it is not sealed" in said
    assert "1 sealed anew, 3 left." in said
    async with serving(tmp_path, **variables) as process, client_of(process) as client:
        for key in (moved, plain):
            assert (await client.call("POST", f"/schedule/{key}/run"))[0] == 200
        for key in (moved, plain):
            await has_died(client, key)
            _, content = await client.call("GET", f"/dead/{key}")
            assert "unreadable record" in json.dumps(content)
        assert (await client.call("DELETE", f"/dead/{moved}"))[0] == 200
        assert "No older key is needed." in await command(0, "rekey", **variables)
    assert receiver.arrivals == []


async def test_rekey_says_what_it_lacks(redis_url: str, raw: redis.asyncio.Redis) -> None:
    said = await command(2, "rekey", REDIS_URL=redis_url)
    assert said == "redis-scheduler: DATA_KEY: not set, so there is nothing to seal with\n"
    task = {"due": 1, "webhook": "http://localhost/", "ttl": 1}
    await raw.hset(KEYS.tasks, "key", json.dumps(task, separators=(",", ":")))
    await raw.config_set("maxmemory", 1)
    said = await command(1, "rekey", REDIS_URL=redis_url, DATA_KEY=NEW, MEMORY_RESERVE="0")
    assert said.startswith("Records and failures: 1 looked at, 0 sealed anew, 0 left.\nredis-scheduler: ")
    assert "memory" in said
    await raw.config_set("maxmemory", 0)
    await raw.delete(KEYS.tasks)
