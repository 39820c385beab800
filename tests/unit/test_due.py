"""`at`: each form that RFC 3339 allows, to the millisecond; and nothing else."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_scheduler.task.due import at_ms, delay_until, due_after, is_time
from redis_scheduler.task.timing import LAST_MS

NINE_MS = 1_801_386_000_000
"""2027-01-31T09:00:00Z."""


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2027-01-31T09:00:00Z", NINE_MS),
        ("2027-01-31t09:00:00z", NINE_MS),
        ("2027-01-31T10:00:00+01:00", NINE_MS),
        ("2027-01-31T03:30:00-05:30", NINE_MS),
        ("2027-02-01T08:59:00+23:59", NINE_MS),
        ("2027-01-31T09:00:00+00:00", NINE_MS),
        ("2027-01-31T09:00:00-00:00", NINE_MS),
        ("2027-01-31T09:00:00.5Z", NINE_MS + 500),
        ("2027-01-31T09:00:00.05Z", NINE_MS + 50),
        ("2027-01-31T09:00:00.123000Z", NINE_MS + 123),
        ("2027-01-31T09:00:00.1230001Z", NINE_MS + 124),
        ("2027-01-31T09:00:00.9999Z", NINE_MS + 1_000),
        ("2027-01-31T09:00:00." + "0" * 70 + "1Z", NINE_MS + 1),
        # 2016 ended with a leap second, also in zones where it was another hour.
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2016-12-31T23:59:60.5Z", 1_483_228_800_500),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000),
        ("2016-12-31T18:29:60-05:30", 1_483_228_800_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.5Z", -500),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", LAST_MS),
        ("9999-12-31T23:59:59.999+14:00", LAST_MS - 14 * 3_600_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("0000-02-29T00:00:00Z", None),
    ],
)
def test_a_time_is_read_to_the_millisecond(text: str, milliseconds: int | None) -> None:
    assert at_ms(text) == milliseconds or (milliseconds is None and at_ms(text) < 0)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60+01:00",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:58:60Z",
        "2100-02-29T00:00:00Z",
        "2027-04-31T00:00:00Z",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59.9991Z",
        "2027-01-31T09:00:00,5Z",
        "2027-01-31T09:00:00Z ",
        "2027-1-31T09:00:00Z",
        "2027-01-31T09:00:00 +01:00",
        "2027-01-31T09:00:00+01:60",
        "2027-01-31T09:00:00." + "0" * 100 + "Z",
    ],
)
def test_another_text_is_no_time(text: str) -> None:
    assert not is_time(text)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_a_time_is_what_the_standard_library_takes_it_for(moment: datetime) -> None:
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (moment.resolution)
    assert at_ms(moment.isoformat()) == -(-micros // 1000)


def test_a_time_that_is_past_is_due_now_and_a_delay_begins_now() -> None:
    assert due_after(NINE_MS, 0) == NINE_MS
    assert due_after(NINE_MS, 250) == NINE_MS + 250
    assert due_after(NINE_MS, delay_until(NINE_MS + 250)) == NINE_MS + 250
    for past_ms in (NINE_MS - 1, 1, 0, -500):
        assert due_after(NINE_MS, delay_until(past_ms)) == NINE_MS
