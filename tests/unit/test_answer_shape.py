"""Answers that say something of each task: what they mean, and that no other answer is taken for one."""

from typing import Any

import pytest

from redis_scheduler.store.answer_shape import booleans, each_of
from redis_scheduler.store.claims import RetryAnswer
from redis_scheduler.store.written import CancelAnswer


def test_each_letter_or_number_is_the_member_that_it_is_the_value_of() -> None:
    assert each_of(CancelAnswer, b"CDNC", 4) == [
        CancelAnswer.CANCELLED,
        CancelAnswer.IN_DELIVERY,
        CancelAnswer.NOT_FOUND,
        CancelAnswer.CANCELLED,
    ]
    assert each_of(RetryAnswer, [0, 2, 1], 3) == [RetryAnswer.FENCED, RetryAnswer.TOO_MANY, RetryAnswer.PARKED]
    assert booleans(2)([1, 0]) == [True, False]


@pytest.mark.parametrize("answer", [b"C", b"CCC", b"CQ", b"C\xff", [67, 67], ["C", "C"], b"", None, 67])
def test_what_is_no_letter_for_each_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="Expected an answer for each of 2"):
        each_of(CancelAnswer, answer, 2)


@pytest.mark.parametrize("answer", [[1], [1, 1, 1], [1, 3], [1, b"1"], [1, None], [1, [1]], b"\x01\x01", [], None, 1])
def test_what_is_no_number_for_each_is_refused(answer: Any) -> None:
    for read in (booleans(2), lambda found: each_of(RetryAnswer, found, 2)):
        with pytest.raises(ValueError, match="Expected an answer for each of 2"):
            read(answer)
