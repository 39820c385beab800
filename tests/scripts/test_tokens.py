"""The scripts of tokens: a change is made once, by whoever read the token as it is, and there are not too many."""

import asyncio

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store import tokens as module
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import Token, digest_of, encode_token
from redis_scheduler.store.tokens import COMING_KEPT_MS, NO_SHARE, UNTOLD, Coming, Share, Taken, Tokens, Written
from redis_scheduler.task.listing import TOKEN_MARK
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.indexes import owned_by
from tests.scripts.states import ask, new_task
from tests.support.names import KEYS
from tests.support.store import Store

ID = "0123456789"
ONE = Share(1, 0)
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


def limited(**limits: float) -> Token:
    return Token("n", digest_of(b"x"), ("schedule",), 1, ("mail", "order"), **limits)  # type: ignore[arg-type]


async def test_a_second_s_worth_may_come_at_once_and_then_the_rate_counts(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    tokens, token = Tokens(client), limited(rate=5)
    assert [(await tokens.take(ID, token, ONE, NO_SHARE, 1))[0] for _ in range(5)] == [Taken.TAKEN] * 5
    taken, wait_ms, _ = await tokens.take(ID, token, ONE, NO_SHARE, 1)
    assert taken is Taken.WAIT
    assert 0 < wait_ms <= 200
    assert (await tokens.take("1123456789", token, ONE, NO_SHARE, 1))[0] is Taken.TAKEN
    await asyncio.sleep(wait_ms / 1000 + 0.01)
    assert (await tokens.take(ID, token, ONE, NO_SHARE, 1))[0] is Taken.TAKEN
    assert (await tokens.take(ID, token, ONE, NO_SHARE, 1))[0] is Taken.WAIT


async def test_many_at_once_are_taken_whole_and_what_follows_waits(client: RedisClient) -> None:
    tokens, token = Tokens(client), limited(rate=0.5)
    assert await tokens.take(ID, token, Share(10, 0), NO_SHARE, 10) == (Taken.TAKEN, 0, Share(-1, -1))
    taken, wait_ms, _ = await tokens.take(ID, token, ONE, NO_SHARE, 1)
    assert taken is Taken.WAIT
    assert 19_000 < wait_ms <= 20_000


async def test_what_waits_and_what_is_coming_counts(store: Store, raw: redis.asyncio.Redis) -> None:
    tokens, mine = Tokens(store.client), TOKEN_MARK + ID
    await store.schedule(
        [new_task(60_000, name) for name in (mine, ("mail", mine), "mail", None, TOKEN_MARK + "abcdef0123")]
    )
    full, has = limited(tasks=4), sum((await owned_by(raw, ID)).values())
    for entering, coming, wanted in (
        *((2, 0, Taken.TAKEN), (3, 0, Taken.TASKS), (1, 1, Taken.TAKEN), (1, 2, Taken.TASKS)),
        *((0, 9, Taken.TAKEN), (-1, 9, Taken.TAKEN)),
    ):
        taken, number, _ = await tokens.take(ID, full, Share(entering, 10**9), Share(coming, 0), 0)
        assert (taken, number) == (wanted, 2 if wanted is Taken.TASKS else 0)
    small = limited(task_bytes=has + 100)
    for growing, coming, wanted in (
        *((100, 0, Taken.TAKEN), (101, 0, Taken.BYTES), (40, 60, Taken.TAKEN), (40, 61, Taken.BYTES)),
        *((0, 999, Taken.TAKEN), (-5, 999, Taken.TAKEN)),
    ):
        taken, number, _ = await tokens.take(ID, small, Share(10**9, growing), Share(0, coming), 0)
        assert (taken, number) == (wanted, has if wanted is Taken.BYTES else 0)
    assert await raw.exists(KEYS.token_rate(ID)) == 0
    await ask(raw, "SET", KEYS.owned("1123456789"), "foreign")
    assert await tokens.take("1123456789", full, Share(4, 9), NO_SHARE, 0) == (Taken.TAKEN, 0, Share(0, -1))
    await raw.unlink(KEYS.owned("1123456789"))


async def test_what_other_processes_are_about_to_write_counts_until_they_take_it_back(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    tokens, full = Tokens(client), limited(tasks=4, task_bytes=100)
    told = Coming("a", 2, Share(3, 30))

    async def taken(tasks: int, size: int, told: Coming) -> Taken:
        return (await tokens.take(ID, full, Share(tasks, size), NO_SHARE, 0, told))[0]

    for _ in range(2):
        assert await taken(3, 30, told) is Taken.TAKEN, "its own does not count twice"
    assert await taken(2, 1, Coming("b", 1, Share(2, 1))) is Taken.TASKS
    assert await taken(1, 71, Coming("b", 2, Share(1, 71))) is Taken.BYTES
    assert await taken(1, 70, Coming("b", 3, Share(1, 70))) is Taken.TAKEN
    assert await taken(0, 0, Coming("a", 1, NO_SHARE)) is Taken.TAKEN
    assert await taken(1, 1, Coming("c", 1, ONE)) is Taken.TASKS, "what is older takes nothing back"
    assert await taken(0, 0, Coming("a", 3, NO_SHARE)) is Taken.TAKEN
    assert await taken(3, 30, Coming("c", 2, Share(3, 30))) is Taken.TAKEN
    assert sorted(await ask(raw, "HKEYS", KEYS.token_coming(ID))) == [b"b", b"c"]
    assert 9_000 < await ask(raw, "PTTL", KEYS.token_coming(ID)) <= COMING_KEPT_MS
    # Of a process that has ended, and from foreign hands, who tell what lasts too long.
    now_ms = redis_ms(await ask(raw, "TIME"))
    for until_ms in (now_ms - 1, now_ms + 2 * COMING_KEPT_MS):
        for process in ("b", "c"):
            await ask(raw, "HSET", KEYS.token_coming(ID), process, f"3 3 {until_ms} 9")
        assert await taken(4, 100, UNTOLD) is Taken.TAKEN
    for foreign in ("x", "1 2", "1 2 3 4 5"):
        await ask(raw, "HSET", KEYS.token_coming(ID), "b", foreign)
        assert await taken(4, 100, UNTOLD) is Taken.TAKEN
    await ask(raw, "SET", KEYS.token_coming(ID), "foreign")
    assert await taken(4, 100, told) is Taken.TAKEN
    await raw.unlink(KEYS.token_coming(ID))


async def test_what_foreign_hands_put_in_the_place_of_a_rate(client: RedisClient, raw: redis.asyncio.Redis) -> None:
    tokens, token = Tokens(client), limited(rate=5)
    for foreign in ("x", "-1", "1e300"):
        await ask(raw, "SET", KEYS.token_rate(ID), foreign)
        assert (await tokens.take(ID, token, ONE, NO_SHARE, 1))[0] is Taken.TAKEN


async def test_in_a_full_redis_what_enters_is_refused(client: RedisClient, full: Full) -> None:
    async with full():
        with pytest.raises(StoreFull):
            await Tokens(client).take(ID, limited(rate=5), ONE, NO_SHARE, 1)
        assert await Tokens(client).take(ID, limited(tasks=5), ONE, NO_SHARE, 1) == (Taken.TAKEN, 0, Share(0, -1))
