"""When a task repeats: the times beside another library's, on the days when clocks are changed, and after a gap."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise, takewhile
from operator import ge
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_scheduler.task.gap import times_in
from redis_scheduler.task.repeat import CRON_LENGTH, Repeat
from redis_scheduler.task.times import due_now, fault_of, next_ms, times_after

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = 1_795_737_600_000  # 2026-11-27T00:00:00Z, a Friday

BERLIN, NEW_YORK, SYDNEY, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe"


def ms_of(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def wall(minute: int, zone: ZoneInfo) -> datetime:
    """What a zone's clock shows at a minute since 1970."""
    return datetime.fromtimestamp(minute * 60, zone).replace(tzinfo=None)


def first_shown(wanted: datetime, zone: ZoneInfo) -> int:
    """The first minute at which the clock shows this or has left it out, looked for minute by minute."""
    about = int(wanted.replace(tzinfo=zone).timestamp()) // 60
    if all(wall(about + hours * 60, zone) == wanted + timedelta(hours=hours) for hours in (-26, -3, 0, 3, 26)):
        return about
    return next(minute for minute in range(about - 180, about + 180) if wall(minute, zone) >= wanted)


def expected(cron: str, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[int]:
    """The minutes of a cron expression by croniter, which walks the clock on the wall, and by `first_shown`."""
    shown = croniter(cron, start.astimezone(zone).replace(tzinfo=None))
    before = int(start.timestamp()) // 60
    while (minute := first_shown(shown.get_next(datetime), zone)) * 60 < end.timestamp():
        if minute > before:
            yield minute
            before = minute


TEN_YEARS = datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC)
CRONS = [
    "30 2 * * *",
    "0 9 * * 1-5",
    "*/20 1-3 * * SUN",
    "15 14 1,15 * *",
    "0 0 29 2 *",
    "59 23 31 DEC *",
    "5 4 * JAN-MAR MON,FRI",
    "0 0 13 * FRI",
    "10 */8 1-7 */2 *",
]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, SYDNEY, LORD_HOWE, "America/Havana", "Africa/Casablanca"])
@pytest.mark.parametrize("cron", CRONS)
def test_ten_years_of_an_expression_are_those_of_another_library(cron: str, zone: str) -> None:
    start, end = TEN_YEARS
    found = times_after(Repeat(cron=cron, tz=zone), ms_of(start))
    for number, minute in enumerate(expected(cron, ZoneInfo(zone), start, end)):
        assert next(found) == minute * MINUTE_MS, (number, utc(minute * MINUTE_MS))
    assert next(found) >= ms_of(end)


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, SYDNEY, LORD_HOWE])
@pytest.mark.parametrize(("cron", "minutes"), [("*/15 * * * *", 15), ("*/30 0-23 * * *", 30)])
def test_an_expression_of_every_hour_goes_on_evenly_while_clocks_are_changed(
    zone: str, cron: str, minutes: int
) -> None:
    found = list(islice(times_after(Repeat(cron=cron, tz=zone), NOW_MS), 366 * 1440 // minutes))
    assert {later - earlier for earlier, later in pairwise(found)} == {minutes * MINUTE_MS}


@pytest.mark.parametrize(
    ("zone", "cron", "day", "times"),
    [
        # The clock goes from 2:00 to 3:00, and from 3:00 back to 2:00.
        (BERLIN, "30 2 * * *", "2026-03-29", ["03:00+02:00"]),
        (BERLIN, "0,30 2 * * *", "2026-03-29", ["03:00+02:00"]),
        (BERLIN, "15 1-3 * * *", "2026-03-29", ["01:15+01:00", "03:00+02:00", "03:15+02:00"]),
        (BERLIN, "0 2,3 * * *", "2026-03-29", ["03:00+02:00"]),
        (BERLIN, "30 2 * * *", "2026-10-25", ["02:30+02:00"]),
        (BERLIN, "15,45 1-3 * * *", "2026-10-25", ["01:15+02:00", "01:45+02:00", "02:15+02:00", "02:45+02:00",
                                                  "03:15+01:00", "03:45+01:00"]),
        (BERLIN, "0 9 * * *", "2026-10-25", ["09:00+01:00"]),
        (BERLIN, "40 * 29 3 *", "2026-03-29", ["00:40+01:00", "01:40+01:00", "03:40+02:00", "04:40+02:00"]),
        (BERLIN, "40 * 25 10 *", "2026-10-25", ["00:40+02:00", "01:40+02:00", "02:40+02:00", "02:40+01:00"]),
        # From 2:00 to 3:00, and from 2:00 back to 1:00.
        (NEW_YORK, "30 2 * * *", "2026-03-08", ["03:00-04:00"]),
        (NEW_YORK, "30 1 * * *", "2026-11-01", ["01:30-04:00"]),
        (NEW_YORK, "0 1,2 * * *", "2026-11-01", ["01:00-04:00", "02:00-05:00"]),
        (NEW_YORK, "0 9 * * *", "2026-03-08", ["09:00-04:00"]),
        # From 2:00 to 3:00 in October, and from 3:00 back to 2:00 in April.
        (SYDNEY, "15 2 * * *", "2026-10-04", ["03:00+11:00"]),
        (SYDNEY, "30 2 * * *", "2026-04-05", ["02:30+11:00"]),
        (SYDNEY, "0 9 * * *", "2026-10-04", ["09:00+11:00"]),
        # From 2:00 to 2:30, and from 2:00 back to 1:30.
        (LORD_HOWE, "45 * 5 4 *", "2026-04-05", ["00:45+11:00", "01:45+11:00", "01:45+10:30", "02:45+10:30"]),
        (LORD_HOWE, "45 * 4 10 *", "2026-10-04", ["00:45+10:30", "01:45+10:30", "02:45+11:00", "03:45+11:00"]),
        (LORD_HOWE, "10 2 * * *", "2026-10-04", ["02:30+11:00"]),
        (LORD_HOWE, "40 2 * * *", "2026-10-04", ["02:40+11:00"]),
        (LORD_HOWE, "45 1 * * *", "2026-04-05", ["01:45+11:00"]),
        # The 30th of December 2011 was left out.
        ("Pacific/Apia", "0 9 30 12 *", "2011-12-31", ["00:00+14:00"]),
    ],
)  # fmt: skip
def test_a_time_that_a_clock_leaves_out_comes_behind_the_gap_and_one_shown_twice_comes_once(
    zone: str, cron: str, day: str, times: list[str]
) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = islice(times_after(Repeat(cron=cron, tz=zone), ms_of(start) - 1), len(times) + 1)
    shown = [utc(at_ms).astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for at_ms in found]
    assert shown[:-1] == [f"{day}T{at}" for at in times]
    assert not shown[-1].startswith(f"{day}T") or "*" in cron.split()[1]


# The Sundays on which clocks were or will be changed from 2024 to 2033, as published; month and day.
LAST_OF_MARCH = "31 30 29 28 26 25 31 30 28 27"
LAST_OF_OCTOBER = "27 26 25 31 29 28 27 26 31 30"
SECOND_OF_MARCH = "10 9 8 14 12 11 10 9 14 13"
FIRST_OF_NOVEMBER = "3 2 1 7 5 4 3 2 7 6"
FIRST_OF_OCTOBER = "6 5 4 3 1 7 6 5 3 2"
FIRST_OF_APRIL = "7 6 5 4 2 1 7 6 4 3"


@pytest.mark.parametrize(
    ("zone", "cron", "month", "days", "hour", "minute"),
    [
        # Left out: the first instant after the gap. In UTC, from the day's midnight there.
        (BERLIN, "30 2 * * *", 3, LAST_OF_MARCH, 1, 0),
        (NEW_YORK, "30 2 * * *", 3, SECOND_OF_MARCH, 7, 0),
        (SYDNEY, "15 2 * * *", 10, FIRST_OF_OCTOBER, -8, 0),
        # Shown twice: the first of both.
        (BERLIN, "30 2 * * *", 10, LAST_OF_OCTOBER, 0, 30),
        (NEW_YORK, "30 1 * * *", 11, FIRST_OF_NOVEMBER, 5, 30),
        (SYDNEY, "30 2 * * *", 4, FIRST_OF_APRIL, -9, 30),
        # The hours behind the change.
        (BERLIN, "0 9 * * *", 3, LAST_OF_MARCH, 7, 0),
        (BERLIN, "0 9 * * *", 10, LAST_OF_OCTOBER, 8, 0),
        (NEW_YORK, "0 9 * * *", 3, SECOND_OF_MARCH, 13, 0),
        (NEW_YORK, "0 9 * * *", 11, FIRST_OF_NOVEMBER, 14, 0),
        (SYDNEY, "0 9 * * *", 10, FIRST_OF_OCTOBER, -2, 0),
        (SYDNEY, "0 9 * * *", 4, FIRST_OF_APRIL, -1, 0),
    ],
)
def test_each_change_of_the_clocks_in_ten_years_is_met(
    zone: str, cron: str, month: int, days: str, hour: int, minute: int
) -> None:
    for year, day in enumerate(days.split(), 2024):
        midnight = datetime(year, month, int(day), tzinfo=ZoneInfo(zone))
        [at_ms, next_day] = islice(times_after(Repeat(cron=cron, tz=zone), ms_of(midnight) - 1), 2)
        assert utc(at_ms) == datetime(year, month, int(day), tzinfo=UTC) + timedelta(hours=hour, minutes=minute)
        shown = utc(next_day).astimezone(ZoneInfo(zone))
        assert (shown.date(), f"{shown:%-M %-H}") == (midnight.date() + timedelta(days=1), cron[:-6])


def test_a_series_that_begins_while_the_clock_shows_an_hour_again_comes_the_next_day() -> None:
    again = ms_of(datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo(BERLIN), fold=1))
    first_ms = next_ms(Repeat(cron="30 2 * * *", tz=BERLIN), again)
    assert first_ms == ms_of(datetime(2026, 10, 26, 2, 30, tzinfo=ZoneInfo(BERLIN)))


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
    end = utc(NOW_MS + 3000)
    assert list(times_after(Repeat(every=1, until=end), NOW_MS)) == [NOW_MS + 1000, NOW_MS + 2000, NOW_MS + 3000]
    assert list(times_after(Repeat(cron="* * * * *", until=utc(NOW_MS + 120_000)), NOW_MS)) == [
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


MISSING = [
    *("*/20 * * * *", "7 */2 * * *", "30 2 * * *", "0,30 0-3 * * *", "15 1-3,23 * * 0,6", "0 9 * * 1-5", "0 9 LW * *"),
    *("45 0 L * *", "0 0 1 */3 *", "10 2 * * MON#1", "0 12 13 * FRI", "59 23 28-31 2 *", "0 * 8 3 *", "5 4 * 3,10 5L"),
]


@pytest.mark.parametrize(
    "zone",
    [BERLIN, NEW_YORK, SYDNEY, LORD_HOWE, "UTC", "America/Havana", "Africa/Casablanca", "Asia/Kolkata"],
)
@pytest.mark.parametrize("cron", MISSING)
def test_the_times_of_a_gap_are_those_that_a_walk_finds(cron: str, zone: str) -> None:
    """Whether it begins and ends before the clocks are changed, behind that, or while the hour that comes twice is
    shown."""
    for start, days in [(datetime(2026, 3, 6), 1), (datetime(2026, 3, 28), 2), (datetime(2026, 10, 2), 40)]:
        for hour in (0, 5, 24, 30):
            after_ms = ms_of((start + timedelta(hours=hour)).replace(tzinfo=UTC)) + 123
            end_ms = after_ms + days * DAY_MS
            is_in = partial(ge, end_ms)
            walked = list(takewhile(is_in, times_after(Repeat(cron=cron, tz=zone), after_ms)))
            assert times_in(cron, zone, after_ms, end_ms, 100) == (len(walked), tuple(walked[-100:])), utc(after_ms)


def by_minutes(cron: str, zone: ZoneInfo, minutes: range) -> Iterator[int]:
    """The minutes of an expression: each whose time on the clock it matches, or of which one matches that this minute
    shows or has left out for the first time."""
    matches, shown = CronSim(cron, datetime(2000, 1, 1)), wall(minutes[0] - 1440, zone)

    def is_time(at: datetime) -> bool:
        is_day = at.month in matches.months and matches.match_day(at.date())
        return at.minute in matches.minutes and at.hour in matches.hours and is_day

    for minute in range(minutes[0] - 1439, minutes[-1] + 1):
        now = wall(minute, zone)
        if len(matches.hours) == 24:
            is_found = is_time(now)
        else:
            passed = max(0, (now - shown) // timedelta(minutes=1))
            is_found = any(is_time(now - timedelta(minutes=ago)) for ago in range(passed))
            shown = max(shown, now)
        if is_found and minute in minutes:
            yield minute


CHANGES = [
    *((LORD_HOWE, day) for day in ("2026-04-04", "2026-10-03")),  # by half an hour
    *(("Antarctica/Troll", day) for day in ("2026-03-29", "2026-10-25")),  # by two hours
    *(("America/Santiago", day) for day in ("2026-04-05", "2026-09-06")),  # at midnight
    *(("Asia/Beirut", day) for day in ("2026-03-28", "2026-10-24")),
    *(("Asia/Pyongyang", day) for day in ("2015-08-14", "2018-05-04")),  # by half an hour, once
    ("Asia/Kolkata", "2026-03-29"),
]


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_around_each_odd_change_of_a_clock_times_are_those_that_are_counted_by_the_minute(zone: str, day: str) -> None:
    """By a walk, and by the count of what was missed."""
    start = int(datetime.fromisoformat(day + "T00:00Z").timestamp()) // 60
    for cron in (
        *("45 * * * *", "15,45 * * * *", "0 * * * *", "30 * * * *", "31 * * * *", "*/20 * * * *", "45 * * * 0,6"),
        *("45 * 4,5 4,10 *", "45 1 * * *", "30 0 * * *", "0 0 * * *", "0,30 0-3 * * *", "15 2 * * *", "0 */2 * * *"),
    ):
        found = [minute * MINUTE_MS for minute in by_minutes(cron, ZoneInfo(zone), range(start + 1, start + 2_400))]
        after_ms, end_ms = start * MINUTE_MS, (start + 2_399) * MINUTE_MS
        repeat = Repeat(cron=cron, tz=zone)
        assert list(takewhile(partial(ge, end_ms), times_after(repeat, after_ms))) == found, cron
        assert times_in(cron, zone, after_ms, end_ms, 1_000) == (len(found), tuple(found)), cron


def test_a_day_that_a_zone_left_out_is_counted_as_it_comes() -> None:
    """Behind the 29th of December 2011 came the 31st; all times of the 30th came with its first instant."""
    start_ms = ms_of(datetime(2011, 12, 28, tzinfo=UTC))
    for cron in ("0 9 * * *", "0 9 30 12 *", "*/7 1,22 * * *", "0 0 31 * *"):
        walked = list(islice(times_after(Repeat(cron=cron, tz="Pacific/Apia"), start_ms), 2))
        assert times_in(cron, "Pacific/Apia", start_ms, walked[-1], 9) == (2, tuple(walked))


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
        ({"every": 60, "until": utc(NOW_MS)}, "until: must not end before the first time"),
        ({"every": 60, "until": utc(NOW_MS + 59_999)}, "until: must not end before the first time"),
        ({"every": 60, "until": datetime(1, 1, 1, tzinfo=UTC)}, "until: must not end before the first time"),
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
        {"cron": "*/5 8-18 * * MON-FRI", "tz": "Asia/Kolkata", "until": datetime(9999, 12, 31, tzinfo=UTC)},
        {"cron": "0 0 LW * *", "missed": "all", "times": 3},
        {"every": 60, "until": utc(NOW_MS + 60_000), "overlap": "skip"},
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
