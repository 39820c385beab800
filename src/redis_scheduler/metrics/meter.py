"""What this process counts: for each metric and labels a list of integers, which whoever counts holds and adds to.

A counter or a gauge has one number. A histogram has one for each bucket, one for what is above all bounds, and the sum
in ns.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping

from redis_scheduler.metrics.family import (
    ATTEMPT_DURATION,
    ATTEMPTS,
    BOUNDS_NS,
    DIED,
    GAUGE,
    HISTOGRAM,
    LATENESS,
    REDIS_CALLS,
    REDIS_ERRORS,
    SLOTS,
    Family,
)

Key = tuple[str, ...]
"""The name of a metric, and the values of its labels."""

Numbers = dict[Key, list[int]]

SUM = len(BOUNDS_NS) + 1
"""Where a histogram has its sum."""

OUTCOMES = ("2xx", "3xx", "4xx", "5xx", "timeout", "connect", "lookup", "tls", "egress", "proxy", "answer", "request")
"""Outcome.kind, and 2xx for what went well."""

UNATTEMPTED = ("unreadable", "worker-lost", "too-late")
"""Why tasks die without an attempt."""

ERRORS = ("away", "refused", "full")
"""Redis does not answer; it refuses a call; it is full."""

GAUGES = frozenset((SLOTS.name,))


def observe(histogram: list[int], took_ns: int) -> None:
    """Count a duration in a histogram."""
    histogram[bisect_left(BOUNDS_NS, took_ns)] += 1
    histogram[SUM] += took_ns


class Meter:
    """The numbers of one process. `before`: what a process before this one had counted in its place: it goes on."""

    def __init__(self, before: Mapping[Key, list[int]] | None = None) -> None:
        self._numbers: Numbers = {key: numbers for key, numbers in (before or {}).items() if key[0] not in GAUGES}
        self.on_read: list[Callable[[], None]] = []
        """Called before the numbers are read: each brings what it has counted elsewhere."""
        # What may be asked for is there from the start: the first time that something happens is a change, too.
        for family in (LATENESS, ATTEMPT_DURATION):
            self.numbers(family)
        for family, values in ((ATTEMPTS, OUTCOMES), (DIED, UNATTEMPTED), (REDIS_ERRORS, ERRORS)):
            for value in values:
                self.numbers(family, value)
        self._calls: dict[str, list[int]] = {}

    def numbers(self, family: Family, *labels: str) -> list[int]:
        """Return the numbers of a metric with these labels, to add to."""
        key = (family.name, *labels)
        if (found := self._numbers.get(key)) is None:
            found = self._numbers[key] = [0] * (SUM + 1 if family.kind == HISTOGRAM else 1)
        return found

    def keys_of(self, family: Family, *labels: str) -> list[Key]:
        """Return the keys of a metric's numbers, those whose labels begin so."""
        begin = (family.name, *labels)
        return [key for key in self._numbers if key[: len(begin)] == begin]

    def forget(self, family: Family, *labels: str) -> list[int]:
        """Tell of some numbers no longer; return them."""
        return self._numbers.pop((family.name, *labels))

    def add(self, family: Family, *labels: str, number: int = 1) -> None:
        """Count so many."""
        self.numbers(family, *labels)[0] += number

    def set(self, family: Family, *labels: str, value: int) -> None:
        """Set a gauge."""
        if family.kind != GAUGE:
            raise ValueError(f"{family.name} only grows")
        self.numbers(family, *labels)[0] = value

    def called(self, script: str, took_ns: int) -> None:
        """Count a call of a script."""
        histogram = self._calls.get(script)
        if histogram is None:
            histogram = self._calls[script] = self.numbers(REDIS_CALLS, script)
        observe(histogram, took_ns)

    def read(self) -> Numbers:
        """Return all numbers as they are now."""
        for bring in self.on_read:
            bring()
        return self._numbers


UNREAD = Meter()
"""Of those who were given none: nobody reads it."""
