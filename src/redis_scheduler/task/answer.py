"""What an answer says about the next attempt, in its headers. Whatever makes no sense is as if it were not there."""

import contextlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from redis_scheduler.task.timing import TEN_YEARS_S

RETRY_HEADER = "schedule-retry"
"""`never`: the task is not tried again."""

AGAIN_HEADER = "schedule-again-in"
"""Seconds after which the task shall come again; of a success."""

ASKING_TO_WAIT = frozenset((429, 503))
"""Statuses whose Retry-After counts."""

_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""The forms of an HTTP date: the one of today, and two old ones."""

_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,3})?")
_DIGITS = re.compile(r"0*([0-9]+)")

Headers = Mapping[str, str]
"""By their names in lower case."""


def asks_for_no_retry(headers: Headers) -> bool:
    """Whether the receiver wants the task never again."""
    return headers.get(RETRY_HEADER, "").lower() == "never"


def again_ms(headers: Headers) -> int | None:
    """Return after how many ms the receiver of a success wants the task again; None: not."""
    text = headers.get(AGAIN_HEADER, "")
    ms = round(float(text) * 1000) if _SECONDS.fullmatch(text) else None
    return ms if ms is not None and ms <= TEN_YEARS_S * 1000 else None


def wait_ms(status: int | None, headers: Headers, now_ms: Callable[[], float]) -> float:
    """Return for how many ms an answer asks to wait, ten years at most; 0 if it does not.

    Retry-After may be a number of seconds or a date (RFC 9110, section 10.2.3). A date is compared with the answer's
    own Date, so that the receiver's clock may be wrong, and without one with Redis' clock.
    """
    if status not in ASKING_TO_WAIT or (text := headers.get("retry-after")) is None:
        return 0
    if digits := _DIGITS.fullmatch(text):
        return min(int(digits[1][:10]), TEN_YEARS_S) * 1000
    until_ms = _time_ms(text)
    if until_ms is None:
        return 0
    sent_ms = _time_ms(headers.get("date", ""))
    return max(0, until_ms - (now_ms() if sent_ms is None else sent_ms))


def _time_ms(text: str) -> float | None:
    """Return the time of an HTTP date (RFC 9110, section 5.6.7); None of what is none."""
    for form in _DATES:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1000
    return None
