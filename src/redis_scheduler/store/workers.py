"""Which workers live, and which records they read: the API gives no task to workers that are too old for its options.

Each worker says every few seconds that it lives (join.lua). Of one of an older version only that is known which Redis
knows of its consumers: before 7.2 that is little. A worker that meets a task that it is too old for gives it back all
the same, since it does not know a member of its record.
"""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis_scheduler.store.answer_shape import NUMBER, of, text_pairs
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.joint import Joint
from redis_scheduler.store.keys import GROUP, WAITING
from redis_scheduler.store.script import Script

SEEN_MS = 15_000
"""A worker that Redis has not seen for so long is taken to be gone: it would have renewed a lease, or claimed again."""

SERVED_MS = 600_000
"""The same of one that has never said that it lives, before Redis 7.2, which sees a consumer only when it is given an
entry. For so long a worker is remembered."""

WORKERS_MOST = 1_000
"""So many workers are remembered."""

LIVE = Script("live")

FRESH_S = 2.0
"""An answer of Redis holds so long: however many tasks with options come, it is asked once in this time."""

NONE_FRESH_S = 0.02
"""The answer that there is none holds so long: one may come at any time, and who reads many tasks asks no second time
for each."""


def format_suffix(record_format: int) -> str:
    """Return the end of the name of a consumer that reads records up to this format. Names of format 1 have none."""
    return f".r{record_format}"


_SUFFIX = re.compile(r"\.r([0-9]{1,9})$")


class Workers:
    """The live workers of a shard."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._asking = Joint[None]("workers")
        self._formats: dict[str, int] = {}
        self._asked_s = -math.inf

    async def too_old(self, record_format: int) -> str | None:
        """Return the name of a live worker that does not read this record format; None if there is none. Raises
        StoreUnavailable, to all who wait for the same answer."""
        await self._refresh()
        return next((name for name, known in self._formats.items() if known < record_format), None)

    async def names(self) -> list[str]:
        """Return their names. Raises as `too_old` does."""
        await self._refresh()
        return list(self._formats)

    async def count(self) -> int:
        """Return how many there are. Raises as `too_old` does."""
        await self._refresh()
        return len(self._formats)

    @property
    def is_any(self) -> bool | None:
        """Whether there is one; None where the latest answer is too old. Where there was none, that holds for
        NONE_FRESH_S."""
        age_s = self._age_s
        if self._formats:
            return True if age_s < FRESH_S else None
        return False if age_s < NONE_FRESH_S else None

    async def found_any(self) -> bool:
        """Return whether there is one, by an answer of now. Raises as `too_old` does."""
        await self._asking.answer(self._ask)
        return bool(self._formats)

    @property
    def _age_s(self) -> float:
        """How old the latest answer is."""
        return time.monotonic() - self._asked_s

    async def seen_ms(self) -> int | None:
        """Return when one has last said that it lives; None: none has, for ten minutes."""
        newest = ("ZRANGE", self._client.keys.workers, "-1", "-1", "WITHSCORES")
        pairs = await self._client.optional(*newest, read=text_pairs) or []
        return int(float(pairs[0][1])) if pairs else None

    async def _refresh(self) -> None:
        if self._age_s >= FRESH_S:
            await self._asking.answer(self._ask)

    async def _ask(self) -> None:
        # Without the queue, its group or the right to ask, no worker is known.
        command = ("XINFO", "CONSUMERS", self._client.keys.queue, GROUP)
        names = await self._client.optional(*command, read=_live_workers) or []
        call = LIVE.bind(self._client.keys, seen_ms=SEEN_MS, most=WORKERS_MOST)
        said = await self._client.run(call, _said)
        names = [name for name in names if said.get(name, True)]
        self._formats = {name: _format(name) for name in (*names, *(name for name, lives in said.items() if lives))}
        self._asked_s = time.monotonic()


HELD_MOST = 10_000
"""Of one worker so many entries are looked at: more than any has slots."""


@dataclass(slots=True)
class Holder:
    """How many tasks a worker has in delivery: `held`, and `lost`, whose leases are over since it is gone."""

    name: str
    held: int
    lost: int


async def holders(client: RedisClient, window_ms: int) -> list[Holder]:
    """Return the workers that have tasks in delivery. Raises StoreUnavailable."""
    pending = ("XPENDING", client.keys.queue, GROUP)
    *_, rows = await client.command(*pending, read=_SUMMARY)
    found = []
    for name, count in rows or []:
        if name != WAITING.encode():
            over = await client.command(*pending, "IDLE", window_ms, "-", "+", HELD_MOST, name, read=_ROWS)
            total = int(count)
            found.append(Holder(name.decode(errors="replace"), max(0, total - len(over)), min(total, len(over))))
    return found


_SUMMARY = of(tuple[int, bytes | None, bytes | None, list[tuple[bytes, bytes]] | None])
_ROWS = of(list[list[bytes | int]])


def _format(name: str) -> int:
    suffix = _SUFFIX.search(name)
    return int(suffix[1]) if suffix else 1


def _said(answer: Any) -> dict[str, bool]:
    """Return by the names of workers whether they have said lately that they live."""
    rows = of(list[bytes | int])(answer)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {of(bytes)(name).decode(errors="replace"): NUMBER(mark) == 1 for name, mark in pairs}


def _live_workers(answer: Sequence[Sequence[Any]]) -> list[str]:
    """Return the names of the consumers that are live workers."""
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in answer]
    live = [row for row in rows if NUMBER(row[b"idle"]) < (SEEN_MS if b"inactive" in row else SERVED_MS)]
    names = [row[b"name"].decode(errors="replace") for row in live]
    return [name for name in names if name != WAITING]
