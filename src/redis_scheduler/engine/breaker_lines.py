"""The lines of the log that tell of breakers: that one opens, is probed in vain, closes, and has closed."""

import logging
import time

from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.task.limit import Verdict

logger = Events(__name__)

LINES_MOST, INTERVAL_S = 20, 60.0
"""So many lines in so many seconds, at most: thousands of hosts may fail at once."""

_MORE = "more breakers do the like: no more of them are told of for a minute, and GET /hosts shows all"

_EVENTS = {
    ("closed", "open"): (logging.WARNING, "breaker-opened"),
    ("closing", "open"): (logging.WARNING, "breaker-opened"),
    ("open", "open"): (logging.INFO, "breaker-probed"),
    ("open", "closing"): (logging.INFO, "breaker-closing"),
    ("closing", "closed"): (logging.WARNING, "breaker-closed"),
}


class BreakerLines:
    """Tells of each change, as long as there are not too many."""

    def __init__(self) -> None:
        self._from = 0.0
        self._told = self._untold = 0

    def tell(self, verdict: Verdict) -> None:
        """Log what a breaker did, if it did anything."""
        change = verdict.before, verdict.after
        if change not in _EVENTS or (verdict.before == verdict.after and not (verdict.failures and verdict.number)):
            return  # an attempt that was under way when it opened is no probe
        now = time.monotonic()
        if now >= self._from:
            self._from, self._told = now + INTERVAL_S, 0
        self._told += 1
        if self._told > LINES_MOST:
            self._untold += 1
            if self._told == LINES_MOST + 1:
                logger.warning("breakers-more", warning=_MORE)
            return
        fields: dict[str, object] = {"host": verdict.host, "since": rfc3339(verdict.since_ms)}
        if verdict.failures:
            fields["failures"] = verdict.failures
        if verdict.before == "open":
            fields["probes"] = verdict.number
        elif verdict.before == "closing" and verdict.after == "open":
            fields["step"] = verdict.number
        if self._untold:
            fields["untold"] = self._untold
            self._untold = 0
        level, event = _EVENTS[change]
        logger.log(level, event, **fields)
