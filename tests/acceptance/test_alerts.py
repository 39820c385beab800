"""Alerts: what is wrong is told to a receiver of its own, once, however many processes look."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.process.alerting import Watch
from redis_scheduler.process.process import Process
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.store.alerts import NAMED_MOST, Alerts, Found
from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS
from tests.support.receiver import Receiver, receiving
from tests.support.redis_process import redis_process
from tests.support.service import TOKEN, client_of, serving
from tests.support.waiting import wait_until

LOOK_S = 0.1


@pytest.fixture
async def alerted() -> AsyncIterator[Receiver]:
    """What ALERT_WEBHOOK names."""
    async with receiving() as receiver:
        yield receiver


async def texts(alerted: Receiver, count: int, timeout_s: float = 30) -> list[tuple[str, str]]:
    """The kinds and states of the first alerts, once so many have come."""
    await wait_until(lambda: len(alerted.arrivals) >= count, f"{count} alerts", timeout_s)
    return [(arrival.json()["alert"], arrival.json()["state"]) for arrival in alerted.arrivals]


class Watched:
    """A Watch in this process, which looks whenever it is asked to."""

    def __init__(self, redis_url: str, alerted: Receiver, **settings: Any) -> None:
        values: dict[str, Any] = {
            "alert_webhook": alerted.url,
            "alert_every": 1.0,
            "alert_late": 1.0,
            "api_auth": TOKEN,
        } | settings
        self.process = Process(ALL, Settings(redis_url=redis_url, **values))
        self.client = RedisClient(redis_url, 3, KEYS)
        self.watch = Watch(self.process, self.client, "watch", look_s=LOOK_S)

    async def look(self) -> None:
        await asyncio.sleep(LOOK_S)
        await self.watch.look()

    async def __aenter__(self) -> "Watched":
        await self.look()  # from now on deaths are new
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()


async def test_deaths_are_told_at_once_then_counted_then_over(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver
) -> None:
    receiver.status = 500
    async with (
        serving(tmp_path, REDIS_URL=redis_url, RETRIES="0", NAMESPACE="") as process,
        client_of(process) as api,
        Watched(redis_url, alerted, alert_every=2.0) as watched,
    ):

        async def die(count: int) -> None:
            before = (await api.stats())["counters"]["died"]
            for _ in range(count):
                await api.schedule(receiver.url, 0, "/schedule?type=mail", data="x")

            async def have_died() -> bool:
                return bool((await api.stats())["counters"]["died"] == before + count)

            await wait_until(have_died, "they died")

        await die(2)
        await watched.look()
        told_at = time.monotonic()
        assert await texts(alerted, 1) == [("died", "began")]
        first = alerted.arrivals[0]
        assert first.json()["count"] == 2
        assert first.json()["host"] == f"127.0.0.1:{receiver.port}"
        assert f"2 tasks died at 127.0.0.1:{receiver.port}" in first.json()["text"]
        # The chat must not get the API's token, which receivers of tasks get here.
        assert not first.headers.get("Authorization")
        assert "Authorization" in receiver.arrivals[0].headers

        for _ in range(3):
            await die(1)
            await watched.look()
        assert time.monotonic() < told_at + 2, "too slow a machine to see that nothing is told yet"
        assert len(alerted.arrivals) == 1

        async def is_told(count: int) -> bool:
            await watched.look()
            return len(alerted.arrivals) >= count

        await wait_until(lambda: is_told(2), "they are counted", 20)
        assert alerted.arrivals[1].json()["count"] == 3
        await wait_until(lambda: is_told(3), "it is over", 20)
        assert [state for _, state in await texts(alerted, 3)] == ["began", "again", "over"]
        assert (await api.stats())["ledger_balanced"]


async def test_one_alert_comes_however_many_processes_look(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver
) -> None:
    receiver.status = 500
    variables = {"REDIS_URL": redis_url, "RETRIES": "0", "ALERT_WEBHOOK": alerted.url, "ALERT_EVERY": "60"}
    async with AsyncExitStack() as stack:
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            process = await stack.enter_async_context(serving(tmp_path / str(number), **variables))
        api = await stack.enter_async_context(client_of(process))
        raw = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url, protocol=2))

        async def has_looked() -> bool:
            return bool(await raw.hexists(KEYS.alerts, "noted"))

        await wait_until(has_looked, "one has looked")
        # One of the alert's own deaths is not told.
        alerted.statuses = [500]
        for _ in range(5):
            await api.schedule(receiver.url, 0, data="x")
        assert await texts(alerted, 1) == [("died", "began")]
        noted = await raw.hget(KEYS.alerts, "noted")

        async def has_looked_again() -> bool:
            return await raw.hget(KEYS.alerts, "noted") != noted

        await wait_until(has_looked_again, "one has looked again", 30)
        assert len(alerted.arrivals) == 1


async def test_without_a_worker_the_process_that_looks_tells_it(
    redis_url: str, tmp_path: Path, alerted: Receiver, receiver: Receiver
) -> None:
    async with (
        serving(tmp_path, "api", REDIS_URL=redis_url, PORT="0") as process,
        client_of(process) as api,
        Watched(redis_url, alerted, alert_late=600.0) as watched,
    ):
        await api.schedule(receiver.url, 0, data="x")

        async def is_told() -> bool:
            await watched.look()
            return bool(alerted.arrivals)

        alerted.statuses = [503]  # it is sent until it is taken
        await wait_until(is_told, "it is told", 20)
        await watched.look()
        assert await texts(alerted, 2) == [("no-workers", "began")] * 2
        assert len({arrival.key for arrival in alerted.arrivals}) == 1
        (tmp_path / "worker").mkdir()
        async with serving(tmp_path / "worker", "worker", REDIS_URL=redis_url):
            await api.drained()
            await watched.look()
            assert (await texts(alerted, 3))[2:] == [("no-workers", "over")]


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
        assert await raw.hkeys(KEYS.alerts)
        await asyncio.sleep(1.1)
        await watched.look()
        assert set(await raw.hkeys(KEYS.alerts)) == {b"turn", b"noted", b"seen", b"number"}


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


async def test_while_all_is_paused_the_process_that_looks_tells_it(
    redis_url: str, tmp_path: Path, alerted: Receiver, raw: redis.asyncio.Redis
) -> None:
    async with serving(tmp_path, REDIS_URL=redis_url) as process, Watched(redis_url, alerted) as watched:
        await raw.set(KEYS.pause_all, 1)
        await raw.hincrby(KEYS.counters, "scheduled", 1)
        await watched.look()
        assert await texts(alerted, 1) == [("ledger", "began")]
        await raw.hincrby(KEYS.counters, "scheduled", -1)
        await raw.delete(KEYS.pause_all)
        assert process.process.poll() is None


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
        alerts, told = Alerts(client, 60_000), dict[str, int]()
        for look in range(6):
            turn = await wait_until(lambda: alerts.take_turn(1), "it is its turn")
            assert turn is not None
            found = [Found(f"died:host-{look}-{number}.example:443", 1, "") for number in range(20)]
            others = [Found("died:other", 3, "")] if look == 0 else []
            for one in await alerts.note(turn, [*found, *others, *([Found("ledger", 0, "")] if look == 5 else [])]):
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
