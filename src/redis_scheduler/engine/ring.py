"""The turns in which the shards claim that have more than they were given: one after another each asks for all that the
slots have room for, so that batches stay large and none goes short. A lone shard has all turns.

A turn that Redis does not answer lets the next one begin after a moment: a shard that stalls holds up nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from redis_scheduler.task.timing import DEFAULT, Timing


class Ring:
    """The shards with a backlog, by their numbers, and whose turn it is."""

    def __init__(self, timing: Timing = DEFAULT) -> None:
        self.busy: set[int] = set()
        """The shards whose last claim brought all that it might: they have more."""
        self.turn_s = timing.turn_s
        self.current: Turn | None = None
        self.waiting: deque[Turn] = deque()

    def turn(self) -> "Turn":
        """Return a turn. It is entered when those that came before have ended."""
        return Turn(self)


class Turn:
    """One turn, to be entered once."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        ring = self._ring
        if ring.current is None:
            ring.current = self
            return self
        ring.waiting.append(self)
        try:
            await self._called
        except asyncio.CancelledError:
            if self in ring.waiting:
                ring.waiting.remove(self)
            self._end()  # it may have been called all the same
            raise
        return self

    def hurry(self, on_late: Callable[[], None]) -> None:
        """Let the next turn begin in a moment, should this one not have ended, and call `on_late`."""

        def let_go() -> None:
            on_late()
            self._end()

        self._timer = asyncio.get_running_loop().call_later(self._ring.turn_s, let_go)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def _end(self) -> None:
        """Call the next one, unless this turn is over already."""
        ring = self._ring
        if ring.current is not self:
            return
        ring.current = None
        while ring.waiting and ring.current is None:
            turn = ring.waiting.popleft()
            if not turn._called.done():  # it was cancelled
                ring.current = turn
                turn._called.set_result(None)
