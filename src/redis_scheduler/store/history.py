"""The history in Redis: what happened in each of the last minutes, and in each of the last hours.

A small hash each, in the first shard: numbers by their names (tally.py). They expire, so nothing has to be dropped.
"""

from collections.abc import Mapping
from typing import Any, Literal

from redis_scheduler.store.answer_shape import TEXTS, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.script import Script
from redis_scheduler.task.timing import DEFAULT, Timing

TALLY = Script("tally", {"name": "row[0]", "number": "row[1]"})

_TALLIED = of(Literal[1])

MINUTE_MS, HOUR_MINUTES = 60_000, 60


class History:
    """What one writer adds, and what all have added. Minutes and hours are numbered from 1970, by Redis' clock.

    Every method raises StoreUnavailable, or StoreFull, as the client does. Await one `add` at a time.
    """

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT) -> None:
        self._client = client
        self._timing = timing
        self._name = name
        """The writer's id: new for every process, so that it is never taken for one before."""

    async def add(self, batch: int, minute: int, numbers: Mapping[str, int]) -> None:
        """Add what happened in a minute. `batch` is greater than any before, or that of the call before, if nobody
        knows whether it was applied: then it is applied once."""
        keys, timing = self._client.keys, self._timing
        call = TALLY.bind(
            keys,
            numbers.items(),
            writer=keys.writer(self._name, TALLY.name),
            minute=keys.minute(minute),
            hour=keys.hour(minute // HOUR_MINUTES),
            batch=batch,
            expiry_s=timing.writer_expiry_s,
            minute_ttl_ms=timing.minute_ttl_ms,
            hour_ttl_ms=timing.hour_ttl_ms,
        )
        await self._client.run(call, _TALLIED)

    async def minute(self, number: int) -> dict[str, int]:
        """Return what happened in a minute; nothing if it is no more kept."""
        return await self._numbers(self._client.keys.minute(number))

    async def hour(self, number: int) -> dict[str, int]:
        """Return what happened in an hour; nothing if it is no more kept."""
        return await self._numbers(self._client.keys.hour(number))

    async def _numbers(self, key: str) -> dict[str, int]:
        found: dict[str, int] = await self._client.command("HGETALL", key, read=_numbers)
        return found


def _numbers(answer: Any) -> dict[str, int]:
    """Return the numbers by their names, without what other hands wrote that is none."""
    texts = TEXTS(answer)
    return {
        text_of(name): int(number)
        for name, number in zip(texts[::2], texts[1::2], strict=True)
        if number.isdigit() and len(number) < 16
    }
