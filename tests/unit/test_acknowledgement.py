"""Acknowledgements: the token of an attempt, the mark that is kept, and what follows."""

from typing import Any

import pytest

from redis_scheduler.task.acknowledgement import acknowledgement_token, concluded, entry_of_mark
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.failure import is_told_to_run, read_attempts, read_mark
from redis_scheduler.task.options import Options
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.record import Record
from redis_scheduler.task.retry import SETTLED, Transition, decide

POLICY = Policy(1, 60_000)


def claim(mark: str = "", **options: Any) -> Claim:
    record = Record(0, "http://localhost/", 0, options=Options(**options))
    return Claim("1-1", "key", record, 0, mark=mark)


def test_each_attempt_has_a_token_of_its_own() -> None:
    attempts = [("secret", "key", "1-1", 0), ("secret", "key", "1-1", 1), ("secret", "key", "1-2", 0)]
    attempts += [("secret", "other", "1-1", 0), ("another", "key", "1-1", 0), ("secret", "key 1-1", "1", 0)]
    tokens = [acknowledgement_token(*attempt) for attempt in attempts]
    assert len(set(tokens)) == len(attempts)
    assert {len(token) for token in tokens} == {24}
    assert acknowledgement_token("ü€", "key", "1-1", 0) != acknowledgement_token("u", "key", "1-1", 0)


@pytest.mark.parametrize(
    ("kept", "attempts", "mark", "told"),
    [
        (None, 0, "", False),
        (b"2 {}", 2, "", False),
        (b"0@1700000000000-0", 0, "@1700000000000-0", False),
        (b"2@1-1 {}", 2, "@1-1", False),
        (b"2@1-1+ {}", 2, "@1-1+", False),
        (b"2@1-1- {}", 2, "@1-1-", False),
        (b"0!", 0, "", True),
        (b"2! {}", 2, "", True),
        (b"2!1 {}", 2, "", False),
        (b'2 {"error":"@1-1+"}', 2, "", False),
        (b"x@1-1 {}", 0, "", False),
        (b"2@\xff {}", 2, "", False),
        (b"2@1-1+x {}", 2, "", False),
    ],
)
def test_the_mark_stands_behind_the_attempts(kept: bytes | None, attempts: int, mark: str, told: bool) -> None:
    assert (read_attempts(kept)[0], read_mark(kept), is_told_to_run(kept)) == (attempts, mark, told)


@pytest.mark.parametrize(("mark", "entry"), [("", None), ("@1-1", "1-1"), ("@1-1+", "1-1"), ("@1-1-", "1-1")])
def test_a_mark_names_the_entry_of_its_attempt(mark: str, entry: str | None) -> None:
    assert entry_of_mark(mark) == entry


@pytest.mark.parametrize(
    ("mark", "transition", "error"),
    [
        ("@1-1+", Transition.SETTLE, ""),
        ("@1-1-", Transition.RETRY, "the receiver said that it has failed"),
        ("@1-1", Transition.RETRY, "not acknowledged within 2.5 s"),
    ],
)
def test_a_mark_decides_as_an_answer_does(mark: str, transition: Transition, error: str) -> None:
    found = claim(mark, ack=True, ack_within=2.5)
    outcome = concluded(found, 0)
    assert outcome is not None
    decision = decide(POLICY, found, outcome, lambda: 0)
    assert (decision.transition, decision.error) == (transition, error)


def test_without_a_mark_the_task_is_attempted() -> None:
    assert concluded(claim(ack=True), 0) is None


@pytest.mark.parametrize(
    ("status", "options", "within_ms"),
    [
        (202, {"ack": True}, 300_000),
        (202, {"ack": True, "ack_within": 0.5}, 500),
        (202, {}, None),
        (200, {"ack": True}, None),
        (204, {"ack": True}, None),
    ],
)
def test_only_a_202_takes_a_task_on_that_may_be(status: int, options: dict[str, Any], within_ms: int | None) -> None:
    decision = decide(POLICY, claim(**options), Outcome(None, status, 3), lambda: 0)
    if within_ms is None:
        assert decision is SETTLED
    else:
        assert (decision.transition, decision.delay_ms) == (Transition.EXPECT, within_ms)


@pytest.mark.parametrize("sign", ["", "+", "-"])
@pytest.mark.parametrize(
    ("failure", "now_ms", "elapsed_ms"),
    [
        (None, 1_500.4, 500),
        (None, 900, 0),
        (b'{"error":"e","elapsed_ms":1,"again":1200}', 1_500, 300),
        (b'{"error":"e","elapsed_ms":1,"again":700}', 1_500, 500),
    ],
)
def test_an_attempt_that_was_taken_on_lasts_from_its_queueing_or_retry_until_its_end(
    failure: bytes | None, now_ms: float, elapsed_ms: int, sign: str
) -> None:
    found = claim(f"@1000-3{sign}", ack=True)
    found.failure = failure
    outcome = concluded(found, now_ms)
    assert outcome is not None
    assert (outcome.status, outcome.elapsed_ms) == (202, elapsed_ms)
