"""Alerts: what is wrong is told to a receiver of its own, and nobody else sees or touches what tells it."""

import asyncio
import re
import time
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.store.alerts import NAMED_MOST, Alerts, Found
from redis_scheduler.store.client import RedisClient
from redis_scheduler.task.alert import ALERT_PLACE, ALERT_TYPE
from tests.acceptance.test_refusals import surroundings
from tests.scripts import states
from tests.support.alerts import Watched, texts, worker_known, working
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import Client, client_of, serving
from tests.support.store import Store
from tests.support.tokens import ALL_RIGHTS, make_token
from tests.support.waiting import wait_until

SECRET = "T0000-B0000-a-secret-of-a-chat"


async def test_deaths_are_told_at_once_then_counted_then_over(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver, raw: redis.asyncio.Redis
) -> None:
    receiver.status = 500
    async with (
        working(tmp_path, redis_url, alerted, RETRIES="0", NAMESPACE="") as process,
        client_of(process) as api,
        Watched(redis_url, alerted, alert_every=3_600.0) as seldom,
    ):

        async def die(count: int) -> None:
            before = (await api.stats())["counters"]["died"]
            for _ in range(count):
                await api.schedule(receiver.url, 0, "/schedule?type=mail", data="x")

            async def have_died() -> bool:
                return bool((await api.stats())["counters"]["died"] == before + count)

            await wait_until(have_died, "they died")

        await die(2)
        await seldom.look()
        assert await texts(alerted, 1) == [("died", "began")]
        first = alerted.arrivals[0]
        assert first.json()["count"] == 2
        assert first.json()["content"] == first.json()["text"]
        assert first.json()["host"] == f"127.0.0.1:{receiver.port}"
        assert f"2 tasks died at 127.0.0.1:{receiver.port}" in first.json()["text"]
        # The chat must not get the API's token, which receivers of tasks get here.
        assert not first.headers.get("Authorization")
        assert "Authorization" in receiver.arrivals[0].headers

        for _ in range(3):
            await die(1)
            await seldom.look()
        assert await raw.hget(KEYS.alerts, "number") == b"1", "nothing more is to be told yet"

        async with Watched(redis_url, alerted, alert_every=1.0) as often:

            async def is_told(count: int) -> bool:
                await often.look()
                return len(alerted.arrivals) >= count

            await wait_until(lambda: is_told(2), "they are counted", 20)
            assert alerted.arrivals[1].json()["count"] == 3
            await wait_until(lambda: is_told(3), "it is over", 20)
        assert [state for _, state in await texts(alerted, 3)] == ["began", "again", "over"]
        assert (await api.stats())["ledger_balanced"]


