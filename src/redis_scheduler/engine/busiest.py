"""Counts attempts by host, for METRICS_HOSTS: what it is told between two reads of the meter it adds up first."""

from collections import Counter

from redis_scheduler.engine.observer import Observer
from redis_scheduler.host import host_of
from redis_scheduler.metrics.hosts import BusiestHosts
from redis_scheduler.metrics.meter import Meter
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.retry import Decision

KEPT_MOST = 10_000
"""Hosts and outcomes between two reads; nobody may read at all."""


class Busiest(Observer):
    """Tells the meter of attempts to the `most` busiest hosts."""

    def __init__(self, meter: Meter, most: int) -> None:
        self._hosts = BusiestHosts(meter, most)
        self._attempts: Counter[tuple[str, str]] = Counter()
        meter.on_read.append(self.collect)

    def delivered(self, claim: Claim, _outcome: Outcome) -> None:
        """Count a success."""
        self._count(claim, "2xx")

    def taken_on(self, claim: Claim, _outcome: Outcome) -> None:
        """Count the attempt."""
        self._count(claim, "2xx")

    def unsettled(self, claim: Claim, _decision: Decision, outcome: Outcome | None, _attempts_left: int | None) -> None:
        """Count a failed attempt by its kind."""
        if outcome is not None:
            self._count(claim, outcome.kind)

    def _count(self, claim: Claim, outcome: str) -> None:
        if claim.mark:  # it was acknowledged, or not: the attempt was made before
            return
        self._attempts[claim.record.origin, outcome] += 1
        if len(self._attempts) >= KEPT_MOST:
            self.collect()

    def collect(self) -> None:
        """Tell the meter."""
        counts: Counter[tuple[str, str]] = Counter()
        for (origin, outcome), count in self._attempts.items():
            counts[host_of(origin), outcome] += count
        self._attempts.clear()
        self._hosts.add(counts)
