"""When a task repeats by the clocks of zones: the times beside those of another library, and where clocks are set."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise, takewhile
from operator import ge
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim

from redis_scheduler.task.gap import times_in
from redis_scheduler.task.repeat import Repeat
from redis_scheduler.task.times import next_ms, times_after
from tests.support.zones import BERLIN, DAY_MS, LORD_HOWE, MINUTE_MS, NEW_YORK, NOW_MS, SYDNEY, ms_of, utc


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
