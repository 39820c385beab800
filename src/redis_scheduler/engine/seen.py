"""What this worker saw of hosts in the last minutes: attempts, failures, how long they took. It is told to the others
every few seconds (store/processes.py).

The historian counts into `rows`, a look into a dict for each attempt; all else is done when it is told.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from redis_scheduler.engine.hosts import Host
from redis_scheduler.host import host_of
from redis_scheduler.store.processes import HOSTS_TOLD, HostTold
from redis_scheduler.store.seen_hosts import chosen
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.tally import BUCKETS, bucket_of

PERIOD_S, PERIODS = 60.0, 5
"""So many periods are told of, beside the one that runs."""

ORIGINS_MOST, HOSTS_MOST = 1_000, 1_000
"""So many are counted: between two tellings, and in all periods. Of others nothing is known."""

FAILED = BUCKETS
"""Where a row has how many failed; before stand all attempts by how long they took."""

Row = list[int]


class HostsSeen:
    """Counts attempts by host. `now`: seconds of a monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.rows: dict[str, Row] = {}
        """What was counted since it was told last, by the origins of webhooks."""
        self._beyond: Row = _new_row()
        self._periods: deque[tuple[float, dict[str, Row]]] = deque([(now(), {})])
        """The periods with when each began, the oldest first."""
        self._totals: dict[str, Row] = {}
        """Their sums."""
        self._errors: dict[str, tuple[str, int]] = {}
        """The last failure of each host, and when it was, by this machine's clock."""

    def row_of(self, origin: str) -> Row:
        """Return the row of an origin that has none yet."""
        if len(self.rows) >= ORIGINS_MOST:
            return self._beyond
        return self.rows.setdefault(origin, _new_row())

    def count(self, origin: str, outcome: Outcome) -> None:
        """Count an attempt."""
        row = self.rows.get(origin) or self.row_of(origin)
        row[bucket_of(outcome.elapsed_ms)] += 1
        if outcome.error is not None:
            row[FAILED] += 1
            if row is not self._beyond:
                said = f"answered {outcome.status}" if outcome.status is not None else outcome.kind
                self._errors[host_of(origin)] = said, int(time.time() * 1000)

    def told(self, hosts: Iterable[Host] = ()) -> tuple[int, list[HostTold]]:
        """Return how many ms the numbers span, and what there is to tell: of `hosts`, for which something is
        here or which are slow, of those with most attempts, and of those that fail."""
        self._collect()
        running, waiting = Counter[str](), Counter[str]()
        slow = set()
        for host in hosts:
            running[host.name] += host.running
            waiting[host.name] += len(host.line)
            if host.is_slow:
                slow.add(host.name)
        names = {*running, *self._totals}
        told = chosen(
            names,
            lambda name: (name in slow, running[name] + waiting[name] + sum(self._totals.get(name, ()))),
            self._fails,
            HOSTS_TOLD,
        )
        span_ms = int((self._now() - self._periods[0][0]) * 1000)
        return span_ms, [self._told(name, running[name], name in slow, waiting[name]) for name in told]

    def _fails(self, name: str) -> bool:
        row = self._totals.get(name)
        return row is not None and 2 * row[FAILED] > sum(row[:FAILED])

    def _told(self, name: str, running: int, is_slow: bool, waiting: int) -> HostTold:
        row = self._totals.get(name) or _new_row()
        error, error_ms = self._errors.get(name, ("", 0))
        return HostTold(name, running, is_slow, row[FAILED], row[:BUCKETS], error, error_ms, waiting)

    def _collect(self) -> None:
        """Begin another period, and forget one, when it is time; add what was counted."""
        if self._now() >= self._periods[-1][0] + PERIOD_S:
            self._periods.append((self._now(), {}))
        while len(self._periods) > PERIODS + 1:
            for name, row in self._periods.popleft()[1].items():
                _add(self._totals, name, row, -1)
                if not any(self._totals[name]):
                    del self._totals[name]
        _, period = self._periods[-1]
        for origin, row in self.rows.items():
            name = host_of(origin)
            if name in self._totals or len(self._totals) < HOSTS_MOST:
                _add(period, name, row, 1)
                _add(self._totals, name, row, 1)
        self.rows.clear()
        self._errors = {name: error for name, error in self._errors.items() if name in self._totals}


def _new_row() -> Row:
    return [0] * (BUCKETS + 1)


def _add(to: dict[str, Row], name: str, row: Row, sign: int) -> None:
    found = to.setdefault(name, _new_row())
    for at, number in enumerate(row):
        if number:
            found[at] += sign * number
