"""Requests that go one after another: updates of one task, and purges."""

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
        self._found_away: StoreUnavailable | None = None
        """The error that ended the latest request."""

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold it. Raises 503 if requests before it took too long, StoreUnavailable if one of them found Redis away."""
        found_before = self._found_away
        try:
            async with asyncio.timeout(QUEUED_S):
                await self._lock.acquire()
        except TimeoutError as error:
            raise RequestRefused(Code.BUSY, "Too many such requests wait for one another; try again") from error
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
