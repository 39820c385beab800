"""The times of a cron expression in a gap of the service: how many there are, and the last of them. Pure.

times.py walks from each time to the next, which takes 20 µs a time. Here they are counted: days by the month, and times
by the day, on the clock on the wall; between two changes of a zone's clock this differs from UTC by one offset. What a
change leaves out or shows twice comes as times.py says.
"""

from bisect import bisect_left
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import chain, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim

from redis_scheduler.task.repeat import has_every_hour, parsed

_MINUTE_S, _DAY_S = 60, 86_400
_FOLD_S = 2 * _DAY_S
"""No clock was set back by more at once since 1970: so far back begins the look for what it shows again."""
_STEP_S = 3 * _DAY_S
"""No clock was set twice within six days since 1970."""
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@lru_cache(512)
def times_in(cron: str, zone: str, after_ms: int, end_ms: int, most: int) -> tuple[int, tuple[int, ...]]:
    """Return how many times of an expression come after a time and no later than another, and at most so many of the
    last. It takes up to 2 ms, and is kept, in up to 4 KB: many series of one rule come due at once."""
    after_s, end_s = after_ms // 1000, end_ms // 1000 + 1
    wall = _Wall(parsed(cron), after_s - 2 * _FOLD_S, end_s + _FOLD_S)
    periods = [(after_s + 1, end_s, 0)] if zone == "UTC" else _periods(zone, after_s - _FOLD_S, end_s)
    count, runs, shown_s = 0, list[tuple[int, int, int]](), None
    for start_s, stop_s, offset_s in periods:
        first_s = max(start_s, after_s + 1) + offset_s
        if shown_s is not None and not wall.has_every_hour:
            left_out = wall.place(start_s + offset_s) - wall.place(shown_s)
            first_s = max(first_s, shown_s)
            if left_out > 0 and start_s > after_s:
                # They come at this second, as what it shows does.
                count, first_s = count + 1, start_s + offset_s + 1
                runs.append((-1, 0, start_s))
        first, last = wall.place(first_s), wall.place(stop_s + offset_s)
        if first < last:
            count += last - first
            runs.append((first, last, offset_s))
        shown_s = max(shown_s or 0, stop_s + offset_s)
    found: list[int] = []
    for first, last, offset_s in reversed(runs):
        places = range(last - 1, max(first, last - most + len(found)) - 1, -1)
        found += [offset_s if first < 0 else wall.at_s(place) - offset_s for place in places]
    return count, tuple(at_s * 1000 for at_s in reversed(found))


class _Wall:
    """The times that an expression matches on a clock on the wall, between two times. In seconds since 1970 by it."""

    def __init__(self, matches: CronSim, start_s: int, end_s: int) -> None:
        self.has_every_hour = has_every_hour(matches)
        self._minutes = sorted(hour * 60 + minute for hour in matches.hours for minute in matches.minutes)
        self._days = _days(matches, start_s // _DAY_S + _EPOCH_DAY, end_s // _DAY_S + _EPOCH_DAY)

    def place(self, at_s: int) -> int:
        """Return how many times are before this one."""
        day, second = divmod(at_s, _DAY_S)
        days = bisect_left(self._days, day)
        place = days * len(self._minutes)
        if days < len(self._days) and self._days[days] == day:
            place += bisect_left(self._minutes, -(-second // _MINUTE_S))
        return place

    def at_s(self, place: int) -> int:
        """Return the time before which there are so many."""
        day, minute = divmod(place, len(self._minutes))
        return self._days[day] * _DAY_S + self._minutes[minute] * _MINUTE_S


def _days(matches: CronSim, first: int, last: int) -> list[int]:
    """Return the days since 1970 that an expression matches, from the month of one day to that of another. Months that
    begin with the same weekday and are as long have the same days."""
    known: dict[tuple[int, int], list[int]] = {}
    found: list[int] = []
    month, end = date.fromordinal(first).replace(day=1), date.fromordinal(last)
    while month <= end:
        kind = monthrange(month.year, month.month)
        begin = month.toordinal() - _EPOCH_DAY
        if month.month in matches.months:
            if kind not in known:
                known[kind] = [day for day in range(kind[1]) if matches.match_day(month + timedelta(day))]
            found.extend([begin + day for day in known[kind]])
        month += timedelta(kind[1])
    return found


def _periods(zone: str, start_s: int, end_s: int) -> list[tuple[int, int, int]]:
    """Return the seconds from which and before which a zone's clock goes evenly, and its offset meanwhile."""
    years = range(datetime.fromtimestamp(start_s, UTC).year, datetime.fromtimestamp(end_s, UTC).year + 1)
    changes = [change for change in chain(*(_changes(zone, year) for year in years)) if start_s < change < end_s]
    edges = [start_s, *changes, end_s]
    clock = ZoneInfo(zone)
    return [(since_s, until_s, _offset_s(clock, since_s)) for since_s, until_s in pairwise(edges)]


@lru_cache(1_024)
def _changes(zone: str, year: int) -> tuple[int, ...]:
    """Return the seconds of a year at which a zone's clock is set."""
    clock, found = ZoneInfo(zone), []
    first, last = [int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) for each in (year, year + 1)]
    before_s = _offset_s(clock, first)
    for since_s in range(first, last, _STEP_S):
        until_s = min(since_s + _STEP_S, last)
        offset_s = _offset_s(clock, until_s)
        if offset_s != before_s:
            seconds = range(since_s + 1, until_s)
            found.append(since_s + 1 + bisect_left(seconds, True, key=lambda at_s: _offset_s(clock, at_s) == offset_s))
        before_s = offset_s
    return tuple(found)


def _offset_s(clock: ZoneInfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, clock).utcoffset()
    return 0 if offset is None else offset.days * _DAY_S + offset.seconds
