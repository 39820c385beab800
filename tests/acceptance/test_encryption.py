"""With DATA_KEY nothing that a client sent, and no answer of a receiver, stands in Redis so that a neighbour can read
it; and a neighbour can make no task that is sent."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import redis.asyncio
from aiohttp import web

from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import Client, client_of, run, serving
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

    async def is_dead() -> bool:
        status, _ = await client.call("GET", f"/dead/{key}")
        return status == 200

    await wait_until(is_dead, "the task died", every_s=0.05)
    return key


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
            return await raw.zscore(KEYS.due, key) is not None

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
        moved, plain = [await client.schedule(receiver.url, FAR_S) for _ in range(2)]
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
