"""What the API says of records and counters that it cannot read, or not wholly."""

import redis.asyncio

from tests.support.names import KEYS
from tests.support.service import Client
from tests.support.shards import keys_of

WEBHOOK = "http://127.0.0.1:9/hook?a=%2F"


async def test_a_task_whose_record_cannot_be_read_is_shown_as_such_and_can_be_deleted(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    sound, key = [await api.schedule(WEBHOOK, 60, "/schedule?type=mail") for _ in range(2)]
    keys = await keys_of(raw, key)
    await raw.hset(keys.tasks, key, "{")
    status, content = await api.call("GET", f"/schedule/{key}")
    assert status == 200
    info = content["data"]["info"]
    assert info.pop("waits_for").endswith(f"; then its time, {info['expires']}")
    assert info.pop("expires") > "2020"
    assert content["data"] == {
        "info": {
            "key": key,
            "ttl": 0,
            "retry": 0,
            "webhook": "",
            "state": "scheduled",
            "due": None,
            "type": "default",
            "error": "unreadable record",
        },
        "data": None,
    }
    _, content = await api.call("GET", "/schedules")
    # In the order of their due times, which may be the same.
    assert {task["info"]["key"]: task["info"].get("error") for task in content["data"]} == {
        sound: None,
        key: "unreadable record",
    }
    _, content = await api.call("GET", "/schedules?type=mail")
    assert [task["info"]["key"] for task in content["data"]] == [sound]
    status, content = await api.call("PATCH", f"/schedule/{key}", json={"webhook": WEBHOOK, "ttl": 1})
    assert (status, content["error"]) == (400, "The task's record cannot be read: it can only be deleted")
    assert await raw.hget(keys.tasks, key) == b"{"
    status, content = await api.call("DELETE", f"/schedule/{key}")
    assert (status, content["data"]) == (200, "cancelled")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 404
    # What the index of its type still says of it, the audit takes out.
    assert await raw.zrem(keys.type_index("mail"), key) == 1
    if not await raw.exists(keys.type_index("mail")):  # the sound one is in another shard
        await raw.srem(keys.types, "mail")


async def test_a_task_of_a_newer_version_is_shown_and_deleted_but_not_changed(
    api: Client, raw: redis.asyncio.Redis
) -> None:
    key = await api.schedule(WEBHOOK, 600, "/schedule?type=mail", data={"n": 1})
    keys = await keys_of(raw, key)
    record: bytes = await raw.execute_command("HGET", keys.tasks, key)
    newer = record.replace(b',"data":', b',"later":{"a":"b","data":"c"},"data":')
    await raw.hset(keys.tasks, key, newer)
    for path in (f"/schedule/{key}", "/schedules?type=mail"):
        status, content = await api.call("GET", path)
        [task] = content["data"] if path.startswith("/schedules") else [content["data"]]
        assert status == 200
        info = task["info"]
        assert (info["webhook"], info["ttl"], info["type"], info["state"]) == (WEBHOOK, 600, "mail", "scheduled")
        assert info["error"] == "written by a newer version: its member later is not known here"
        assert task["data"] == {"n": 1}
    for body in ({"ttl": 1}, {"data": 2}, {"webhook": WEBHOOK}):
        status, content = await api.call("PATCH", f"/schedule/{key}", json=body)
        assert status == 409
        assert content["error"].startswith("The task was written by a newer version: its member later is not known")
    assert await raw.hget(keys.tasks, key) == newer
    # The audit at the end finds nothing of it, nor of the one that stays.
    other = await api.schedule(WEBHOOK, 600, "/schedule?type=mail", data={"n": 1})
    keys = await keys_of(raw, other)
    record = await raw.execute_command("HGET", keys.tasks, other)
    await raw.hset(keys.tasks, other, record.replace(b',"data":', b',"later":{"a":"b","data":"c"},"data":'))
    status, content = await api.call("DELETE", f"/schedule/{key}")
    assert (status, content["data"]) == (200, "cancelled")
    assert (await api.call("GET", f"/schedule/{key}"))[0] == 404


async def test_counters_that_are_no_numbers_are_shown_as_0(api: Client, raw: redis.asyncio.Redis) -> None:
    await raw.hset(KEYS.counters, "delivered", "many")
    assert (await api.stats())["counters"]["delivered"] == 0
    await raw.hdel(KEYS.counters, "delivered")
