"""What is kept of failed attempts: the last few, within so many bytes, and readable for a version that keeps one."""

import base64
import json

import pytest

from redis_scheduler.task.attempts import ATTEMPTS_KEPT, KEPT_BYTES, Attempt, failure_of, read_failed
from redis_scheduler.task.failure import LastFailure, encode_failure, status_of


def failed(number: int) -> Attempt:
    return Attempt(f"answered {number}", number, 500 + number, due=number, began=number, again=number, worker="w")


def test_the_last_few_are_kept_in_their_order() -> None:
    kept = b""
    for number in range(1, ATTEMPTS_KEPT + 3):
        kept = failure_of(failed(number), read_failed(kept))
    assert read_failed(kept) == [failed(number) for number in range(3, ATTEMPTS_KEPT + 3)]


def test_a_failure_of_an_older_version_is_one_attempt() -> None:
    old = encode_failure(LastFailure("answered 500", 3, 500))
    assert read_failed(old) == [Attempt("answered 500", 3, 500)]
    kept = failure_of(failed(1), read_failed(old))
    assert read_failed(kept) == [Attempt("answered 500", 3, 500), failed(1)]


def test_an_older_version_reads_the_last_one() -> None:
    kept = failure_of(failed(2), [failed(1)])
    members = json.loads(kept)
    assert (members["error"], members["elapsed_ms"], members["status"]) == ("answered 2", 2, 502)
    assert status_of(kept) == 502


@pytest.mark.parametrize("answer", [b"", b"not now", "später".encode(), b"\xff\x00", "später".encode()[:3]])
def test_an_answer_is_kept_as_text_or_else_as_base64(answer: bytes) -> None:
    [attempt] = read_failed(failure_of(failed(1), [], answer))
    assert (attempt.answer.encode() or base64.b64decode(attempt.answer_base64)) == answer
    assert not (attempt.answer and attempt.answer_base64)


def test_long_answers_leave_fewer_attempts() -> None:
    kept = b""
    for number in range(1, ATTEMPTS_KEPT + 1):
        kept = failure_of(failed(number), read_failed(kept), b"\x01" * 1_024)
    assert len(kept) <= KEPT_BYTES
    assert [attempt.elapsed_ms for attempt in read_failed(kept)] == [ATTEMPTS_KEPT]
    assert read_failed(kept)[0].answer == "\x01" * 1_024


@pytest.mark.parametrize("kept", [None, b"", b"{", b"[]", b'{"error":1}', b"\xff", b"[" * 100_000])
def test_what_other_hands_wrote_is_no_attempt(kept: bytes | None) -> None:
    assert read_failed(kept) == []
