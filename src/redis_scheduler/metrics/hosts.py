"""Attempts by host, of the busiest hosts alone: there may be any number of hosts, and each costs whoever keeps numbers.

A host that is not among them counts for `other`. Once a minute one that got more than twice as many attempts takes the
place of another, whose numbers go to `other`.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping

from redis_scheduler.metrics.family import HOST_ATTEMPTS
from redis_scheduler.metrics.meter import Meter

OTHER = "other"
"""No host: these have a port."""

PERIOD_S = 60.0
CANDIDATES_MOST = 1_000


class BusiestHosts:
    """Counts attempts of so many hosts, and of all others together. `now`: seconds of a monotonic clock."""

    def __init__(self, meter: Meter, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._most = most
        self._now = now
        # A process before this one may have told of some.
        named = {key[1] for key in meter.keys_of(HOST_ATTEMPTS)} - {OTHER}
        self._told: Counter[str] = Counter(dict.fromkeys(named, 0))
        """The hosts that are told, with their attempts in this minute."""
        self._candidates: Counter[str] = Counter()
        """The same of others."""
        self._ends_at = now() + PERIOD_S

    def add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add attempts by host and outcome."""
        for (host, outcome), count in counts.items():
            if host not in self._told and len(self._told) < self._most:
                self._told[host] = 0
            if host in self._told:
                self._told[host] += count
                self._meter.add(HOST_ATTEMPTS, host, outcome, number=count)
            else:
                if host in self._candidates or len(self._candidates) < CANDIDATES_MOST:
                    self._candidates[host] += count
                self._meter.add(HOST_ATTEMPTS, OTHER, outcome, number=count)
        if self._now() >= self._ends_at:
            self._choose()

    def _choose(self) -> None:
        """Let the busiest of the others take the places of those that were little busy; begin a minute."""
        quiet = sorted(self._told, key=lambda host: self._told[host])
        for (busy, count), host in zip(self._candidates.most_common(), quiet, strict=False):
            if count <= 2 * self._told[host]:
                break
            for _, _, outcome in self._meter.keys_of(HOST_ATTEMPTS, host):
                [left] = self._meter.forget(HOST_ATTEMPTS, host, outcome)
                self._meter.add(HOST_ATTEMPTS, OTHER, outcome, number=left)
            del self._told[host]
            self._told[busy] = 0
        self._candidates.clear()
        self._told = Counter(dict.fromkeys(self._told, 0))
        self._ends_at = self._now() + PERIOD_S
