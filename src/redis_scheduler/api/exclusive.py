"""Requests that go one after another: updates of one task, purges, groupings, steps of operations on many tasks."""

import asyncio

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

    def held(self, wait_s: float = QUEUED_S) -> "_Held":
        """Return what holds it within a block. Entered, it raises 503 if requests before it took longer than `wait_s`,
        StoreUnavailable if one of them found Redis away."""
        return _Held(self, wait_s)

    async def begin(self, wait_s: float) -> None:
        """Hold it, as `held` says, until `end` is called."""
        found_before = self._found_away
        if self._waiting or self._lock.locked():
            await self._wait(wait_s)
        else:
            await self._lock.acquire()  # at once: a time-out would take a tenth of an update
        if self._found_away is not found_before and self._found_away is not None:
            # This client has waited for one time-out already: spare it another.
            self._lock.release()
            raise type(self._found_away)(str(self._found_away))

    async def _wait(self, most_s: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(most_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise RequestRefused(Code.BUSY, "Too many such requests wait for one another; try again") from error
        finally:
            self._waiting -= 1

    def end(self, error: BaseException | None) -> None:
        """Let the next one go. `error`: what ended the request that held it."""
        if isinstance(error, StoreUnavailable):
            self._found_away = error.with_traceback(None)
        self._lock.release()


class _Held:
    """Holds it for one request. By hand: `asynccontextmanager` took 1.5 us of each update."""

    __slots__ = ("_exclusive", "_wait_s")

    def __init__(self, exclusive: Exclusive, wait_s: float) -> None:
        self._exclusive = exclusive
        self._wait_s = wait_s

    async def __aenter__(self) -> None:
        await self._exclusive.begin(self._wait_s)

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._exclusive.end(error)
