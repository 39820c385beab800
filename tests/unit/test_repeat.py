"""When a task repeats: which times a rule has, what is made after a gap, and which rules are refused."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_scheduler.logs import rfc3339
from redis_scheduler.task.repeat import CRON_LENGTH, Repeat
from redis_scheduler.task.times import due_now, fault_of, next_ms, times_after
from tests.support.zones import BERLIN, DAY_MS, MINUTE_MS, NOW_MS, ms_of


@pytest.mark.parametrize("every", [1, 1.001, 7.3, 90])
def test_every_does_not_drift_over_a_day(every: float) -> None:
    start_ms, at_ms, number = NOW_MS + 123, NOW_MS + 123, 0
    while at_ms < NOW_MS + DAY_MS:
        # It is always made late, and the next is counted from when it was meant.
        due = due_now(Repeat(every=every), at_ms, at_ms + 700)
        assert due.made == [at_ms]
        number += 1
        assert due.next_ms == start_ms + number * round(every * 1000)
        at_ms = due.next_ms
    assert number >= DAY_MS // (every * 1000)


def test_names_are_those_of_the_usual_expressions() -> None:
    for name, same in [("@hourly", "0 * * * *"), ("@Daily", "0 0 * * *"), ("@weekly", "0 0 * * SUN")]:
        assert next_ms(Repeat(cron=name), NOW_MS) == next_ms(Repeat(cron=same), NOW_MS)


def test_until_is_the_last_time_that_may_come() -> None:
    end = rfc3339(NOW_MS + 3000)
    assert list(times_after(Repeat(every=1, until=end), NOW_MS)) == [NOW_MS + 1000, NOW_MS + 2000, NOW_MS + 3000]
    assert list(times_after(Repeat(cron="* * * * *", until=rfc3339(NOW_MS + 120_000)), NOW_MS)) == [
        NOW_MS + 60_000,
        NOW_MS + 120_000,
    ]
    assert due_now(Repeat(every=1, until=end), NOW_MS, NOW_MS + 10_000) == ([NOW_MS + 3000], 3, None)


EACH_MINUTE = {"every": Repeat(every=60), "cron": Repeat(cron="* * * * *")}


@pytest.fixture(params=EACH_MINUTE)
def each_minute(request: pytest.FixtureRequest) -> Repeat:
    return EACH_MINUTE[request.param]


def with_missed(repeat: Repeat, missed: str) -> Repeat:
    return msgspec.structs.replace(repeat, missed=missed)


@pytest.mark.parametrize("missed", ["latest", "skip", "all"])
def test_an_occurrence_in_time_is_made_whatever_becomes_of_missed_ones(each_minute: Repeat, missed: str) -> None:
    repeat = with_missed(each_minute, missed)
    for late_ms in (0, 5, 59_999):
        assert due_now(repeat, NOW_MS, NOW_MS + late_ms) == ([NOW_MS], 0, NOW_MS + 60_000)
    # A worker can see the series a moment too early only if the clock was set back.
    assert due_now(repeat, NOW_MS, NOW_MS - 5) == ([NOW_MS], 0, NOW_MS + 60_000)


@pytest.mark.parametrize("minutes", [1, 2, 99, 100, 999, 1000, 1001, 100_000])
def test_after_a_gap_the_latest_is_made_or_all_of_the_last_hundred(each_minute: Repeat, minutes: int) -> None:
    now_ms, next_time = NOW_MS + minutes * MINUTE_MS + 59_000, NOW_MS + (minutes + 1) * MINUTE_MS
    last = NOW_MS + minutes * MINUTE_MS
    assert due_now(each_minute, NOW_MS, now_ms) == ([last], minutes, next_time)
    due = due_now(with_missed(each_minute, "all"), NOW_MS, now_ms)
    made = min(100, minutes + 1)
    assert due.made == [last - number * MINUTE_MS for number in range(made)][::-1]
    assert due[1:] == (minutes + 1 - made, next_time)


def test_with_skip_none_is_made_that_is_over_a_minute_late() -> None:
    hourly = Repeat(cron="0 * * * *", missed="skip")
    three_hours = NOW_MS + 3 * 3_600_000
    assert due_now(hourly, NOW_MS, three_hours + 60_000) == ([three_hours], 3, three_hours + 3_600_000)
    assert due_now(hourly, NOW_MS, three_hours + 60_001) == ([], 4, three_hours + 3_600_000)


@pytest.mark.parametrize("zone", ["UTC", BERLIN])
@pytest.mark.parametrize(("cron", "days"), [("* * * * *", 1), ("0 9 * * *", 1_200), ("*/2 1-22 * * 1-6", 3_650)])
def test_what_was_missed_is_counted_and_not_walked_through(
    cron: str, days: int, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what many series of one rule have missed is counted once."""
    asked: Counter[str] = Counter()
    for name in ("__next__", "match_day"):
        monkeypatch.setattr(CronSim, name, counting(asked, name, getattr(CronSim, name)))
    # Days of months of 28 kinds at most: of how many days, and which weekday is the first.
    for series in range(3):
        repeat = Repeat(cron=cron, tz=zone, missed="all", times=series + 1)
        due = due_now(repeat, NOW_MS + 60_000, NOW_MS + days * DAY_MS + series)
        assert len(due.made) == 100
        assert (asked["__next__"] <= 2 * (series + 1), asked["match_day"] < 28 * 31 + 20 * (series + 1)) == (True, True)


