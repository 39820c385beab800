"""The scripts of tokens: a change is made once, by whoever read the token as it is, and there are not too many."""

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store import tokens as module
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import Token, digest_of, encode_token
from redis_scheduler.store.tokens import Tokens, Written
from tests.scripts.conftest import Full
from tests.scripts.states import ask, dump
from tests.support.names import KEYS

ID = "0123456789"
TOKEN = Token("n", digest_of(b"x"), ("read",), 1)
OTHER = Token("m", digest_of(b"y"), ("read",), 1)


async def test_a_change_is_made_once_and_only_to_what_was_read(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    tokens = Tokens(client)
    assert await tokens.write(ID, b"", TOKEN) is Written.DONE
    before = await dump(raw)
    assert await tokens.write(ID, b"", TOKEN) is Written.DONE
    assert await tokens.write(ID, b"", OTHER) is Written.CHANGED
    assert await tokens.write(ID, encode_token(OTHER), None) is Written.CHANGED
    assert await dump(raw) == before
    assert await tokens.write(ID, encode_token(TOKEN), OTHER) is Written.DONE
    assert [token for _, token in await tokens.find([(ID, 1), ("none", 1)])] == [OTHER, None]
    assert await ask(raw, "HKEYS", KEYS.token_uses) == [ID.encode()]
    for _ in range(2):
        assert await tokens.write(ID, encode_token(OTHER), None) is Written.DONE
        assert await raw.exists(KEYS.tokens, KEYS.token_uses) == 0


async def test_there_are_as_many_as_there_may_be(
    client: RedisClient, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_MOST", 1)
    tokens = Tokens(client)
    assert await tokens.write(ID, b"", TOKEN) is Written.DONE
    assert await tokens.write("1123456789", b"", TOKEN) is Written.FULL
    assert await tokens.write(ID, encode_token(TOKEN), OTHER) is Written.DONE
    await raw.unlink(KEYS.tokens)


async def test_a_use_is_noted_once_a_minute(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    tokens = Tokens(client)
    await tokens.write(ID, b"", TOKEN)
    await tokens.find([(ID, 0)])
    assert await raw.exists(KEYS.token_uses) == 0
    [(now_ms, _)] = await tokens.find([(ID, 1)])
    for noted, is_noted_anew in ((now_ms - 30_000, False), (now_ms - 60_000, True)):
        await ask(raw, "HSET", KEYS.token_uses, ID, noted)
        await tokens.find([(ID, 1)])
        assert (int(await ask(raw, "HGET", KEYS.token_uses, ID)) != noted) == is_noted_anew
    await raw.unlink(KEYS.tokens, KEYS.token_uses)


async def test_in_a_full_redis_tokens_are_found_and_revoked(
    client: RedisClient, full: Full, raw: redis.asyncio.Redis
) -> None:
    tokens = Tokens(client)
    await tokens.write(ID, b"", TOKEN)
    async with full():
        with pytest.raises(StoreFull):
            await tokens.write("1123456789", b"", TOKEN)
        assert [token for _, token in await tokens.find([(ID, 1)])] == [TOKEN]
        assert await tokens.write(ID, encode_token(TOKEN), None) is Written.DONE
    assert await raw.exists(KEYS.tokens) == 0


async def test_a_foreign_key_in_the_place_of_uses_keeps_nobody_out(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    tokens = Tokens(client)
    await tokens.write(ID, b"", TOKEN)
    await ask(raw, "SET", KEYS.token_uses, "foreign")
    assert [token for _, token in await tokens.find([(ID, 1)])] == [TOKEN]
    await raw.unlink(KEYS.tokens, KEYS.token_uses)