async def test_what_is_late_is_told_and_a_ledger_that_is_not_balanced(
    redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with Watched(redis_url, alerted) as watched:
        await raw.zadd(KEYS.due, {"nobody": 1})
        await raw.hincrby(KEYS.counters, "scheduled", 2)
        await watched.look()
        assert sorted(await texts(alerted, 3)) == [("late", "began"), ("ledger", "began"), ("no-workers", "began")]
        ledger = next(arrival.json() for arrival in alerted.arrivals if arrival.json()["alert"] == "ledger")
        assert ledger["detail"] == "1 missing"
        await raw.zrem(KEYS.due, "nobody")
        await raw.hincrby(KEYS.counters, "scheduled", -2)
        await watched.look()
        assert sorted((await texts(alerted, 6))[3:]) == [("late", "over"), ("ledger", "over"), ("no-workers", "over")]
        assert await raw.hexists(KEYS.alerts, "is:ledger")

        async def is_forgotten() -> bool:
            await watched.look()
            return set(await raw.hkeys(KEYS.alerts)) == {b"turn", b"who", b"noted", b"looks", b"seen", b"number"}

        await wait_until(is_forgotten, "nothing is kept of what is over")


async def test_a_redis_that_is_nearly_full_tells_it_all_the_same(tmp_path: Path, alerted: Receiver) -> None:
    async with redis_process(tmp_path / "redis") as database:
        raw = redis.asyncio.Redis(port=database.port, protocol=2)
        async with Watched(database.url, alerted) as watched:
            used = (await raw.info("memory"))["used_memory"]
            await raw.config_set("maxmemory", used // 2)
            await watched.look()
            assert await texts(alerted, 1) == [("redis-memory", "began")]
            await raw.config_set("maxmemory", 0)
            await watched.look()
            assert (await texts(alerted, 2))[1:] == [("redis-memory", "over")]
        await raw.aclose()


@pytest.mark.one_shard("more shards need more rights")
async def test_with_the_smallest_acl_deaths_are_told_and_all_else_goes_on(tmp_path: Path, alerted: Receiver) -> None:
    async with surroundings(tmp_path) as at, Watched(at.url, alerted) as watched:
        died_ms = round(time.time() * 1000)
        await at.admin.zadd(KEYS.dead, {"nobody": died_ms})
        await asyncio.sleep(0.002)  # what dies in the millisecond of a look is told by the next one
        await watched.look()
        assert ("died", "began") in await texts(alerted, 1)
        assert int(await at.admin.hget(KEYS.alerts, "seen") or 0) > died_ms
        await at.admin.zrem(KEYS.dead, "nobody")


async def test_only_what_is_asked_for_is_told(redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis) -> None:
    async with Watched(redis_url, alerted, alert_on="ledger") as watched:
        await raw.zadd(KEYS.due, {"nobody": 1})
        await watched.look()
        assert await texts(alerted, 1) == [("ledger", "began")]
        assert await raw.hexists(KEYS.alerts, "is:ledger")
        assert not await raw.hexists(KEYS.alerts, "is:late")
        await raw.zrem(KEYS.due, "nobody")


async def test_hosts_of_others_are_not_in_the_way_of_what_else_is_wrong(redis_url: str) -> None:
    async with aclosing(RedisClient(redis_url, 3, KEYS)) as client:
        alerts, told = Alerts(client, "who", 60_000, 1), dict[str, int]()
        for look in range(6):
            turn = await wait_until(alerts.take_turn, "it is its turn")
            assert turn is not None
            found = [Found(f"died:host-{look}-{number}.example:443", 1, "") for number in range(20)]
            others = [Found("died:other", 3, "")] if look == 0 else []
            for one in await alerts.note(turn, [*found, *others, *([Found("ledger", 0, "")] if look == 5 else [])], {}):
                told[one.name] = told.get(one.name, 0) + one.count
                await alerts.forget(one)
        assert "ledger" in told
        hosts = sum(name.startswith("died:host") for name in told)
        assert hosts == NAMED_MOST - 1
        assert told["died:other"] == 3  # what came since is told with its next telling
        kept = await client.command("HGET", KEYS.alerts, "is:died:other")
        assert kept.endswith(b" %d" % (120 - hosts))


async def test_nobody_takes_the_key_of_an_alert(redis_url: str, alerted: Receiver, raw: redis.asyncio.Redis) -> None:
    async with Watched(redis_url, alerted) as watched:
        await raw.hincrby(KEYS.counters, "scheduled", 1)
        await watched.look()
        await raw.hincrby(KEYS.counters, "scheduled", -1)
        [arrival] = alerted.arrivals
        since_ms = round(datetime.fromisoformat(arrival.json()["since"]).timestamp() * 1000)
        assert str(since_ms) not in arrival.key
        assert re.fullmatch(r"schedule-alert-1-began-[0-9a-f]{32}", arrival.key)


async def _echo(request: web.Request) -> web.Response:
    return web.Response(status=500, text=f"Cannot POST {request.path_qs} ({request.path.rpartition('/')[2]})")


async def test_the_url_of_alerts_stands_nowhere_and_alerts_are_for_admins_alone(
    redis_url: str, tmp_path: Path, alerted: Receiver, raw: redis.asyncio.Redis, client: RedisClient
) -> None:
    url = f"{alerted.url}services/{SECRET}?a=1"
    alerted.behaviour = _echo
    async with (
        working(tmp_path, redis_url, alerted, ALERT_WEBHOOK=url, RETRIES="0") as process,
        client_of(process) as api,
        Watched(redis_url, alerted, alert_webhook=url) as watched,
    ):
        await raw.hincrby(KEYS.counters, "scheduled", 1)
        await watched.look()
        await raw.hincrby(KEYS.counters, "scheduled", -1)
        await texts(alerted, 1)
        assert alerted.arrivals[0].path == f"/services/{SECRET}?a=1"
        key = alerted.arrivals[0].key

        async def has_died() -> Any:
            return (await api.call("GET", f"/schedule/{key}"))[1].get("data", {}).get("info", {}).get("state") == "dead"

        await wait_until(has_died, "it is a dead letter")
        _, content = await api.call("GET", f"/dead/{key}")
        assert content["data"]["info"]["webhook"] == ALERT_PLACE
        assert "Cannot POST" in str(content)
        shown = [str(await api.call("GET", path)) for path in (f"/dead/{key}", "/dead", "/dead/groups", "/hosts")]
        assert [one for one in shown if SECRET in one] == []
        hashes = [name async for name in raw.scan_iter(_type="hash")]
        kept = str([await raw.hgetall(name) for name in hashes])
        assert ALERT_PLACE in kept
        assert SECRET not in kept
        assert SECRET not in process.log
        for can, sees in (("read",), 0), (("read", "admin"), 1):
            other = api.with_token(await make_token(client, *can))
            assert len((await other.call("GET", "/dead"))[1]["data"]) == sees
            assert len((await other.call("GET", "/dead/groups"))[1]["data"]) == sees
            for path in (f"/schedule/{key}", f"/dead/{key}"):
                assert (await other.call("GET", path))[0] == (200 if sees else 404)
            status, content = await other.call("GET", "/dead?type=schedule-alert")
            assert (status, content.get("code")) == ((200, None) if sees else (403, "other-type"))
        other = api.with_token(await make_token(client, "read", "schedule", "cancel", "replay"))
        body = {"webhook": str(alerted.url), "ttl": 900}
        assert (await other.call("PUT", f"/schedule/{key}", json=body))[0] == 403
        for method, path in (
            ("POST", f"/dead/{key}/replay"),
            ("DELETE", f"/dead/{key}"),
            ("DELETE", f"/schedule/{key}"),
        ):
            assert (await other.call(method, path))[0] == 404, path
        assert (await api.call("DELETE", f"/dead/{key}"))[0] == 200


async def test_what_is_done_to_many_leaves_alerts_to_those_who_see_them(
    api: Client, client: RedisClient, store: Store
) -> None:
    """Else whoever may do it to many could keep from its operators that something is wrong."""
    await store.schedule([states.new_task(900_000, ALERT_TYPE)])
    await states.dead(store, ALERT_TYPE)
    rights = set(ALL_RIGHTS) - {"admin", "purge"}
    user, admin = [api.with_token(await make_token(client, *can)) for can in (rights, rights | {"admin"})]
    asked = [f"/schedules/{verb}" for verb in ("pause", "resume", "run", "shift?by=60", "cancel?state=scheduled")]
    for path in (*asked, "/dead/replay", "/dead/delete?died_before=2999-01-01T00:00:00Z"):
        for dry in ("dry_run=true", "dry_run=false"):
            _, content = await user.call("POST", f"{path}{'&' if '?' in path else '?'}{dry}")
            assert content["touched"] == 0, path
    for path in ("/schedules/cancel?state=scheduled", "/dead/delete?died_before=2999-01-01T00:00:00Z"):
        assert (await admin.call("POST", path))[1]["touched"] == 1


async def test_no_caller_schedules_with_the_type_of_alerts(api: Client) -> None:
    body = {"webhook": ALERT_PLACE, "ttl": 900}
    rule = 'type: must be another than that of the service\'s own alerts, got "schedule-alert"'
    for method, path, given in (
        ("POST", "/schedule?type=schedule-alert", body),
        ("PUT", "/schedule/own:1?type=schedule-alert", body),
        ("POST", "/schedules?type=schedule-alert", {"tasks": [body]}),
        ("POST", "/schedules", {"tasks": [body | {"type": "schedule-alert"}]}),
        ("POST", "/schedule", body | {"on_failure": {"webhook": ALERT_PLACE, "type": "schedule-alert"}}),
    ):
        status, content = await api.call(method, path, json=given)
        assert (status, rule in content["error"]) == (400, True), content


async def test_a_worker_without_the_url_says_so(redis_url: str, tmp_path: Path, alerted: Receiver) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url, RETRIES="0") as process:
        await worker_known(redis_url)
        async with Watched(redis_url, alerted, alert_on="ledger") as watched:
            await watched.clients[0].command("HINCRBY", KEYS.counters, "scheduled", 1)
            await watched.look()
            await watched.clients[0].command("HINCRBY", KEYS.counters, "scheduled", -1)
        await wait_until(lambda: process.events("bury"), "it is a dead letter")
        assert process.events("bury")[0]["error"] == "ALERT_WEBHOOK is not set for this worker"