def counting(asked: Counter[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*given: Any) -> Any:
        asked[name] += 1
        return call(*given)

    return counted


def fault(**members: Any) -> str:
    found = fault_of(Repeat(**members), NOW_MS)
    return "" if found is None else f"{found.member}: {found.rule}"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "every: must be given, or cron, and not both"),
        ({"every": 60, "cron": "* * * * *"}, "every: must be given, or cron, and not both"),
        *[({"every": every}, "every: must be a number of seconds from 1 to") for every in (0, -1, 0.999, 1.0005, 1e10)],
        ({"every": 60, "tz": "UTC"}, "tz: has no effect without cron"),
        *[({"cron": cron}, "cron: must be five fields") for cron in (
            "", "*", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
            "*/0 * * * *", "5-1 * * * *", "a * * * *", "-1 * * * *", "1.5 * * * *", "@never", "\uff11 * * * *",
            "* * * * *\n", "*\t* * * *", "* * * * L", "9" * 5000 + " * * * *", "* * * * \u00b2L",
            ",".join("0" for _ in range(CRON_LENGTH)) + " * * * *",
        )],
        *[({"cron": cron}, "cron: never comes") for cron in ("0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * */31 2,4 1L")],
        *[({"cron": "@daily", "tz": tz}, "tz: must be the name of a time zone") for tz in (
            "", "Berlin", "europe/berlin", "Europe", "../../etc/passwd", "/etc/localtime", "posix/Europe/Berlin",
            "right/UTC", "UTC\n", "UTC\0", "x" * 5000, "\u00e9", "localtime", "+01:00",
        )],
        ({"every": 60, "until": rfc3339(NOW_MS)}, "until: must not end before the first time"),
        ({"every": 60, "until": rfc3339(NOW_MS + 59_999)}, "until: must not end before the first time"),
        ({"every": 60, "until": "0001-01-01T00:00:00Z"}, "until: must not end before the first time"),
        ({"every": 60, "times": 1, "overlap": "skip"}, "overlap: has no effect with times 1"),
        ({"cron": "@daily", "missed": "all", "overlap": "skip"}, "overlap: must be allow with missed all"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_kept_is_refused(members: dict[str, Any], said: str) -> None:
    began = time.process_time()
    assert fault(**members).startswith(said)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "members",
    [
        {"every": 1},
        {"every": 0.1 * 30},
        {"every": 315_360_000},
        {"cron": "0 0 29 2 *"},
        {"cron": "0 0 * FEB MON#5", "tz": BERLIN},
        {"cron": "*/5 8-18 * * MON-FRI", "tz": "Asia/Kolkata", "until": "9999-12-31T00:00:00Z"},
        {"cron": "0 0 LW * *", "missed": "all", "times": 3},
        {"every": 60, "until": rfc3339(NOW_MS + 60_000), "overlap": "skip"},
    ],
)
def test_a_rule_that_can_be_kept_is_taken(members: dict[str, Any]) -> None:
    assert fault(**members) == ""


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("0123456789*/,-#LW@ abcMONJAN\x00", max_size=60)), st.text())
def test_no_text_is_too_strange(cron: str, tz: str) -> None:
    fault_of(Repeat(cron=cron, tz=tz), NOW_MS)
    if fault_of(Repeat(cron=cron), NOW_MS) is None:
        assert (next_ms(Repeat(cron=cron), NOW_MS) or 0) > NOW_MS


def test_times_end_with_the_year_9999() -> None:
    last_ms = ms_of(datetime(9999, 12, 31, 23, 58, tzinfo=UTC))
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert len(list(islice(times_after(Repeat(cron="* * * * *", tz=zone), last_ms), 3))) <= 1
    assert next_ms(Repeat(every=86_400), last_ms) is None
