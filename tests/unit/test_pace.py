"""The pace of many: due times by a rate, over several requests."""

import pytest

from redis_scheduler.api.pace import pace_of
from redis_scheduler.errors import InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.record import Record
from redis_scheduler.task.timing import TEN_YEARS_S


def task(state: str, due_ms: int = 0, expires_ms: int | None = None, attempts: int = 0) -> Stored:
    return Stored("key", b"", Record(due_ms, "", 0), attempts, None, state, expires_ms)


LATE = task("scheduled", 10_000, 10_000)


def test_a_rate_spreads_due_times_and_the_next_request_goes_on_behind_them() -> None:
    pace, cursor = pace_of({"rate": "4"}, 1_000)
    assert cursor is None
    assert [pace.next_ms(LATE) for _ in range(3)] == [1_000, 1_250, 1_500]
    onward = pace.onward("abc")
    assert onward == "abc.1750"
    pace, cursor = pace_of({"rate": "0.5", "cursor": onward}, 1_100)
    assert cursor == "abc"
    assert [pace.next_ms(LATE) for _ in range(2)] == [1_750, 3_750]
    assert pace_of({"rate": "4", "cursor": onward}, 5_000)[0].next_ms(LATE) == 5_000


def test_without_a_rate_all_are_due_now() -> None:
    pace, cursor = pace_of({"cursor": "abc"}, 1_000)
    assert [pace.next_ms(LATE) for _ in range(3)] == [1_000] * 3
    assert (cursor, pace.onward("abc"), pace.onward(None)) == ("abc", "abc", None)
    assert pace_of({"rate": "4"}, 1_000)[0].onward(None) is None


@pytest.mark.parametrize(
    ("one", "takes"),
    [
        (LATE, True),
        (task("scheduled", 1_000, 1_000), False),
        (task("waiting", 0, 10_000, 1), True),
        (task("waiting", 0, 900, 1), False),
        (task("queued", 10_000, 10_000), False),
        (task("paused", 10_000), True),
        (task("paused", 1_000), True),
        (task("paused", 1_000, None, 1), True),
        (task("dead", 0, None), True),
    ],
)
def test_only_what_comes_earlier_by_its_turn_takes_one(one: Stored, takes: bool) -> None:
    pace, _ = pace_of({"rate": "4"}, 1_000)
    assert pace.next_ms(one) == 1_000
    assert pace.next_ms(LATE) == (1_250 if takes else 1_000)


def test_what_is_paused_and_comes_before_its_turn_takes_none() -> None:
    pace, _ = pace_of({"rate": "4"}, 1_000)
    assert [pace.next_ms(one) for one in (LATE, task("paused", 1_100), task("paused", 1_300))] == [1_000, 1_250, 1_250]
    assert pace.next_ms(LATE) == 1_500


@pytest.mark.parametrize(
    "rate",
    ["0", "0.0", "0.001", "-1", "1e3", "nan", "inf", "100001", "1.2.3", ".", "x", "１", " 1", "1" * 30],
)
def test_a_wrong_rate_is_refused(rate: str) -> None:
    with pytest.raises(InvalidField, match=r"rate: must be a number from 0\.01 to 100,000 tasks a second, got"):
        pace_of({"rate": rate}, 0)


def test_a_cursor_goes_on_as_its_request_was() -> None:
    with pytest.raises(InvalidField, match="rate: is missing"):
        pace_of({"cursor": "abc.1750"}, 0)
    for cursor in ("abc", "abc.", "abc.x", "abc." + "1" * 16, f"abc.{TEN_YEARS_S * 1000 + 1}"):
        with pytest.raises(InvalidField, match="cursor: must be the `next`"):
            pace_of({"cursor": cursor, "rate": "1"}, 0)
