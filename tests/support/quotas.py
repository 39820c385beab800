"""Tokens with limits, and what they have waiting."""

from typing import Any

from redis_scheduler.store.client import RedisClient
from tests.support.names import KEYS_OF_SHARDS
from tests.support.service import Client
from tests.support.tokens import ALL_RIGHTS, id_of, make_token

HOOK = "http://127.0.0.1:9/"
BODY: dict[str, Any] = {"webhook": HOOK, "ttl": 60}

LIMITS: list[dict[str, Any]] = [{"tasks": 2}, {"task_bytes": 300}, {"rate": 0.01}]


async def user(api: Client, client: RedisClient, **limits: Any) -> Client:
    """Whoever has a token with these limits, which may schedule tasks of the type mail."""
    return api.with_token(await make_token(client, "schedule", types=("mail",), **limits))


async def waiting(client: RedisClient) -> int:
    """How many tasks of the type mail wait."""
    return sum([await client.command("ZCARD", keys.type_index("mail")) for keys in KEYS_OF_SHARDS])


async def owner(api: Client, client: RedisClient, **limits: Any) -> tuple[Client, str]:
    """Whoever has a token with these limits and all rights, and its id."""
    text = await make_token(client, *ALL_RIGHTS, **limits)
    return api.with_token(text), id_of(text)


async def share(client: RedisClient, token_id: str) -> tuple[int, int]:
    """How many tasks of a token wait, and the bytes of their records."""
    names = [keys.owned(token_id) for keys in KEYS_OF_SHARDS]
    counts = [await client.command("HLEN", name) for name in names]
    sums = [await client.command("HGET", name, ".bytes") for name in names]
    return sum(max(0, count - 1) for count in counts), sum(int(one or 0) for one in sums)


def full_of(status: int, content: dict[str, Any], name: str) -> bool:
    """Whether an answer says that the token has no more room by the limit of this name."""
    return (status, content["code"]) == (507, "token-full") and f"({name})" in content["error"]
