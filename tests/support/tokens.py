"""Tokens with rights, as tests make them: put into Redis directly, as the command does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.token import RIGHTS, Token, digest_of, new_id, new_text
from redis_scheduler.store.tokens import Tokens, Written

ALL_RIGHTS = tuple(RIGHTS)


async def make_token(client: RedisClient, *can: str, name: str = "test", **fields: Any) -> str:
    """Make a token that may do this; return its text."""
    token_id = new_id()
    text = new_text(token_id)
    token = Token(name, digest_of(text.encode()), can, 1, **fields)
    assert await Tokens(client).write(token_id, b"", token) is Written.DONE
    return text


def id_of(text: str) -> str:
    """The id in the text of a token."""
    return text.split("_")[1]


async def revoke(client: RedisClient, text: str) -> None:
    """Delete a token."""
    kept = {one.id: one for one in await Tokens(client).all()}
    assert await Tokens(client).write(id_of(text), kept[id_of(text)].raw, None) is Written.DONE


async def held_back(
    first: bytes, rest: bytes, end: Callable[[], Awaitable[object]], fresh_s: float
) -> AsyncIterator[bytes]:
    """A body whose `rest` comes once `end` has ended what its head showed, a token or a sign-in, and what the process
    knows of that is older than `fresh_s`."""
    yield first
    await asyncio.sleep(0.3)  # nothing tells when the process has looked at the head
    await end()
    await asyncio.sleep(fresh_s + 0.2)  # only time shows it: another request would have the process look anew
    yield rest
