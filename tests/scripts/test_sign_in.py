"""The script of sign-ins at the dashboard: what has ended gives way, then the oldest of whoever has most."""

import pytest
import redis.asyncio

from redis_scheduler.store import sign_ins as module
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.sign_ins import OWN, SignIns, proof_of
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.states import ask
from tests.support.names import KEYS

HOUR_MS = 3_600_000


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """As many as there may be here."""
    monkeypatch.setattr(module, "SIGN_INS_MOST", 4)
    return 4


async def test_one_is_there_until_its_end_or_until_it_is_ended(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    sign_ins = SignIns(client)
    assert await sign_ins.begin("text", OWN, "token", HOUR_MS) == 0
    before = await dump(raw)
    assert await sign_ins.begin("text", OWN, "token", HOUR_MS) == 0
    assert await dump(raw) == before
    found = await sign_ins.find("text")
    assert found is not None
    assert (found.whose, found.proof) == (OWN, proof_of("text", "token"))
    assert 0 < found.left_ms <= HOUR_MS
    assert await sign_ins.find("other") is None
    assert b"text" not in b"".join(before[KEYS.sign_ins.encode()])
    await sign_ins.end("text")
    assert await sign_ins.find("text") is None
    await sign_ins.begin("short", OWN, "token", -1)
    assert await sign_ins.find("short") is None
    await sign_ins.end("short")
    assert await raw.exists(KEYS.sign_ins) == 0


async def test_who_signs_in_often_drops_only_its_own(few: int, client: RedisClient, raw: redis.asyncio.Redis) -> None:
    sign_ins = SignIns(client)
    await sign_ins.begin("first", OWN, "token", HOUR_MS)
    dropped = [await sign_ins.begin(f"of-{n}", "0123456789", "digest", HOUR_MS + n) for n in range(few + 3)]
    assert dropped == [0] * (few - 1) + [1] * 4
    assert await sign_ins.find("first") is not None
    assert [bool(await sign_ins.find(f"of-{n}")) for n in range(few + 3)] == [False] * 4 + [True] * (few - 1)
    await raw.unlink(KEYS.sign_ins)


async def test_what_has_ended_or_is_foreign_gives_way_first(
    few: int, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    sign_ins = SignIns(client)
    await sign_ins.begin("first", OWN, "token", HOUR_MS)
    await sign_ins.begin("ended", OWN, "token", -1)
    await ask(raw, "HSET", KEYS.sign_ins, "foreign", "x", "another", "9 own")
    assert await sign_ins.begin("new", OWN, "token", HOUR_MS) == 0
    assert await raw.hlen(KEYS.sign_ins) == 2
    for n in range(few + 1):
        await ask(raw, "HSET", KEYS.sign_ins, f"foreign-{n}", "x")
    assert await sign_ins.begin("next", OWN, "token", HOUR_MS) == 0
    assert await raw.hlen(KEYS.sign_ins) == 1
    await raw.unlink(KEYS.sign_ins)


async def test_a_full_redis_takes_one_all_the_same(full: Full, client: RedisClient, raw: redis.asyncio.Redis) -> None:
    sign_ins = SignIns(client)
    async with full():
        await sign_ins.begin("text", OWN, "token", HOUR_MS)
        assert await sign_ins.find("text") is not None
    await raw.unlink(KEYS.sign_ins)
