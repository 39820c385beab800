"""Tells traces of attempts, as part of the trace that scheduled their tasks."""

from msgspec import UNSET

from redis_scheduler.engine.observer import Observer
from redis_scheduler.host import host_of
from redis_scheduler.spans import Tracer
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.retry import Decision


class SpannedAttempts(Observer):
    """Tells of each attempt when it has ended."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def delivered(self, claim: Claim, outcome: Outcome) -> None:
        """Tell of a success."""
        self._tell(claim, outcome)

    def taken_on(self, claim: Claim, outcome: Outcome) -> None:
        """Tell of it."""
        self._tell(claim, outcome)

    def unsettled(self, claim: Claim, _decision: Decision, outcome: Outcome | None, _attempts_left: int | None) -> None:
        """Tell of a failed attempt."""
        if outcome is not None:
            self._tell(claim, outcome)

    def _tell(self, claim: Claim, outcome: Outcome) -> None:
        if claim.mark:  # it was acknowledged, or not: the attempt was made before
            return
        parent = claim.record.options.traceparent
        attributes: dict[str, str | int] = {
            "redis_scheduler.task.key": claim.key,
            "redis_scheduler.attempt": claim.attempts + 1,
            "server.address": host_of(claim.record.origin),
        }
        if outcome.status is not None:
            attributes["http.response.status_code"] = outcome.status
        self._tracer.attempted(None if parent is UNSET else parent, outcome.elapsed_ms, attributes, outcome.error)
