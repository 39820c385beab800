"""Servers of their own, a shard each: each keeps which shard it is, and what is listed in another order is refused."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.check import Servers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from tests.support.audit import plain
from tests.support.redis_process import RedisProcess, redis_process

ALL = [Keys(tag_of("", number), number) for number in range(3)]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[RedisProcess]]:
    async with redis_process(tmp_path / "one") as one, redis_process(tmp_path / "two") as two:
        yield [one, two]


async def start(urls: Sequence[str], first: int = 0) -> list[str]:
    """Check each server of a list, from one on, as a start does; return what was refused."""
    said = []
    for number in [*range(first, len(urls)), *range(first)]:
        servers = Servers(len(urls), ALL[: len(urls)]) if len(urls) > 1 else None
        client = RedisClient(urls[number], 3, ALL[number], servers=servers)
        try:
            await client.ensure_checked()
            await client.create_group()
        except StoreRefused as error:
            said.append(str(error))
        finally:
            await client.aclose()
    return said


async def names_at(server: RedisProcess) -> set[bytes]:
    async with plain(server.url) as client:
        return {bytes(name) for name in await client.keys()}  # type: ignore[arg-type]  # not decoded here


def names_of(shard: int) -> set[bytes]:
    """What a new shard has: its mark, that its index of series has them all, and its group."""
    return {name.encode() for name in (ALL[shard].server, ALL[shard].series_listed, ALL[shard].queue)}


async def test_each_server_keeps_which_shard_it_is_and_serves_again(two: list[RedisProcess]) -> None:
    urls = [server.url for server in two]
    for _ in range(2):
        assert await start(urls) == []
    assert [await names_at(server) for server in two] == [names_of(number) for number in range(2)]


@pytest.mark.parametrize("first", [0, 1])
async def test_servers_that_changed_places_are_refused_and_nothing_is_written(
    first: int, two: list[RedisProcess]
) -> None:
    assert await start([server.url for server in two]) == []
    before = [await names_at(server) for server in two]
    said = await start([server.url for server in reversed(two)], first)
    assert len(said) == 2
    for number in range(2):
        assert any(f"holds shard {1 - number}, and REDIS_URL names it for shard {number}" in one for one in said)
    assert [await names_at(server) for server in two] == before


async def test_one_server_by_two_names_is_refused(two: list[RedisProcess]) -> None:
    url = two[0].url
    [said] = await start([url, url.replace("127.0.0.1", "localhost")])
    assert "holds shard 0, and REDIS_URL names it for shard 1" in said
    assert await names_at(two[0]) == names_of(0)


async def test_a_server_that_is_left_out_is_missed(two: list[RedisProcess]) -> None:
    urls = [server.url for server in two]
    assert await start(urls) == []
    # Those of before go on until others schedule to the second server.
    assert await start(urls[:1]) == []
    async with plain(urls[0]) as client:
        await client.zadd(ALL[0].shards, {"1": 0, "2": 1})
    [said] = await start(urls[:1])
    assert "this is one of 2 servers, a shard each: REDIS_URL must list all of them" in said


async def test_a_list_that_became_shorter_is_refused_and_a_longer_one_is_not(
    two: list[RedisProcess], tmp_path: Path
) -> None:
    urls = [server.url for server in two]
    assert await start(urls) == []
    async with redis_process(tmp_path / "three") as three:
        assert await start([*urls, three.url]) == []
        for said in await start(urls):
            assert "there have been 3 servers, a shard each, and REDIS_URL lists 2" in said


async def test_the_only_server_of_before_comes_first(two: list[RedisProcess]) -> None:
    urls = [server.url for server in two]
    assert await start(urls[:1]) == []
    said = await start(urls[::-1])
    assert any("holds shard 0, and REDIS_URL names it for shard 1" in one for one in said)
    async with plain(urls[1]) as client:
        await client.flushall()
    assert await start(urls) == []
