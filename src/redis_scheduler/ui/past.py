"""What pages know of the history: what is over is read once, and all that is read again is read at once."""

import time
from collections.abc import Awaitable, Callable, Sequence

Numbers = dict[str, int]

SETTLED = 2
"""To what is so many units old nothing is added any more, but by a worker that Redis was away from."""

SETTLED_FRESH_S = 3600.0


class Past:
    """Minutes, or hours, by their numbers. `read` returns what happened in each of some; of one that something may be
    added to that counts for `fresh_s`."""

    def __init__(self, read: Callable[[Sequence[int]], Awaitable[list[Numbers]]], fresh_s: float) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._kept: dict[int, tuple[float, Numbers]] = {}
        """Until when it counts, by time.monotonic()."""

    async def get(self, first: int, last: int) -> list[Numbers]:
        """Return what happened in each of those from the first to the last, which is the present one. Raises
        StoreUnavailable."""
        now = time.monotonic()
        wanted = range(first, last + 1)
        # Of its own: while this reads, another reading may drop what counts no more.
        found = {number: kept for number in wanted if (kept := self._kept.get(number)) and now < kept[0]}
        missing = [number for number in wanted if number not in found]
        if missing:
            for number, counted in zip(missing, await self._read(missing), strict=True):
                until = now + (SETTLED_FRESH_S if number <= last - SETTLED else self._fresh_s)
                found[number] = self._kept[number] = until, counted
        for number in [number for number, (until, _) in self._kept.items() if now >= until]:
            del self._kept[number]
        return [found[number][1] for number in wanted]
