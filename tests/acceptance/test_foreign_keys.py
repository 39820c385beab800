"""Keys that foreign hands left in the service's own places, which are no text: nothing of the service ends by them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, Client, client_of, run, serving
from tests.support.shards import keys_of
from tests.support.waiting import wait_until

FOREIGN = b"\xff\xfe\0"


@pytest.mark.one_shard("of several the doctor looks for such a key in another")
async def test_a_key_that_is_no_text_harms_no_other_task(
    redis_url: str, raw: Any, receiver: Receiver, tmp_path: Path
) -> None:
    settings = {"REDIS_URL": redis_url, "API_AUTH": TOKEN, "RETRIES": "1", "RETRY_TIME": "1"}
    record = b'{"due":1,"webhook":"' + receiver.url.encode() + b'","ttl":0,"type":"mail"}'
    async with (
        serving(tmp_path, "api", **settings) as api,
        serving(tmp_path, "worker", **settings) as worker,
        client_of(api) as client,
    ):
        await client.schedule(receiver.url)
        await wait_until(lambda: len(receiver.arrivals) == 1, "the worker delivers")
        late = await client.schedule(receiver.url, 600, "/schedule?type=mail")
        # In the queue without a task; due without a record; due with one; due later, and in the index of a type.
        await raw.xadd(KEYS.queue, {"key": FOREIGN})
        await raw.hset(KEYS.tasks, FOREIGN + b"1", record)
        await raw.hset(KEYS.tasks, FOREIGN + b"2", record)
        await raw.zadd(KEYS.due, {FOREIGN: 1, FOREIGN + b"1": 1, FOREIGN + b"2": 4_000_000_000_000})
        await raw.zadd(KEYS.type_index("mail"), {FOREIGN + b"2": 4_000_000_000_000})
        await raw.sadd(KEYS.types, FOREIGN)
        for path in ("/schedules", "/schedules?limit=1", "/schedules?type=mail", "/stats"):
            status, answer = await client.call("GET", path)
            assert status == 200, answer
            assert path == "/stats" or [task["info"]["key"] for task in answer["data"]] == [late]
        for ttl in (0, 0.1, 0):
            await client.schedule(receiver.url, ttl)
        await wait_until(lambda: len(receiver.arrivals) == 4, "the healthy ones are delivered")

        async def is_buried() -> bool:
            return await raw.zscore(KEYS.dead, FOREIGN + b"1") is not None

        await wait_until(is_buried, "what no header can name is a dead letter", timeout_s=20)
        assert worker.process.poll() is None
        assert api.process.poll() is None
        for process in (api, worker):
            assert "Traceback" not in process.log
            assert not process.events("failed")
    result = await asyncio.to_thread(run, "doctor", "--repair", REDIS_URL=redis_url)
    assert result.returncode == 0, result
    assert await raw.zscore(KEYS.due, FOREIGN) is None
    assert not await raw.sismember(KEYS.types, FOREIGN)
    assert await raw.xlen(KEYS.queue) == 0


async def test_a_place_that_is_none_spoils_neither_the_list_nor_its_own_task(
    redis_url: str, raw: Any, tmp_path: Path
) -> None:
    """Of foreign scores and places in the queue: the whole list was answered 500, or 503."""
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN) as api, client_of(api) as client:
        healthy = await client.schedule("http://127.0.0.1:9/", 3_000)
        for score in ("1.5", "inf", "-inf", "-1", "5e300", "1000000000000000", "9007199254740993"):
            key = await client.schedule("http://127.0.0.1:9/", 3_000)
            await raw.zadd((await keys_of(raw, key)).due, {key: score})
            await is_listed_and_shown(client, healthy, key)
            for method, body in (("PATCH", {"ttl": 600}), ("DELETE", None)):
                status, answer = await client.call(method, f"/schedule/{key}", json=body)
                assert status == 200, (method, score, answer)
        for place in ("none", "1-", "", "99999999999999999999-0"):
            for method, body in (("PATCH", {"data": 1}), ("PATCH", {"ttl": 600}), ("DELETE", None)):
                key = await client.schedule("http://127.0.0.1:9/", 3_000)
                await raw.hset((await keys_of(raw, key)).entries, key, place)
                await is_listed_and_shown(client, healthy, key)
                # All of one batch are answered, and the others by what was done.
                answers = await asyncio.gather(
                    *(client.call(method, f"/schedule/{one}", json=body) for one in (key, healthy, key))
                )
                assert {status for status, _ in answers} <= ({200, 404} if method == "DELETE" else {200}), answers
                if method == "DELETE":
                    healthy = await client.schedule("http://127.0.0.1:9/", 3_000)
                await client.call("DELETE", f"/schedule/{key}")
        assert "Traceback" not in api.log


@pytest.mark.parametrize("text", [b"nope", b"\xff", b'{"a":', b'1,"x":2', b'"\xff"', b"", b"[" * 100_000, b"NaN"])
async def test_what_is_not_json_is_not_put_into_an_answer(
    text: bytes, redis_url: str, raw: Any, tmp_path: Path
) -> None:
    async with serving(tmp_path, "api", REDIS_URL=redis_url, API_AUTH=TOKEN) as api, client_of(api) as client:
        healthy = await client.schedule("http://127.0.0.1:9/", 3_000, data="\ud83d")
        spoilt = await client.schedule("http://127.0.0.1:9/", 3_000, data={"n": 1})
        keys = await keys_of(raw, spoilt)
        stored = await raw.hget(keys.tasks, spoilt)
        await raw.hset(keys.failures, spoilt, b"2 " + text)
        await is_listed_and_shown(client, healthy, spoilt)
        _, answer = await client.call("GET", f"/schedule/{spoilt}")
        assert ("last_failure" in answer["data"]["info"]) == (text != b"")
        await raw.hset(keys.tasks, spoilt, stored.replace(b'{"n": 1}', text))
        await is_listed_and_shown(client, healthy, spoilt)
        _, answer = await client.call("GET", f"/schedule/{spoilt}")
        assert answer["data"]["data"] is None
        assert "not JSON" in answer["data"]["info"]["error"]
        _, answer = await client.call("GET", f"/schedule/{healthy}")
        assert (answer["data"]["data"], "error" in answer["data"]["info"]) == ("\ud83d", False)
        assert "Traceback" not in api.log
    await raw.delete(keys.failures)


async def is_listed_and_shown(client: Client, healthy: str, key: str) -> None:
    status, answer = await client.call("GET", "/schedules")
    assert status == 200, answer
    assert {task["info"]["key"] for task in answer["data"]} == {healthy, key}
    status, answer = await client.call("GET", f"/schedule/{key}")
    assert status == 200, answer
    assert answer["data"]["info"]["key"] == key
