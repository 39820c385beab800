"""When surplus comes back to be claimed again: at a pace that the slots can hardly take, and that costs Redis little.

slots.py says which claims are surplus.
"""

import math

from redis_scheduler.engine.hosts import Host
from redis_scheduler.task.claim import Claim

LATELY_S = 1.0
"""A host was well lately if a delivery to it was in time within so many seconds."""

RETURNS_PER_SLOT_S = 5
"""Surplus tasks a second that come back for each slot their host holds: more than a slow one can take. Or twice as many
as it did in time, if that was lately: it may only have stood still. A host that is probed has them sooner: one a second
for each slot of the worker, 100 at least."""

RETURNS_LEAST_S = 100
"""Surplus tasks a second that come back for all hosts that hold no slot: so many, or as many as there are slots if that
is more."""

RETURN_BYTES_S = 10_000_000
"""Bytes of surplus that come back a second."""

RETURN_STEP_S = 0.1
"""Surplus comes back in steps of this, so that a step is one batch."""


class Returns:
    """Spreads over time when the surplus of one worker, which has `concurrency` slots, is due again. Times are seconds
    of one monotonic clock."""

    def __init__(self, concurrency: int, period_s: float) -> None:
        self._period_s = period_s
        self._interval_s = 1 / max(RETURNS_LEAST_S, concurrency)
        self._returns_at = 0.0
        """When the last comes back of the hosts that hold no slot."""
        self._bytes_return_at = 0.0
        """When the last byte comes back."""

    def after_s(self, host: Host, claim: Claim, now: float) -> float:
        """Return after how many seconds a claim of a host is to come back: not before those that went before it."""
        earliest = now + self._period_s
        if host.running:
            was_in_time = 2 * host.in_time / self._period_s if now - host.well_at < 3 * LATELY_S else 0
            # A host that is probed is known after two periods: its line must not be away for longer.
            probed = 0 if host.is_slow else 1 / self._interval_s
            a_second = max(RETURNS_PER_SLOT_S * host.running, was_in_time, probed)
            returns_at = host.returns_at = max(host.returns_at + 1 / a_second, earliest)
        else:
            returns_at = self._returns_at = max(self._returns_at + self._interval_s, earliest)
        sending_s = len(claim.record.data or b"") / RETURN_BYTES_S
        self._bytes_return_at = max(self._bytes_return_at, now) + sending_s
        return math.ceil((max(returns_at, self._bytes_return_at) - now) / RETURN_STEP_S) * RETURN_STEP_S
