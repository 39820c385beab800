"""How fast many tasks come due that one request brings: by a rate, or all now."""

import math
import re
from collections.abc import Mapping

from redis_scheduler.errors import InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.given import quoted

RATE_LEAST, RATE_MOST = 0.01, 100_000

_MS = re.compile("[0-9]{1,15}")
_RULE = f"must be a number from {RATE_LEAST} to {RATE_MOST:,} tasks a second, in digits"


class Pace:
    """The due times of tasks, one after another: `rate` a second, or all of them now (None). Times are Redis' ms."""

    def __init__(self, rate: float | None, now_ms: int) -> None:
        self._step_ms = 1000 / rate if rate else 0
        self._now_ms = now_ms
        self._next_ms: float = now_ms

    def begin(self, cursor: str | None) -> str | None:
        """Go on where a step ended; return where the walk does."""
        walked, _, start_ms = (cursor or "").partition(".")
        self._next_ms = max(self._next_ms, int(start_ms) if _MS.fullmatch(start_ms) else 0)
        return walked or None

    def next_ms(self, task: Stored) -> int:
        """Return when the next task is due. It takes the turn unless it is queued, or comes before as it stands."""
        due_ms = round(self._next_ms)
        if self._comes_ms(task) > due_ms:
            self._next_ms += self._step_ms
        return due_ms

    def _comes_ms(self, task: Stored) -> float:
        if task.state == "queued":
            return 0
        if task.state == "paused":
            # It has no time any more once that is over.
            return math.inf if task.attempts or task.record.due <= self._now_ms else task.record.due
        return math.inf if task.expires_ms is None else task.expires_ms

    def onward(self, cursor: str | None) -> str | None:
        """Return where the next step begins: with a rate it knows when the next task is due."""
        return f"{cursor}.{round(self._next_ms)}" if cursor and self._step_ms else cursor


def rate_of(given: Mapping[str, str]) -> float | None:
    """Return the rate of a query. Raises InvalidField."""
    text = given.get("rate")
    if text is None:
        return None
    digits = text.replace(".", "", 1)
    if digits.isascii() and digits.isdigit() and len(text) <= 20 and RATE_LEAST <= float(text) <= RATE_MOST:
        return float(text)
    raise InvalidField("rate", f"{_RULE}, got {quoted(text)}")
