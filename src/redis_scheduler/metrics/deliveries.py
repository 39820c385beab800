"""What a second of deliveries adds to the numbers of this process. So a delivery itself costs nothing more by them."""

from collections.abc import Mapping, Sequence
from itertools import compress

from redis_scheduler.metrics.family import ATTEMPT_DURATION, ATTEMPTS, BOUNDS_NS, LATENESS
from redis_scheduler.metrics.meter import SUM, Meter

_NS = 1_000_000
_BUCKETS = {f"{bound // _NS}": at for at, bound in enumerate(BOUNDS_NS) if bound >= _NS} | {"more": len(BOUNDS_NS)}


def _bucket_of(ms: int) -> int:
    return next(at for at, bound in enumerate(BOUNDS_NS) if ms * _NS <= bound)


class Deliveries:
    """Adds tallies (task/tally.py) to a meter."""

    def __init__(self, meter: Meter, exact_ms: int) -> None:
        self._meter = meter
        self._took, self._late = meter.numbers(ATTEMPT_DURATION), meter.numbers(LATENESS)
        self._each_ms = range(exact_ms + 1)
        self._bucket_of_ms = [_bucket_of(ms) for ms in self._each_ms]

    def add(
        self,
        took: Sequence[int],
        late: Sequence[int],
        others: Mapping[str, int],
        took_ms: int,
        late_ms: int,
    ) -> None:
        """Add how many attempts took each ms, and how many first attempts were late by each; and all `others` by their
        names, with the sums of those whose ms are not told."""
        before = sum(self._took[:SUM])
        self._took[SUM] += took_ms * _NS
        self._late[SUM] += late_ms * _NS
        for histogram, exact in ((self._took, took), (self._late, late)):
            for ms in compress(self._each_ms, exact):
                histogram[self._bucket_of_ms[ms]] += exact[ms]
                histogram[SUM] += exact[ms] * ms * _NS
        # Less than a millisecond late: how much is not known.
        self._late[0] -= late[0]
        self._late[1] += late[0]
        failed = 0
        for name, count in others.items():
            kind, _, value = name.partition(":")
            if kind in ("took", "late"):
                (self._took if kind == "took" else self._late)[_BUCKETS[value]] += count
            elif kind == "failed" and value != "acknowledgement":  # which is no attempt
                self._meter.add(ATTEMPTS, value, number=count)
                failed += count
        self._meter.add(ATTEMPTS, "2xx", number=sum(self._took[:SUM]) - before - failed)
