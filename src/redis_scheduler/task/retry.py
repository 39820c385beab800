"""What follows for a claim: whether it may be attempted, and what comes of the attempt. Pure; the worker carries it
out."""

from dataclasses import dataclass
from enum import Enum

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import UNREADABLE, UNREADABLE_ERROR, LastFailure, encode_failure, newer_error
from redis_scheduler.task.timing import DEFAULT, Timing


class Transition(Enum):
    """What a worker does with a claim in the end; each is a transition of the store, with its script's name. The last
    three are events of the log, too."""

    SETTLE = "settle"
    RELEASE = "release"
    RETRY = "retry"
    DEFER = "defer"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class Policy:
    """RETRIES and RETRY_TIME: `retries` attempts after the first (-1: for ever), `delay_ms` after the end of each."""

    retries: int
    delay_ms: int

    def attempts_left(self, attempts: int) -> int | None:
        """Return how many attempts may follow a failed one, `attempts` having failed before it; None: any number."""
        return None if self.retries < 0 else max(0, self.retries - attempts)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows: the transition, and where the task comes again in how many ms.

    `error` says why. `last_failure` is kept with the task; empty keeps the one before. `counts`: whether an attempt
    failed.
    """

    transition: Transition
    delay_ms: int = 0
    error: str = ""
    last_failure: bytes = b""
    counts: bool = True


SETTLED = Decision(Transition.SETTLE)
RELEASED = Decision(Transition.RELEASE, counts=False)


def before_attempt(claim: Claim, timing: Timing = DEFAULT) -> Decision | None:
    """Decide what follows without an attempt; None: attempt it.

    A record that cannot be read is buried, and so is a task whose last workers all ended during its delivery. One that
    a newer version wrote is left to a worker that knows it: sent without its unknown member it would be another task.
    """
    if claim.record is UNREADABLE:
        return _buried_unattempted(UNREADABLE_ERROR)
    if claim.record.unknown is not None:
        return Decision(Transition.DEFER, timing.newer_delay_ms, newer_error(claim.record.unknown), counts=False)
    if claim.tries > timing.lost_workers_most:
        return _buried_unattempted(f"worker lost: {claim.tries - 1} workers ended during the delivery")
    return None


def _buried_unattempted(error: str) -> Decision:
    return Decision(Transition.BURY, 0, error, encode_failure(LastFailure(error, 0)), counts=False)


def decide(policy: Policy, claim: Claim, outcome: Outcome, timing: Timing = DEFAULT) -> Decision:
    """Decide what follows from an attempt of a claim.

    A success settles the task. A fault of this machine counts as no attempt: the task is released. The last failed
    attempt buries the task. Any earlier one is retried after the policy's delay: parked if the delay fits the window,
    else deferred to `due`.
    """
    error = outcome.error
    if error is None:
        return SETTLED
    if outcome.is_local:
        return RELEASED
    last_failure = encode_failure(LastFailure(error, outcome.elapsed_ms, outcome.status))
    if 0 <= policy.retries <= claim.attempts:
        return Decision(Transition.BURY, 0, error, last_failure)
    transition = Transition.RETRY if policy.delay_ms <= timing.window_ms else Transition.DEFER
    return Decision(transition, policy.delay_ms, error, last_failure)
