"""Alerts while a shard is away: those of the others come, and nothing is told to be over that may go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.process.alerting import Watch
from redis_scheduler.process.process import Process
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from tests.acceptance.test_starts_without_a_shard import bring_back, take_away
from tests.integration.conftest import schedule
from tests.support.alerts import look_anew, told
from tests.support.clock import SettableClock
from tests.support.proxy import Proxy, proxying
from tests.support.receiver import Receiver, receiving
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.service import TOKEN, client_of, serving
from tests.support.store import Store
from tests.support.waiting import wait_until

LOOK_S = 0.5

KEYS_OF_TWO = [Keys(tag_of("", number), number) for number in range(2)]
"""Those of two shards."""


async def test_of_shards_without_a_worker_those_are_named_in_which_tasks_wait(
    redis_url: str, raw: redis.asyncio.Redis
) -> None:
    """Others serve the first, whose queue is theirs; the third has none, and no tasks."""
    keys = [Keys(tag_of("", number), number) for number in range(3)]
    async with (
        receiving() as alerted,
        aclosing(RedisClient(redis_url, 3, keys[0])) as first,
        aclosing(RedisClient(redis_url, 3, keys[1])) as second,
        aclosing(RedisClient(redis_url, 3, keys[2])) as third,
    ):
        clients = [first, second, third]
        for client in clients:
            await client.create_group()
        settings = Settings(redis_url=redis_url, shards=3, api_auth=TOKEN, alert_webhook=alerted.url)
        watch = Watch(Process(ALL, settings), clients, "watch", look_s=LOOK_S)
        await schedule(Store(first, "worker-a"), "http://127.0.0.1:9/")

        async def looked() -> list[bytes]:
            """What is told: by a task in the shard that has a worker."""
            seconds, _ = await raw.time()
            await raw.zadd(keys[0].workers, {"worker": seconds * 1000})
            await look_anew(watch, LOOK_S)
            records: list[bytes] = await raw.execute_command("HVALS", keys[0].tasks)
            return [record for record in records if b"no-workers" in record]

        for _ in range(4):
            assert await looked() == []
        await schedule(Store(second, "worker-a"), "http://127.0.0.1:9/")
        [told] = await wait_until(looked, "it is told", 20)
        assert b"1 wait for one in shard 1, the oldest" in told
        assert alerted.arrivals == []


async def test_while_a_shard_is_away_the_others_are_told_of(tmp_path: Path) -> None:
    """Tasks are due in both, and no worker lives."""
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        receiving() as alerted,
        aclosing(RedisClient(one.url, 0.3, KEYS_OF_TWO[0])) as first,
        aclosing(RedisClient(other.url, 0.3, KEYS_OF_TWO[1])) as second,
    ):
        settings = Settings(
            redis_url=f"{one.url},{other.url}", api_auth=TOKEN, alert_webhook=alerted.url, alert_late=0.1
        )
        watch = Watch(Process(ALL, settings), [first, second], "watch", look_s=LOOK_S)

        async def are_told(*wanted: tuple[str, str]) -> bool:
            await look_anew(watch, LOOK_S)
            return {*told(alerted)} >= {*wanted}

        await schedule(Store(second, "worker-a"), "http://127.0.0.1:9/")
        await wait_until(lambda: are_told(("late", "began")), "what is late in the other shard")
        await other.kill()
        await first.command("HINCRBY", KEYS_OF_TWO[0].counters, "scheduled", 7)
        await wait_until(lambda: are_told(("ledger", "began")), "what is wrong in the first")
        for _ in range(3):
            assert not await are_told(("late", "over"))
        await other.start()
        await second.command("DEL", KEYS_OF_TWO[1].queue, KEYS_OF_TWO[1].due)
        await wait_until(lambda: are_told(("late", "over")), "it is over")


@dataclass
class Two:
    """Two servers, a shard each, of which a test takes away the first or the `way` to it; and a Watch in each of two
    processes, of which one goes that way. `first`, `second`: that process's clients. No worker lives: so the two send
    to `alerted` what they tell."""

    one: RedisProcess
    way: Proxy
    alerted: Receiver
    straight: Watch
    by_way: Watch
    first: RedisClient
    second: RedisClient


@asynccontextmanager
async def two_watches(folder: Path, **settings: Any) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(redis_process(folder / "one"))
        other = await stack.enter_async_context(redis_process(folder / "other"))
        alerted = await stack.enter_async_context(receiving())
        way = await stack.enter_async_context(proxying(one.port))
        watches = list[Watch]()
        for name, of_first in (("straight", one.url), ("by-way", way.url)):
            urls = of_first, other.url
            given = Settings(
                redis_url=",".join(urls), api_auth=TOKEN, alert_webhook=alerted.url, alert_every=600, **settings
            )
            pairs = zip(urls, KEYS_OF_TWO, strict=True)
            clients = [await stack.enter_async_context(aclosing(RedisClient(url, 0.3, keys))) for url, keys in pairs]
            watches.append(Watch(Process(ALL, given), clients, name, look_s=LOOK_S))
        (straight, by_way), (first, second) = watches, clients
        await second.create_group()
        yield Two(one, way, alerted, straight, by_way, first, second)


async def look_in_turn(first: Watch, second: Watch) -> None:
    """Have both look, once the turn of whoever looked before has ended; a shard may be away."""
    with suppress(StoreUnavailable):
        await look_anew(first, LOOK_S)
    with suppress(StoreUnavailable):
        await second.look()


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_while_the_first_shard_is_away_that_is_told_and_nothing_twice(how: str, tmp_path: Path) -> None:
    async with two_watches(tmp_path, alert_late=0.1) as two:

        async def is_told(*wanted: tuple[str, str]) -> bool:
            await look_in_turn(two.straight, two.by_way)
            return {*told(two.alerted)} >= {*wanted}

        await two.second.command("HINCRBY", KEYS_OF_TWO[1].counters, "scheduled", 7)
        await wait_until(lambda: is_told(("ledger", "began")), "what is wrong is told")
        await take_away(two.one, how)
        await wait_until(lambda: is_told(("shard-away", "began")), "that it is away is told", 20)
        texts = [arrival.json() for arrival in two.alerted.arrivals]
        assert {one.get("detail") for one in texts if one["alert"] == "shard-away"} == {"shard 0 of 2"}
        await schedule(Store(two.second, "worker-a"), "http://127.0.0.1:9/")
        await wait_until(lambda: is_told(("late", "began")), "what begins meanwhile is told")
        await bring_back(two.one, how)
        await wait_until(lambda: is_told(("shard-away", "over")), "it is back", 20)
        await two.second.command("HINCRBY", KEYS_OF_TWO[1].counters, "scheduled", -7)
        await wait_until(lambda: is_told(("ledger", "over")), "what began before it went is over")
        for _ in range(3):
            await is_told()
        assert len(told(two.alerted)) == len({*told(two.alerted)}), told(two.alerted)


async def test_a_process_that_alone_does_not_reach_the_first_shard_tells_nothing(tmp_path: Path) -> None:
    async with two_watches(tmp_path) as two:
        two.way.flowing.clear()
        seen = set[bool]()
        for _ in range(12):  # longer than a copy keeps it from looking: that it tells nothing shows only with time
            await look_in_turn(two.by_way, two.straight)
            seen.add(two.first.outage.is_away)
        assert True in seen
        assert two.alerted.arrivals == []

        async def is_told() -> bool:
            await look_anew(two.by_way, LOOK_S)
            return bool(two.alerted.arrivals)

        await wait_until(is_told, "once the other looks no more, it tells that the first is away", 20)
        assert two.alerted.arrivals[0].json()["alert"] == "shard-away"


async def test_while_a_telling_takes_long_no_process_looks_by_another_shard(tmp_path: Path) -> None:
    """Its receiver hangs; a process that does not reach the first shard waits all the same."""
    async with two_watches(tmp_path) as two:
        await look_anew(two.straight, LOOK_S)
        two.way.flowing.clear()
        await two.second.command("HINCRBY", KEYS_OF_TWO[1].counters, "scheduled", 7)
        two.alerted.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look_anew(two.straight, LOOK_S))
            await wait_until(lambda: two.alerted.arrivals, "it is being told")
            for _ in range(12):  # longer than a copy keeps others from looking
                with suppress(StoreUnavailable):
                    await look_anew(two.by_way, LOOK_S)
            assert two.first.outage.is_away
            assert len(two.alerted.arrivals) == 1
            two.alerted.may_answer.set()


async def test_deaths_in_a_shard_are_told_whatever_its_clock_says_and_once_it_is_back(tmp_path: Path) -> None:
    """The server of the second is a minute behind."""
    clock = SettableClock(tmp_path, -60)
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other", environment=clock.environment) as other,
        receiving() as alerted,
        aclosing(RedisClient(one.url, 0.3, KEYS_OF_TWO[0])) as first,
        aclosing(RedisClient(other.url, 0.3, KEYS_OF_TWO[1])) as second,
    ):
        settings = Settings(
            redis_url=f"{one.url},{other.url}",
            api_auth=TOKEN,
            alert_webhook=alerted.url,
            alert_on="died",
            alert_every=0.1,
        )
        watch = Watch(Process(ALL, settings), [first, second], "watch", look_s=LOOK_S)

        async def die(name: str) -> None:
            seconds, microseconds = await second.command("TIME")
            await second.command("ZADD", KEYS_OF_TWO[1].dead, int(seconds) * 1000 + int(microseconds) // 1000, name)

        async def are_told(count: int) -> bool:
            await look_anew(watch, LOOK_S)
            return bool(sum(one.json().get("count", 0) for one in alerted.arrivals) == count)

        await look_anew(watch, LOOK_S)
        await die("one")
        await wait_until(lambda: are_told(1), "the first is told")
        await die("another")
        await other.kill()
        for _ in range(2):
            await look_anew(watch, LOOK_S)
        await other.start()
        await wait_until(lambda: are_told(2), "the second is told")
        for _ in range(2):
            assert await are_told(2)


@pytest.mark.parametrize("shard", [0, 1])
async def test_that_a_redis_has_lost_its_data_is_told(shard: int, tmp_path: Path) -> None:
    async with (
        redis_process(tmp_path / "one") as one,
        redis_process(tmp_path / "other") as other,
        receiving() as alerted,
        serving(tmp_path, REDIS_URL=f"{one.url},{other.url}", ALERT_WEBHOOK=alerted.url, ALERT_ON="emptied") as process,
        client_of(process) as api,
    ):

        async def are_served() -> bool:
            return all(one["worker_seen"] for one in (await api.stats())["shards"])

        await wait_until(are_served, "a worker is seen in both", 20)
        assert alerted.arrivals == []
        async with redis.asyncio.Redis(port=(one, other)[shard].port, protocol=2) as client:
            await client.flushall()
        await wait_until(lambda: alerted.arrivals, "it is told", 30)
        assert told(alerted) == [("emptied", "began")]
        assert alerted.arrivals[0].json()["detail"].startswith(f"shard {shard} of 2, as was seen at 20")
        assert "Redis has lost all its data (shard" in alerted.arrivals[0].json()["text"]
