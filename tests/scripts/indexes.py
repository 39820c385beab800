"""What Redis holds of all tasks together: the bytes that are counted of dead letters, and the indexes of types, labels
and tokens."""

import redis.asyncio

from redis_scheduler.task.listing import TOKEN_MARK
from tests.scripts.states import ask
from tests.support.names import KEYS

LETTER_BYTES = 400
"""What a dead letter counts for beside its record and its failure."""


async def letters_of(raw: redis.asyncio.Redis) -> dict[str, int]:
    """The bytes that are counted of each dead letter; their sum must be right."""
    answer = await ask(raw, "HGETALL", KEYS.dead_bytes)
    found = {name.decode(): int(size) for name, size in zip(answer[::2], answer[1::2], strict=True)}
    letters = {name: size for name, size in found.items() if not name.startswith(".")}
    assert found.get(".bytes", 0) == sum(letters.values())
    return letters


async def typed_keys(raw: redis.asyncio.Redis) -> dict[str, set[str]]:
    """The tasks in the index of each type, label or token that the set of names names; what is counted of a token must
    be right."""
    names = [name.decode() for name in await ask(raw, "SMEMBERS", KEYS.types)]
    found = {}
    for name in names:
        if name.startswith(TOKEN_MARK):
            found[name] = set(await owned_by(raw, name[1:]))
        else:
            found[name] = {key.decode() for key in await ask(raw, "ZRANGE", KEYS.type_index(name), 0, -1)}
    return found


async def owned_by(raw: redis.asyncio.Redis, token_id: str) -> dict[str, int]:
    """The bytes that are counted of each waiting task of a token: those of its record; their sum must be right."""
    answer = await ask(raw, "HGETALL", KEYS.owned(token_id))
    found = {key.decode(): int(size) for key, size in zip(answer[::2], answer[1::2], strict=True)}
    total = found.pop(".bytes", 0)
    assert found == {key: await ask(raw, "HSTRLEN", KEYS.tasks, key) for key in found}
    assert total == sum(found.values())
    return found
