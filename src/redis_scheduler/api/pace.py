"""How fast many tasks come due that one request brings: by a rate, or all now."""

import math
from collections.abc import Mapping

from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.timing import TEN_YEARS_S

RATE_LEAST, RATE_MOST = 0.01, 100_000

_RULE = f"must be a number from {RATE_LEAST} to {RATE_MOST:,} tasks a second"


class Pace:
    """The due times of tasks, one after another. `rate`: so many a second from `start_ms` on; None: all then. Times
    are Redis' ms."""

    def __init__(self, rate: float | None, now_ms: int, start_ms: int | None = None) -> None:
        self._step_ms = 1000 / rate if rate else 0
        self._now_ms = now_ms
        self._next_ms: float = max(now_ms, start_ms or 0)

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
        """Return the cursor of the request that goes on: with a rate it knows when the next task is due."""
        return f"{cursor}.{round(self._next_ms)}" if cursor and self._step_ms else cursor


def pace_of(given: Mapping[str, str], now_ms: int) -> tuple[Pace, str | None]:
    """Return the pace of a request, and its cursor of the walk. Raises InvalidField."""
    rate, text = _rate(given), given.get("cursor")
    if text is None:
        return Pace(rate, now_ms), None
    cursor, _, start = text.partition(".")
    if rate is None:
        if start:
            raise InvalidField("rate", "is missing: the request that gave this cursor had one", Code.CONTRADICTION)
        return Pace(None, now_ms), text
    is_number = start.isascii() and start.isdigit() and len(start) <= 15
    if not is_number or int(start) > now_ms + TEN_YEARS_S * 1000:
        raise InvalidField("cursor", "must be the `next` of an earlier answer to a request with a rate, as it was")
    return Pace(rate, now_ms, int(start)), cursor


def _rate(given: Mapping[str, str]) -> float | None:
    text = given.get("rate")
    if text is None:
        return None
    digits = text.replace(".", "", 1)
    if digits.isascii() and digits.isdigit() and len(text) <= 20 and RATE_LEAST <= float(text) <= RATE_MOST:
        return float(text)
    raise InvalidField("rate", f"{_RULE}, got {quoted(text)}")
