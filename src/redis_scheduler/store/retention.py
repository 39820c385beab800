"""What is kept of tasks that have ended, and dropped when it is too old or too much."""

from dataclasses import dataclass
from typing import Any

from redis_scheduler.store.answer_shape import numbers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.script import Script
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.timing import DEFAULT, Timing

TRIM = Script("trim")


@dataclass(slots=True)
class Trim:
    """What a trim did: how many dead letters it dropped, and the seconds until the next has something to do (None:
    never)."""

    dropped: int
    wait_s: float | None


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
        return await self._client.run(
            TRIM.bind(
                self._client.keys,
                ttl_ms=self._kept.dead_ttl_ms,
                most_bytes=self._kept.dead_bytes,
                limit=self._limit,
            ),
            _trim,
        )


def _trim(answer: Any) -> Trim:
    dropped, wait_ms = numbers(2)(answer)
    return Trim(dropped, None if wait_ms < 0 else wait_ms / 1000)
