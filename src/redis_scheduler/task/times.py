"""The times of a task that repeats, as they follow from its rule. Pure; Redis' clock is the only clock.

Times are milliseconds since 1970, as everywhere. Each follows from the intended time of the one before, never from when
that one was made: so nothing drifts.

A cron expression means the clock on the wall of its zone. A time that this clock leaves out comes at the first instant
after the gap, and one that it shows twice comes once, at the first. An expression of every hour (`*` in its second
field) names minutes, not times of day: it goes on evenly through both.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim
from msgspec import UNSET

from redis_scheduler.task.due import last_ms
from redis_scheduler.task.gap import times_in
from redis_scheduler.task.repeat import Fault, Repeat, has_every_hour, parsed, rule_fault
from redis_scheduler.task.timing import LAST_MS

MISSED_MOST = 100
"""So many occurrences are made at once after a gap, with `missed` all."""

LATE_MS = 60_000
"""With `missed` skip an occurrence that is later than this is left out."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MINUTE_MS = 60_000


def fault_of(repeat: Repeat, start_ms: int) -> Fault | None:
    """Return what is wrong with a rule that begins at a time; None if it can be used."""
    if repeat.times == 1 and repeat.overlap == "skip":  # not in rule_fault: a stored series with both goes on
        return Fault("overlap", "has no effect with times 1", repeat.overlap, True)
    if (fault := rule_fault(repeat)) is not None or next_ms(repeat, start_ms) is not None:
        return fault
    if repeat.until is UNSET:
        return Fault("cron", "never comes within 50 years", repeat.cron)
    return Fault("until", "must not end before the first time", repeat.until)


@lru_cache(4_096)
def next_ms(repeat: Repeat, after_ms: int) -> int | None:
    """Return the first time after a time, which `every` counts from; None if there is none. It is kept, in some
    500 bytes: many series of one rule come due at once, and a request asks more than once."""
    return next(times_after(repeat, after_ms), None)


def times_after(repeat: Repeat, after_ms: int) -> Iterator[int]:
    """Yield the times after a time, which `every` counts from. Each takes 20 to 70 µs, and 1 ms where cron is rare."""
    until_ms = _until_ms(repeat)
    for at_ms in _every(repeat.every, after_ms) if repeat.every is not UNSET else _cron(repeat, after_ms):
        if at_ms > until_ms:
            return
        yield at_ms


def _until_ms(repeat: Repeat) -> int:
    return LAST_MS if repeat.until is UNSET else last_ms(repeat.until)


def _every(every: float, after_ms: int) -> Iterator[int]:
    while True:
        after_ms += round(every * 1000)
        yield after_ms


def _cron(repeat: Repeat, after_ms: int) -> Iterator[int]:
    # Behind the year 9999 there is no time.
    with suppress(OverflowError):
        # The library goes fast through the UTC of datetime alone.
        zone = UTC if repeat.tz in (UNSET, "UTC") else ZoneInfo(repeat.tz)
        after = _EPOCH + after_ms * _MILLISECOND
        wall = after.astimezone(zone).replace(microsecond=0)
        matches = parsed(repeat.cron or "")
        if has_every_hour(matches):
            instants = (at.astimezone(UTC) for at in _evenly(matches, wall))
        else:
            matches.dt = wall.replace(tzinfo=None)
            instants = (_instant(at, zone) for at in matches)
        for instant in instants:
            # Where the wall's clock shows a time for the second time, it came at the first.
            if instant > after:
                after = instant
                yield (instant - _EPOCH) // _MILLISECOND


def _evenly(matches: CronSim, wall: datetime) -> Iterator[datetime]:
    """Yield what an expression of every hour matches. With one minute an hour the library adds whole hours, though a
    clock may be set by half an hour, as on Lord Howe Island: so where a clock was set we have it add minutes."""
    matches.dt = wall
    by_minute = copy(matches)
    by_minute.minutes = matches.minutes | {60}  # no clock shows 60, and of several minutes it looks at each
    for at in matches:
        if at.utcoffset() != wall.utcoffset():
            by_minute.dt = wall
            matches.dt = at = next(by_minute)
        wall = at
        yield at


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return when a zone's clock first shows this, or has left it out."""
    shown = wall.replace(tzinfo=zone)
    instant = shown.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    behind = shown.replace(fold=1)  # by the offset that holds behind the gap
    seconds = range(int(behind.timestamp()), int(instant.timestamp()))
    place = bisect_left(
        seconds, True, key=lambda second: datetime.fromtimestamp(second, zone).replace(tzinfo=None) >= wall
    )
    return _EPOCH + timedelta(seconds=seconds[0] + place)


class Due(NamedTuple):
    """What a series does when it comes due: the occurrences that it makes, those that it leaves out, its next time.

    `next_ms` is None when the series ends.
    """

    made: list[int]
    skipped: int
    next_ms: int | None


def due_now(repeat: Repeat, intended_ms: int, now_ms: int) -> Due:
    """Return what a series does that was due at `intended_ms`. Several times may have passed since. One that was moved
    behind its `until` ends."""
    if intended_ms > _until_ms(repeat):
        return Due([], 0, None)
    following_ms = next_ms(repeat, intended_ms)
    if following_ms is None or following_ms > now_ms:
        passed, count = [intended_ms], 1
    else:
        passed, count = _passed(repeat, intended_ms, now_ms)
        following_ms = next_ms(repeat, passed[-1])
    match repeat.missed:
        case "all":
            made = passed
        case "skip" if now_ms - passed[-1] > LATE_MS:
            made = []
        case _:
            made = passed[-1:]
    return Due(made, count - len(made), following_ms)


def _passed(repeat: Repeat, intended_ms: int, now_ms: int) -> tuple[list[int], int]:
    """Return the last times that have come, the intended one at least, and how many have."""
    end_ms = min(now_ms, _until_ms(repeat))
    if repeat.every is not UNSET:
        step_ms = round(repeat.every * 1000)
        count = max(0, end_ms - intended_ms) // step_ms + 1
        return [intended_ms + step_ms * number for number in range(max(0, count - MISSED_MOST), count)], count
    most = MISSED_MOST if repeat.missed == "all" else 1
    zone = "UTC" if repeat.tz is UNSET else repeat.tz
    # All series that come in one minute have one answer.
    count, last = times_in(repeat.cron or "", zone, intended_ms, end_ms - end_ms % _MINUTE_MS, most)
    return [intended_ms, *last][-most:], count + 1
