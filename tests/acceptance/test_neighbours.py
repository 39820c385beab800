"""Two deployments on one database: the start of either says so, in one line, and Redis keeps nothing of a token."""

from pathlib import Path

import pytest
import redis.asyncio

from redis_scheduler import keys
from redis_scheduler.neighbour import stranger
from redis_scheduler.redis_client import RedisClient
from tests.support.service import Process, serving
from tests.support.waiting import wait_until

OURS, THEIRS = "our-secret-token-1", "their-secret-token-2"


async def warned(raw: redis.asyncio.Redis, folder: Path, url: str, token: str, role: str, **variables: str) -> int:
    """Start a process, stop it once it has left its mark, and return how often it warned of neighbours."""
    before = await raw.get(keys.TOKEN_MARK)

    async def has_met() -> bool:
        return before != await raw.get(keys.TOKEN_MARK)

    arguments = {"REDIS_URL": url, "API_AUTH": token, "HOST": "127.0.0.1"} | variables
    process: Process
    async with serving(folder, role, **arguments) as process:
        await wait_until(has_met, "it has met Redis")
    return sum("had another API_AUTH" in event["warning"] for event in process.events("hazard"))


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_start_of_another_deployment_is_told_in_one_line(
    processes: str, redis_url: str, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    starts = [(OURS, "api", 0), (OURS, "worker", 0), (THEIRS, "worker", 1), (THEIRS, "api", 0), (OURS, "api", 1)]
    for token, role, lines in starts:
        assert await warned(raw, tmp_path, redis_url, token, role, PROCESSES=processes) == lines
    await raw.flushall()
    assert await warned(raw, tmp_path, redis_url, THEIRS, "api", PROCESSES=processes) == 0


async def test_redis_keeps_a_salted_mark_and_nothing_of_the_token(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    marks = set()
    for _ in range(3):
        assert await stranger(client, OURS) is None
        mark = bytes(await raw.get(keys.TOKEN_MARK) or b"")  # type: ignore[arg-type]  # not decoded here
        assert OURS.encode() not in mark
        marks.add(mark.split()[0])
    assert len(marks) == 3


@pytest.mark.parametrize("found", ["", "x", ":", "salt:mark", "salt:mark elsewhere", "\xff:\xff host"])
async def test_a_mark_that_another_hand_wrote_does_no_harm(
    found: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.set(keys.TOKEN_MARK, found.encode("latin-1"))
    assert (await stranger(client, OURS) is None) == (found in ("", "x"))
    assert await stranger(client, OURS) is None


async def test_a_foreign_key_under_its_name_is_done_without(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    await raw.hset(keys.TOKEN_MARK, "a", "b")
    assert await stranger(client, OURS) is None
    assert not client.outage.is_away
