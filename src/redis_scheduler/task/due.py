"""When a task is due: so long after its request (`ttl`), or at a point in time (`at`). All times that callers write are
read here.

A script is given both as one number: a delay in ms or, below zero, the negative of a time. Only the script knows the
time now, by Redis' clock: a delay begins there, and a time that is past is due then.
"""

import re
import time
from datetime import UTC, datetime, timedelta

from redis_scheduler.task.timing import LAST_MS

NO_TTL = -1
"""The `ttl` in the record of a task that was given `at`, which is its due time then. Versions without `at` read it."""

TIME_RULE = "must be an RFC 3339 time with its offset, such as 2027-01-31T09:00:00+01:00, and not after the year 9999"
"""What each field that takes a time must be, as errors say it."""

TIME_LENGTH = 100
"""Characters: a fraction may have some 75 digits."""

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at_ms(text: str) -> int:
    """Return a time of RFC 3339 in ms since 1970; a fraction of a ms counts as one, so that nothing is early.

    A leap second, which only the end of a month in UTC can have, is the second after it, as in Unix time. Raises
    ValueError for what is no such time, or is after the year 9999. A time before 1970 is below zero.
    """
    since_ms, is_exact = _read(text)
    if not is_exact:
        since_ms += 1
    if since_ms > LAST_MS:
        raise ValueError("after the year 9999")
    return since_ms


def last_ms(text: str) -> int:
    """Return the last ms that is not after a time, which `at_ms` reads."""
    return _read(text)[0]


def _read(text: str) -> tuple[int, bool]:
    """Return a time in ms since 1970, rounded down, and whether that left nothing out. Raises ValueError."""
    found = _TIME.fullmatch(text) if len(text) <= TIME_LENGTH else None
    if found is None:
        raise ValueError("no time of RFC 3339")
    # Python's years begin with 1; the year 0 has the days of the year 4, and both are long past.
    day = datetime(int(found[1]) or 4, int(found[2]), int(found[3]), tzinfo=UTC)
    offset_s = (int(found[9]) * 3600 + int(found[10]) * 60) * (-1 if found[8] == "-" else 1) if found[8] else 0
    second = int(found[6])
    since_s = (day - _EPOCH) // timedelta(seconds=1) + int(found[4]) * 3600 + int(found[5]) * 60 + second - offset_s
    if second == 60 and (since_s % _DAY_S or time.gmtime(since_s).tm_mday != 1):
        raise ValueError("no leap second")
    fraction = found[7] or ""
    return since_s * 1000 + int(fraction[:3].ljust(3, "0")), not fraction[3:].strip("0")


def is_time(text: str) -> bool:
    """Whether the text is a time that `at_ms` reads."""
    try:
        at_ms(text)
    except ValueError:
        return False
    return True


def delay_until(since_ms: int) -> int:
    """Return a time as scripts are given it."""
    return -max(0, since_ms)


def due_after(now_ms: int, delay_ms: int) -> int:
    """Return when a task is due that was given this delay or time, as include/due_after.lua does."""
    return now_ms + delay_ms if delay_ms >= 0 else max(now_ms, -delay_ms)
