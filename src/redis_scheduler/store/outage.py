"""How a process lives through an outage: every loop backs off and goes on, and the log tells each change once."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from redis_scheduler.errors import StoreFull, StoreRefused, StoreUnavailable, WrongServer
from redis_scheduler.logs import Events
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.refusal import kind_of

logger = Events(__name__)

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 1.0
"""Loops are back within a second of Redis, so that leases are renewed before the sweeps' hold is over."""

NOTE_INTERVAL_S = 3_600.0
"""Between two lines that say the same of calls that Redis refuses."""

LINES_MOST, LINES_S = 10, 10.0
"""At most so many lines in so many seconds say that Redis is away: where it takes some connections and refuses others,
it comes and goes with each request."""


class Outage:
    """What this process knows of the Redis of a shard: away or not, and whether the queue had its group. `shard`: its
    number; None: there is only one."""

    def __init__(self, shard: int | None = None) -> None:
        self.shard = shard
        self.is_start = False
        """Whether a start looks, which ends with a line of its own where the server is another shard's."""
        self._fields = {} if shard is None else {"shard": shard}
        self.is_away = False
        self.since_s = 0.0
        """Since when it is away, by this machine's clock."""
        self.must_check = True
        """Whether the next call must first check that Redis serves all that the service needs: at the start, and after
        each error, since another server may answer by then, or with other rights. Only that check ends an outage."""
        self.has_served = False
        """Whether this process has ever seen that Redis serves all that the service needs."""
        self.has_seen_group = False
        """Once seen, the group is missing only if somebody took it away."""
        self.changed = asyncio.Event()
        """Set when another Redis may answer than before, or the same one without its data; and when it goes away: then
        the process asks every second whether it is back."""
        self.changed.set()
        self._kinds: set[str] = set()
        self._told_at = deque[float](maxlen=LINES_MOST)
        self._noted_at: dict[str, float] = {}

    def begin(self, error: Exception) -> None:
        """Note that Redis is away, or does not serve this service. The log has a line for each kind of error."""
        if not self.is_away:
            self.since_s = time.time()
            self.changed.set()
        self.is_away = self.must_check = True
        kind, now = kind_of(error), time.monotonic()
        may_tell = len(self._told_at) < LINES_MOST or now - self._told_at[0] >= LINES_S
        may_tell = may_tell and not (self.is_start and isinstance(error, WrongServer))
        if kind not in self._kinds and may_tell:
            self._kinds.add(kind)
            self._told_at.append(now)
            logger.warning("redis-away", error=str(error), **self._fields)

    def end(self) -> None:
        """Note that Redis serves all that the service needs."""
        self.must_check, self.has_served = False, True
        if self.is_away:
            self.is_away = False
            self.changed.set()
            if self._kinds:
                self._kinds.clear()
                logger.warning("redis-back", **self._fields)

    def note(self, error: Exception) -> None:
        """Note that Redis refused one call while it serves others. The log has a line an hour for each kind of
        error."""
        kind, now = kind_of(error), time.monotonic()
        if not self.is_away and now - self._noted_at.get(kind, -math.inf) >= NOTE_INTERVAL_S:
            self._noted_at[kind] = now
            logger.warning("redis-refused", error=str(error), **self._fields)

    async def loop(self, stop: asyncio.Event, run_once: Callable[[], Awaitable[object]]) -> None:
        """Call `run_once` again and again until `stop` is set, backing off while Redis is away."""
        backoff_s = BACKOFF_FIRST_S
        while not stop.is_set():
            try:
                await run_once()
            except (StoreUnavailable, StoreFull) as error:
                if isinstance(error, StoreFull | StoreRefused):
                    self.note(error)
                elif error.shard == self.shard:  # it may be the Redis of another shard that is away
                    self.begin(error)
                await stop_or_interval(stop, backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MOST_S)
            else:
                backoff_s = BACKOFF_FIRST_S
