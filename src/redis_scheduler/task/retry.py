"""What follows for a claim: whether it may be attempted, and what comes of the attempt. Pure; the worker carries it
out."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from msgspec import UNSET

from redis_scheduler.task.acknowledgement import ACCEPTED, within_ms
from redis_scheduler.task.answer import AGAIN_HEADER, again_ms, asks_for_no_retry, wait_ms
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.failure import LastFailure, encode_failure
from redis_scheduler.task.options import NONE
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.record import UNREADABLE, UNREADABLE_ERROR, newer_error
from redis_scheduler.task.repeat import rule_fault
from redis_scheduler.task.timing import DEFAULT, Timing


class Transition(Enum):
    """What a worker does with a claim in the end; each is a transition of the store, with its script's name. Retry,
    defer, bury and expire are events of the log, too."""

    SETTLE = "settle"
    RELEASE = "release"
    RETRY = "retry"
    DEFER = "defer"
    BURY = "bury"
    EXPIRE = "expire"
    FIRE = "fire"
    EXPECT = "expect"
    AGAIN = "again"
    HOLD = "hold"


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


LOST = "worker lost"
"""How the error begins of a task that is buried since it lost its workers."""

SETTLED = Decision(Transition.SETTLE)
RELEASED = Decision(Transition.RELEASE, counts=False)
FIRED = Decision(Transition.FIRE, counts=False)


def before_attempt(
    policy: Policy, claim: Claim, now_ms: Callable[[], float], timing: Timing = DEFAULT
) -> Decision | None:
    """Decide what follows without an attempt; None: attempt it. The arguments are those of `decide`.

    A record that cannot be read is buried, and so is a task whose last workers all ended during its delivery. What
    comes too late is buried or expires. A task that a newer version wrote is left to a worker that knows it: sent
    without its unknown member it would be another task. A series makes no attempt: its occurrences do.
    """
    if claim.record is UNREADABLE:
        return _buried_unattempted(UNREADABLE_ERROR)
    if claim.record.unknown is not None:
        return Decision(Transition.DEFER, timing.newer_delay_ms, newer_error(claim.record.unknown), counts=False)
    if claim.tries > timing.lost_workers_most:
        return _buried_unattempted(f"{LOST}: {claim.tries - 1} workers ended during the delivery")
    if claim.record.options is not NONE and (repeat := claim.record.options.repeat) is not UNSET:
        if fault := rule_fault(repeat):
            # Another machine may know the zone.
            error = f"its repeat.{fault.member} cannot be read here: {fault.rule}"
            return Decision(Transition.DEFER, timing.newer_delay_ms, error, counts=False)
        return FIRED
    return too_late(policy, claim, now_ms)


def too_late(policy: Policy, claim: Claim, now_ms: Callable[[], float]) -> Decision | None:
    """Decide what follows if it is too late for an attempt; None: it may be made. The arguments are those of `decide`.

    A task that expires is forgotten. One whose retries end is buried with its last failure; its first attempt is made,
    however late.
    """
    # A policy of its own takes time to make, and matters only for a retry.
    if not claim.attempts and claim.record.options.expire is UNSET:
        return None
    end = _end_by_time(policy.of(claim.record.options), claim, claim.attempts > 0, now_ms)
    return None if end is None else _TOO_LATE[end]


_TOO_LATE = {
    Transition.BURY: Decision(Transition.BURY, 0, "no retry may be made so late (retry_for)", counts=False),
    Transition.EXPIRE: Decision(Transition.EXPIRE, 0, "no attempt may be made so late (expire)", counts=False),
}


def _end_by_time(
    policy: Policy, claim: Claim, has_failed: bool, now_ms: Callable[[], float], delay_ms: int = 0
) -> Transition | None:
    """Return how a task ends whose next attempt, after the delay, would come too late; None: it would not."""
    for_ms = policy.for_ms if has_failed else None
    expire_s = claim.record.options.expire
    if for_ms is None and expire_s is UNSET:
        return None
    late_ms = now_ms() + delay_ms - claim.record.due
    if for_ms is not None and late_ms > for_ms:
        return Transition.BURY
    return Transition.EXPIRE if expire_s is not UNSET and late_ms > expire_s * 1000 else None


def _buried_unattempted(error: str) -> Decision:
    return Decision(Transition.BURY, 0, error, encode_failure(LastFailure(error, 0)), counts=False)


def _after_success(claim: Claim, outcome: Outcome) -> Decision:
    if outcome.status == ACCEPTED and claim.record.options.ack and not claim.mark:
        return Decision(Transition.EXPECT, within_ms(claim.record.options), counts=False)
    if claim.record.again >= claim.record.options.again_most or (delay_ms := again_ms(outcome.headers)) is None:
        return SETTLED
    return Decision(Transition.AGAIN, delay_ms, counts=False)


def asked_in_vain(claim: Claim, outcome: Outcome) -> str:
    """Return what a success asked for that may be had again, where it is no time (answer.py); else nothing."""
    asked = outcome.headers.get(AGAIN_HEADER, "")
    is_allowed = claim.record.again < claim.record.options.again_most
    return asked if asked and is_allowed and again_ms(outcome.headers) is None else ""


def decide(
    policy: Policy,
    claim: Claim,
    outcome: Outcome,
    now_ms: Callable[[], float],
    timing: Timing = DEFAULT,
    chance: Callable[[], float] = random.random,
) -> Decision:
    """Decide what follows from an attempt of a claim. `policy` is the service's, which the task's options change.

    A success settles the task, unless the receiver has taken it on and is to acknowledge it, or asks for it again. A
    fault of this machine counts as no attempt: the task is released. The last failed attempt buries the task, and so
    does one that is final, or whose answer is. One whose retry would come too late buries it, or the task expires. Any
    other is retried after the policy's delay, or the one that the answer asks for: parked if the delay fits the window,
    else deferred to `due`. `now_ms` is Redis' clock, and is asked only if it matters.
    """
    error = outcome.error
    if error is None:
        return SETTLED if claim.record.options is NONE else _after_success(claim, outcome)
    if outcome.is_local:
        return RELEASED
    last_failure = encode_failure(LastFailure(error, outcome.elapsed_ms, outcome.status))
    policy = policy.of(claim.record.options)
    status, headers = outcome.status, outcome.headers
    is_last = 0 <= policy.retries <= claim.attempts or outcome.is_final
    if is_last or status in policy.final or asks_for_no_retry(headers):
        return Decision(Transition.BURY, 0, error, last_failure)
    delay_ms = policy.delay_after(claim.attempts, wait_ms(status, headers, now_ms), chance)
    if (end := _end_by_time(policy, claim, True, now_ms, delay_ms)) is not None:
        return Decision(end, 0, error, last_failure)
    transition = Transition.RETRY if delay_ms <= timing.window_ms else Transition.DEFER
    return Decision(transition, delay_ms, error, last_failure)
