"""Requests that go one after another: updates of one task, purges, groupings, steps of operations on many tasks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from redis_scheduler.errors import Code, RequestRefused, StoreUnavailable

QUEUED_S = 2.0
"""A request waits so long for those before it, as it does for Redis."""


class Exclusive:
    """Lets requests go one after another. If one finds Redis away, those behind it fail with it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._found_away: StoreUnavailable | None = None
        """The error that ended the latest request."""

    async def _wait(self, most_s: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(most_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise RequestRefused(Code.BUSY, "Too many such requests wait for one another; try again") from error
        finally:
            self._waiting -= 1

    @contextlib.asynccontextmanager
    async def held(self, wait_s: float = QUEUED_S) -> AsyncIterator[None]:
        """Hold it. Raises 503 if requests before it took longer than `wait_s`, StoreUnavailable if one of them found
        Redis away."""
        found_before = self._found_away
        if self._waiting or self._lock.locked():
            await self._wait(wait_s)
        else:
            await self._lock.acquire()  # at once: a time-out would take a tenth of an update
        if self._found_away is not found_before and self._found_away is not None:
            # This client has waited for one time-out already: spare it another.
            self._lock.release()
            raise type(self._found_away)(str(self._found_away))
        try:
            yield
        except StoreUnavailable as error:
            self._found_away = error.with_traceback(None)
            raise
        finally:
            self._lock.release()
