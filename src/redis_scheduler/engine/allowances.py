"""Allowances: what a worker may begin under a rate without asking for each. Knows nothing of Redis.

Beside the claims that it asks for, a worker is given as much of the rate as it used of late in a tenth of a second. So
no delivery asks for itself. While nobody answers, the worker goes on at the pace that it had, for a while.
"""

from dataclasses import dataclass

from redis_scheduler.task.timing import DEFAULT, Timing

KEPT_MOST = 10_000
"""Limits of which the pace is known; claims of further ones ask for themselves."""

LATELY_S = 5
"""A pace counts while nobody answers if it is no older: calls take so long to fail."""


@dataclass(slots=True)
class _Pace:
    second: int = 0
    begun: int = 0
    """How many began in this second, and in the one before."""
    before: int = 0
    left: int = 0
    """What is left of the allowance, and until when it lasts."""
    until: float = 0.0
    held_at: float = 0.0
    """Up to when the pace was used up while nobody answered; 0: somebody does."""
    held_rate: float = 0.0


class Allowances:
    """Those of one shard, by limit. Times are seconds of one monotonic clock."""

    def __init__(self, timing: Timing = DEFAULT) -> None:
        self._timing = timing
        self._paces: dict[str, _Pace] = {}

    def take(self, limit: str, now: float) -> bool:
        """Take one of an allowance, if any is left."""
        pace = self._paces.get(limit)
        if pace is None or not pace.left or now >= pace.until:
            return False
        pace.left -= 1
        self._count(pace, 1, now)
        return True

    def wanted(self, limit: str, now: float) -> int:
        """Return how many to ask for beside those that wait."""
        pace = self._paces.get(limit)
        if pace is None:
            return 0
        self._count(pace, 0, now)
        return int(pace.before * self._timing.allowance_s)

    def give(self, limit: str, begun: int, more: int, now: float) -> None:
        """Note that so many may begin at once, and so many more soon."""
        pace = self._paces.get(limit)
        if pace is None:
            if len(self._paces) >= KEPT_MOST:
                self._forget(now)
            if len(self._paces) >= KEPT_MOST:
                return
            pace = self._paces[limit] = _Pace(int(now))
        self._count(pace, begun, now)
        pace.held_at = 0.0
        if more:
            pace.left, pace.until = more, now + 2 * self._timing.allowance_s

    def take_held(self, limit: str, now: float) -> bool:
        """While nobody answers: take one if the pace from before lets another begin."""
        pace = self._paces.get(limit)
        if pace is None:
            return False
        if not pace.held_at:
            is_known = pace.second >= int(now) - LATELY_S
            pace.held_rate, pace.held_at = max(pace.before, pace.begun) if is_known else 0, now
        if not pace.held_rate or pace.held_at > now:
            return False
        # What was not used is not saved up, except from one look to the next.
        pace.held_at = max(pace.held_at, now - 2 * self._timing.allowance_s) + 1 / pace.held_rate
        return True

    def _count(self, pace: _Pace, begun: int, now: float) -> None:
        second = int(now)
        if second > pace.second:
            pace.before = pace.begun if second == pace.second + 1 else 0
            pace.begun, pace.second = 0, second
        pace.begun += begun

    def _forget(self, now: float) -> None:
        """Forget limits under which nothing began lately."""
        self._paces = {limit: pace for limit, pace in self._paces.items() if pace.second >= int(now) - 1}
