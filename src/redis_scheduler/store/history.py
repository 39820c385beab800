"""The history in Redis: what happened in each of the last minutes, and in each of the last hours.

A small hash each, in the first shard: numbers by their names (tally.py). They expire, so nothing has to be dropped.
"""

from collections.abc import Mapping, Sequence
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

    async def minutes(self, numbers: Sequence[int]) -> list[dict[str, int]]:
        """Return what happened in each of these minutes; nothing of one that is no more kept."""
        return await self._read([self._client.keys.minute(number) for number in numbers])

    async def hours(self, numbers: Sequence[int]) -> list[dict[str, int]]:
        """Return what happened in each of these hours; nothing of one that is no more kept."""
        return await self._read([self._client.keys.hour(number) for number in numbers])

    async def _read(self, names: Sequence[str]) -> list[dict[str, int]]:
        found = await self._client.optionals([("HGETALL", name) for name in names], _numbers)
        return [one or {} for one in found]


def _numbers(answer: Any) -> dict[str, int]:
    """Return the numbers by their names, without what other hands wrote that is none."""
    texts = TEXTS(answer)
    return {
        text_of(name): int(number)
        for name, number in zip(texts[::2], texts[1::2], strict=True)
        if number.isdigit() and len(number) < 16
    }
