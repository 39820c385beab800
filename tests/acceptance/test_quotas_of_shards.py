"""The share of a token over several shards, while one of them is away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from redis_scheduler.task.key import shards_of
from tests.acceptance.test_starts_without_a_shard import bring_back, take_away
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import Client, client_of, run, serving
from tests.support.shards import scheduled_to_the_last
from tests.support.waiting import wait_until

BODY: dict[str, Any] = {"webhook": "http://127.0.0.1:9/", "ttl": 3_600}
MOST = 12


async def made(redis_url: str, *limits: str) -> str:
    """Make a token; return its text."""
    given = ("token", "create", "--name", "one", "--can", "schedule", *limits)
    done = await asyncio.to_thread(run, *given, REDIS_URL=redis_url)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def scheduled(client: Client, count: int) -> list[int]:
    """Schedule tasks; return the shard of each."""
    shards = list[int]()
    for _ in range(count):
        status, content = await client.call("POST", "/schedule", json=BODY)
        assert status == 200, content
        shards += shards_of(content["key"], (2,))[:1]
    return shards


async def test_what_a_token_has_in_a_shard_that_is_away_still_counts(receiver: Receiver, tmp_path: Path) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        variables = {"REDIS_URL": f"{one.url},{other.url}", "TOKEN_GRACE": "60"}
        async with serving(tmp_path, **variables) as service, client_of(service) as api:
            await scheduled_to_the_last(api, receiver.url, 2)
            limited, free = [
                api.with_token(await made(variables["REDIS_URL"], *limits)) for limits in (("--tasks", str(MOST)), ())
            ]
            shards = await scheduled(limited, MOST - 4)
            assert {*shards} == {0, 1}
            await scheduled(free, 1)
            # What counts is what was there when it was asked for last: so this asks behind the last write.
            assert (await limited.call("POST", "/schedules", json={"tasks": [BODY] * MOST}))[0] == 507
            await other.kill()
            await wait_until(lambda: free.accepts(**BODY), "new tasks pass over it")
            assert await scheduled(limited, 4) == [0] * 4
            status, content = await limited.call("POST", "/schedule", json=BODY)
            assert (status, content["code"]) == (507, "token-full")
            assert f"{MOST} tasks" in content["error"]
            await other.start()

            async def is_full_still() -> bool:
                status, content = await limited.call("POST", "/schedule", json=BODY)
                assert status in (503, 507), content
                return (await api.call("GET", "/schedules"))[0] == 200

            await wait_until(is_full_still, "it is back", 10)
            assert (await limited.call("POST", "/schedule", json=BODY))[0] == 507

            await one.kill()
            await wait_until(lambda: free.accepts(**BODY), "a token without limits goes on")
            assert {*await scheduled(free, 4)} == {1}
            # What it has in the first shard counts on, and so do limits.
            status, content = await limited.call("POST", "/schedule", json=BODY)
            assert (status, content["code"]) == (507, "token-full"), content
            assert f"{MOST} tasks" in content["error"]


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_tokens_with_limits_go_on_without_the_first_shard_and_keep_them(
    how: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "other") as other:
        variables = {"REDIS_URL": f"{one.url},{other.url}", "TOKEN_GRACE": "60"}
        async with serving(tmp_path, **variables) as service, client_of(service) as api:
            await scheduled_to_the_last(api, receiver.url, 2)
            stock, rated = [
                api.with_token(await made(variables["REDIS_URL"], *limits))
                for limits in (("--tasks", str(MOST)), ("--rate", "5"))
            ]
            assert {*await scheduled(stock, MOST - 4)} == {0, 1}
            await scheduled(rated, 1)
            # What counts is what was there when it was asked for last: so this asks behind the last write.
            assert (await stock.call("POST", "/schedules", json={"tasks": [BODY] * MOST}))[0] == 507
            await take_away(one, how)
            await wait_until(lambda: service.events("redis-away"), "it is noticed", 20)
            assert await scheduled(stock, 4) == [1] * 4
            status, content = await stock.call("POST", "/schedule", json=BODY)
            assert (status, content["code"]) == (507, "token-full"), content
            assert (await rated.call("POST", "/schedules", json={"tasks": [BODY] * 50}))[0] == 200
            status, content = await rated.call("POST", "/schedule", json=BODY)
            assert (status, content["code"]) == (429, "token-rate"), content
            await bring_back(one, how)
