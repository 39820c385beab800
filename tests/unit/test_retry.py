"""What follows for a claim, as tables: before an attempt, and from what an attempt came to."""

import pytest

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import UNREADABLE, Record
from redis_scheduler.task.retry import RELEASED, SETTLED, Decision, Policy, Transition, before_attempt, decide
from redis_scheduler.task.timing import DEFAULT

WINDOW_MS = DEFAULT.window_ms
KNOWN = Record(0, "http://a/", 0)
NEWER = Record(0, "", 0, unknown="headers")
NEWER_ERROR = "written by a newer version: its member headers is not known here"


@pytest.mark.parametrize(
    ("retries", "delay_ms", "attempts", "transition"),
    [
        (0, 1000, 0, Transition.BURY),
        (1, 1000, 0, Transition.RETRY),
        (1, 1000, 1, Transition.BURY),
        (5, 1000, 4, Transition.RETRY),
        (5, 1000, 5, Transition.BURY),
        (5, 1000, 6, Transition.BURY),
        (-1, 1000, 1_000_000, Transition.RETRY),
        (-1, 0, 3, Transition.RETRY),
        (5, WINDOW_MS, 0, Transition.RETRY),
        (5, WINDOW_MS + 1, 0, Transition.DEFER),
        (5, WINDOW_MS + 1, 5, Transition.BURY),
        (-1, 86_400_000, 9, Transition.DEFER),
    ],
)
@pytest.mark.parametrize(
    ("outcome", "error", "last_failure"),
    [
        (Outcome("answered 500", 500, 12), "answered 500", b'{"error":"answered 500","elapsed_ms":12,"status":500}'),
        (Outcome("no answer", None, 3), "no answer", b'{"error":"no answer","elapsed_ms":3}'),
    ],
)
def test_what_follows_a_failed_attempt(
    retries: int,
    delay_ms: int,
    attempts: int,
    transition: Transition,
    outcome: Outcome,
    error: str,
    last_failure: bytes,
) -> None:
    decision = decide(Policy(retries, delay_ms), Claim("1-0", "key", KNOWN, attempts), outcome)
    again_in_ms = 0 if transition is Transition.BURY else delay_ms
    assert decision == Decision(transition, again_in_ms, error, last_failure, counts=True)


@pytest.mark.parametrize("attempts", [0, 5, 6])
@pytest.mark.parametrize("delay_ms", [1_000, WINDOW_MS + 1])
@pytest.mark.parametrize("retries", [-1, 0, 5])
@pytest.mark.parametrize(
    ("outcome", "decision"),
    [
        (Outcome(None, 200, 1), SETTLED),
        (Outcome("OSError: [Errno 24] Too many open files", None, 1, is_local=True), RELEASED),
    ],
)
def test_a_success_settles_and_a_fault_of_this_machine_counts_as_no_attempt(
    outcome: Outcome, decision: Decision, retries: int, delay_ms: int, attempts: int
) -> None:
    assert decide(Policy(retries, delay_ms), Claim("1-0", "key", KNOWN, attempts), outcome) is decision


def lost(workers: int) -> Decision:
    error = f"worker lost: {workers} workers ended during the delivery"
    return Decision(Transition.BURY, 0, error, b'{"error":"%s","elapsed_ms":0}' % error.encode(), counts=False)


BURIED_UNREAD = Decision(
    Transition.BURY, 0, "unreadable record", b'{"error":"unreadable record","elapsed_ms":0}', counts=False
)
LEFT_TO_NEWER = Decision(Transition.DEFER, DEFAULT.newer_delay_ms, NEWER_ERROR, b"", counts=False)


@pytest.mark.parametrize("attempts", [0, 7])
@pytest.mark.parametrize(
    ("record", "tries", "decision"),
    [
        (KNOWN, 1, None),
        (KNOWN, 5, None),
        (KNOWN, 6, lost(5)),
        (KNOWN, 9, lost(8)),
        (UNREADABLE, 1, BURIED_UNREAD),
        (UNREADABLE, 6, BURIED_UNREAD),
        # It has killed no worker that knows it.
        (NEWER, 1, LEFT_TO_NEWER),
        (NEWER, 6, LEFT_TO_NEWER),
    ],
)
def test_what_is_decided_before_an_attempt(
    record: Record, tries: int, decision: Decision | None, attempts: int
) -> None:
    assert before_attempt(Claim("1-0", "key", record, attempts, tries)) == decision


@pytest.mark.parametrize(
    ("retries", "attempts", "left"), [(5, 0, 5), (5, 4, 1), (5, 5, 0), (5, 6, 0), (0, 0, 0), (-1, 1_000, None)]
)
def test_how_many_attempts_are_left(retries: int, attempts: int, left: int | None) -> None:
    assert Policy(retries, 1_000).attempts_left(attempts) == left
