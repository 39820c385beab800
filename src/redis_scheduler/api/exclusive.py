"""Requests that go one after another, and who asks takes turns.

So go updates of one task, purges, groupings, steps of operations on many tasks, and the wait for room for a page.
"""

import asyncio
from collections import OrderedDict, deque

from redis_scheduler.errors import Code, RequestRefused, StoreUnavailable

QUEUED_S = 2.0
"""A request waits so long for those before it, as it does for Redis."""


class Exclusive:
    """Lets requests go one after another; those who ask take turns, so that none waits for all requests of another. If
    one finds Redis away, those behind it fail with it."""

    def __init__(self) -> None:
        self._is_held = False
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Those that wait, by who asks: whose turn is next is first. No line is empty."""
        self._found_away: StoreUnavailable | None = None
        """The error that ended the latest request."""

    def held(self, wait_s: float = QUEUED_S, whose: str = "") -> "_Held":
        """Return what holds it within a block. Entered, it raises 503 if requests before it took longer than `wait_s`,
        StoreUnavailable if one of them found Redis away. `whose`: the id of the token that asks; nothing of
        API_AUTH."""
        return _Held(self, wait_s, whose)

    async def begin(self, wait_s: float, whose: str) -> None:
        """Hold it, as `held` says, until `end` is called."""
        found_before = self._found_away
        if self._is_held:
            await self._wait(wait_s, whose)
        else:
            self._is_held = True  # at once: a time-out would take a tenth of an update
        if self._found_away is not found_before and self._found_away is not None:
            # This client has waited for one time-out already: spare it another.
            self._pass_on()
            raise type(self._found_away)(str(self._found_away))

    async def _wait(self, most_s: float, whose: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(whose, deque()).append(turn)
        try:
            async with asyncio.timeout(most_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it had come
            else:
                self._leave(turn, whose)
            if isinstance(error, TimeoutError):
                text = "Too many such requests wait for one another; try again"
                raise RequestRefused(Code.BUSY, text) from error
            raise

    def _leave(self, turn: asyncio.Future[None], whose: str) -> None:
        """Take one that has given up out of its line, if it still stands there."""
        line = self._lines.get(whose)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[whose]

    def end(self, error: BaseException | None) -> None:
        """Let the next one go. `error`: what ended the request that held it."""
        if isinstance(error, StoreUnavailable):
            self._found_away = error.with_traceback(None)
        self._pass_on()

    def _pass_on(self) -> None:
        """Let the next one go, of whoever's turn it is; one that is just giving up takes none."""
        while self._lines:
            whose, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if not turn.done():
                self._lines.move_to_end(whose)
            if not line:
                del self._lines[whose]
            if not turn.done():
                turn.set_result(None)
                return
        self._is_held = False


class _Held:
    """Holds it for one request. By hand: `asynccontextmanager` took 1.5 us of each update."""

    __slots__ = ("_exclusive", "_wait_s", "_whose")

    def __init__(self, exclusive: Exclusive, wait_s: float, whose: str) -> None:
        self._exclusive = exclusive
        self._wait_s = wait_s
        self._whose = whose

    async def __aenter__(self) -> None:
        await self._exclusive.begin(self._wait_s, self._whose)

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._exclusive.end(error)
