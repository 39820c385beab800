"""What is kept of failed attempts: the last few, within so many bytes, and readable for a version that keeps one."""

import base64
import json

import msgspec
import pytest

from redis_scheduler.task.attempts import ATTEMPTS_KEPT, KEPT_BYTES, REST_BYTES, Attempt, failure_of, read_failed
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


@pytest.mark.parametrize("answer_bytes", [1_024, 16_384])
def test_long_answers_leave_fewer_of_them_but_all_attempts(answer_bytes: int) -> None:
    kept, most = b"", max(KEPT_BYTES, 2 * answer_bytes + REST_BYTES)
    for number in range(1, ATTEMPTS_KEPT + 1):
        kept = failure_of(failed(number), read_failed(kept), b"\xff" * answer_bytes, answer_bytes)
        assert len(kept) <= most
    attempts = read_failed(kept)
    assert [attempt.elapsed_ms for attempt in attempts] == list(range(1, ATTEMPTS_KEPT + 1))
    has_answer = [bool(attempt.answer_base64) for attempt in attempts]
    assert has_answer == sorted(has_answer), "the oldest have lost theirs"
    assert has_answer.count(True) in (1, 2, 3, 4, 5)
    assert base64.b64decode(attempts[-1].answer_base64) == b"\xff" * answer_bytes


def test_the_last_answer_stays_whatever_it_is_and_however_many_were_before() -> None:
    for answer in (b"\x01" * 16_384, b'"' * 16_384, "ä".encode() * 8_192):
        kept = failure_of(failed(2), [failed(1)], answer, 16_384)
        assert len(kept) <= 2 * 16_384 + REST_BYTES
        *_, last = read_failed(kept)
        assert (last.answer.encode() or base64.b64decode(last.answer_base64)) == answer
        # A failure without an answer does not take it away.
        assert read_failed(failure_of(failed(3), read_failed(kept), b"", 16_384))[-2] == last


def test_an_answer_that_is_cut_within_a_character_is_text() -> None:
    [attempt] = read_failed(failure_of(failed(1), [], "später".encode(), 3))
    assert attempt.answer == "sp"


def test_failures_that_other_hands_made_long_are_dropped() -> None:
    kept = failure_of(failed(2), [msgspec.structs.replace(failed(1), error="x" * 100_000)])
    assert read_failed(kept) == [failed(2)]


@pytest.mark.parametrize("kept", [None, b"", b"{", b"[]", b'{"error":1}', b"\xff", b"[" * 100_000])
def test_what_other_hands_wrote_is_no_attempt(kept: bytes | None) -> None:
    assert read_failed(kept) == []
