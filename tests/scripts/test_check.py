"""The check: it tries every command that the service's scripts need, and leaves nothing behind."""

import re
from importlib import resources

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from tests.scripts.contents import dump
from tests.scripts.states import in_delivery, in_due
from tests.support.names import KEYS
from tests.support.store import Store

LUA = resources.files("redis_scheduler.store") / "lua"
CHECK = (LUA / "check.lua").read_text()
OF_THE_DOCTOR = ("audit.lua", "heads.lua", "balance.lua")
"""Scripts that only the doctor runs; what it may not do it says itself."""


def _scripts() -> dict[str, str]:
    files = [*LUA.iterdir(), *(LUA / "include").iterdir()]
    return {
        file.name: file.read_text() for file in files if file.name.endswith(".lua") and file.name not in OF_THE_DOCTOR
    }


@pytest.mark.parametrize("name", [name for name in _scripts() if name != "check.lua"])
def test_every_command_that_a_script_cannot_do_without_is_tried(name: str) -> None:
    for command, subcommand in re.findall(r"(?:redis\.call\(|= {)'([A-Z]{3,})'(?:, '([A-Z]+)')?", _scripts()[name]):
        named = f"'{command}', '{subcommand}'" if command in ("XGROUP", "XINFO") else f"'{command}'"
        assert named in CHECK


@pytest.mark.parametrize("is_empty", [True, False])
async def test_it_leaves_nothing(is_empty: bool, redis_url: str, store: Store, raw: redis.asyncio.Redis) -> None:
    if is_empty:
        await raw.flushall()
    else:
        await in_due(store)
        await in_delivery(store)
    before = await dump(raw)
    client = RedisClient(redis_url, 3, KEYS)
    await client.ensure_checked()
    if is_empty:
        await raw.delete(KEYS.series_listed)
    assert await dump(raw) == before
    assert not client.outage.must_check
    await client.aclose()


@pytest.mark.parametrize(
    "key", [getattr(KEYS, name) for name in Keys.__slots__ if name not in ("bell", "tag", "shard")]
)
async def test_a_foreign_key_is_named_before_anything_is_written(
    key: str, redis_url: str, raw: redis.asyncio.Redis
) -> None:
    await raw.flushall()
    await raw.rpush(key, "foreign")
    client = RedisClient(redis_url, 3, KEYS)
    with pytest.raises(StoreRefused, match=f"{re.escape(key)}: WRONGTYPE .* foreign program"):
        await Store(client, "worker-a").purge()
    assert await raw.keys() == [key.encode()]
    await raw.delete(key)
    await client.ensure_checked()
    await client.aclose()


async def test_a_full_redis_is_not_what_it_looks_for(redis_url: str, raw: redis.asyncio.Redis) -> None:
    await raw.config_set("maxmemory", 1)
    client = RedisClient(redis_url, 3, KEYS)
    try:
        await client.ensure_checked()
    finally:
        await raw.config_set("maxmemory", 0)
        await client.aclose()


@pytest.mark.parametrize("command", ["eval", "evalsha"])
async def test_both_ways_to_run_a_script_are_tried(
    command: str, redis_url: str, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await client.ensure_checked()  # so that Redis knows the script
    await raw.acl_setuser("app", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=[f"-{command}"])
    refused = RedisClient(redis_url.replace("://", "://app:x@"), 3, KEYS)
    try:
        with pytest.raises(StoreRefused, match=f"NOPERM .*'{command}'"):
            await refused.ensure_checked()
    finally:
        await refused.aclose()
        await raw.acl_deluser("app")
