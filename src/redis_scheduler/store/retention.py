"""What is kept of tasks that have ended, and dropped when it is too old or too much; and what a purge left of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis_scheduler.store.answer_shape import SCANNED, numbers, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.script import Script
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.timing import DEFAULT, Timing

TRIM, CLEAN = Script("trim"), Script("clean")

CLEANED_MEMBERS = 1_000
"""Members of indexes that one call looks at: about a millisecond of Redis."""


@dataclass(slots=True)
class Trim:
    """What a trim did: how many dead letters and summaries it dropped, and the seconds until the next has something to
    do (None: never)."""

    dropped: int
    wait_s: float | None
    results_dropped: int = 0
    has_remains: bool = False
    """Whether a purge left something in the indexes, for `Retention.clean`."""


class Retention:
    """Drops what is not to be kept of one shard. Every process may do so at any time.

    Every method raises StoreUnavailable, or StoreFull, as the client does.
    """

    def __init__(self, client: RedisClient, kept: Kept, timing: Timing = DEFAULT) -> None:
        self._client = client
        self._kept = kept
        self._limit = timing.batch_limit

    async def trim(self) -> Trim:
        """Drop the oldest dead letters that are not to be kept: a batch at most."""
        return await self._trim(gives_way=0)

    async def give_way(self) -> Trim:
        """Drop what is oldest though it is to be kept, since Redis lacks memory: a sixteenth of the summaries, or if
        there are none a batch of dead letters."""
        return await self._trim(gives_way=1)

    async def _trim(self, gives_way: int) -> Trim:
        return await self._client.run(
            TRIM.bind(
                self._client.keys,
                ttl_ms=self._kept.dead_ttl_ms,
                most_bytes=self._kept.dead_bytes,
                limit=self._limit,
                gives_way=gives_way,
            ),
            _trim,
        )

    async def clean(self, work_s: float) -> bool:
        """Take out of the indexes of types and labels what a purge left there; return whether nothing is left. Works
        for so long, and as long again it leaves Redis and this process to others."""
        mark = await self._client.optional("GET", self._client.keys.remains, read=of(bytes | None))
        if mark is None:
            return True
        until_s, cursor = time.monotonic() + 2 * work_s, b""
        while cursor != b"0":
            cursor, names = await self._client.command(
                "SSCAN", self._client.keys.types, cursor or "0", "COUNT", self._limit, read=SCANNED
            )
            at = "0"
            while names:
                began_s = time.monotonic()
                cleaned, at = await self._clean(names[: self._limit], at)
                names = names[cleaned:]
                await asyncio.sleep(time.monotonic() - began_s)
                if time.monotonic() > until_s:
                    return False
        await self._clean((), "0", mark)
        return True

    async def _clean(self, names: Sequence[bytes], cursor: str, mark: bytes = b"") -> tuple[int, str]:
        types = [text_of(name) for name in names]
        return await self._client.run(
            CLEAN.bind(self._client.keys, cursor=cursor, most=CLEANED_MEMBERS, mark=mark, types=types), _cleaned
        )


_CLEANED = of(tuple[int, bytes])


def _cleaned(answer: Any) -> tuple[int, str]:
    cleaned, cursor = _CLEANED(answer)
    return cleaned, str(int(cursor))


def _trim(answer: Any) -> Trim:
    dropped, wait_ms, results_dropped, has_remains = numbers(4)(answer)
    return Trim(dropped, None if wait_ms < 0 else wait_ms / 1000, results_dropped, has_remains == 1)
