"""What Redis holds of all tasks together: the bytes that are counted of dead letters, and the indexes of types."""

import redis.asyncio

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
    """The tasks in the index of each type that the set of names names."""
    names = [name.decode() for name in await ask(raw, "SMEMBERS", KEYS.types)]
    found = {name: await ask(raw, "ZRANGE", KEYS.type_index(name), 0, -1) for name in names}
    return {name: {key.decode() for key in members} for name, members in found.items()}
