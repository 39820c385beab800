"""The pace of many: due times by a rate, over several requests."""

import pytest

from redis_scheduler.api.pace import Pace, rate_of
from redis_scheduler.errors import InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.record import Record


def task(state: str, due_ms: int = 0, expires_ms: int | None = None, attempts: int = 0) -> Stored:
    return Stored("key", b"", Record(due_ms, "", 0), attempts, None, state, expires_ms)


LATE = task("scheduled", 10_000, 10_000)


def test_a_rate_spreads_due_times_and_the_next_step_goes_on_behind_them() -> None:
    pace = Pace(4, 1_000)
    assert pace.begin(None) is None
    assert [pace.next_ms(LATE) for _ in range(3)] == [1_000, 1_250, 1_500]
    onward = pace.onward("abc")
    assert onward == "abc.1750"
    assert pace.onward(None) is None
    pace = Pace(0.5, 1_100)
    assert pace.begin(onward) == "abc"
    assert [pace.next_ms(LATE) for _ in range(2)] == [1_750, 3_750]
    pace = Pace(4, 5_000)
    pace.begin(onward)
    assert pace.next_ms(LATE) == 5_000


@pytest.mark.parametrize("foreign", ["abc.", "abc.x", "abc.\uff11", "abc." + "1" * 16])
def test_a_cursor_that_other_hands_wrote_goes_on_now(foreign: str) -> None:
    pace = Pace(4, 1_000)
    assert pace.begin(foreign) == "abc"
    assert pace.next_ms(LATE) == 1_000


def test_without_a_rate_all_are_due_now() -> None:
    pace = Pace(None, 1_000)
    assert pace.begin("abc") == "abc"
    assert [pace.next_ms(LATE) for _ in range(3)] == [1_000] * 3
    assert (pace.onward("abc"), pace.onward(None)) == ("abc", None)


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
    pace = Pace(4, 1_000)
    assert pace.next_ms(one) == 1_000
    assert pace.next_ms(LATE) == (1_250 if takes else 1_000)


def test_what_is_paused_and_comes_before_its_turn_takes_none() -> None:
    pace = Pace(4, 1_000)
    assert [pace.next_ms(one) for one in (LATE, task("paused", 1_100), task("paused", 1_300))] == [1_000, 1_250, 1_250]
    assert pace.next_ms(LATE) == 1_500


@pytest.mark.parametrize(
    "rate",
    ["0", "0.0", "0.001", "-1", "1e3", "nan", "inf", "100001", "1.2.3", ".", "x", "１", " 1", "1" * 30],
)
def test_a_wrong_rate_is_refused(rate: str) -> None:
    with pytest.raises(
        InvalidField, match=r"rate: must be a number from 0\.01 to 100,000 tasks a second, in digits, got"
    ):
        rate_of({"rate": rate})
