"""What an answer says about the next attempt."""

import pytest

from redis_scheduler.task.answer import again_ms, asks_for_no_retry, wait_ms

NOW_MS = 784_111_777_000.0
"""Sun, 06 Nov 1994 08:49:37 GMT: the time in the examples of RFC 9110."""

THEN = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:50:37 GMT"


def redis_clock() -> float:
    return NOW_MS


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "waits_s"),
    [
        ({}, 0),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "120"}, 120),
        ({"retry-after": "9999999999"}, 315_360_000),
        ({"retry-after": LATER, "date": THEN}, 60),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:37 GMT", "date": THEN}, 60),
        ({"retry-after": "Sun Nov  6 08:50:37 1994", "date": THEN}, 60),
        # The receiver's clock is wrong by an hour.
        ({"retry-after": LATER, "date": "Sun, 06 Nov 1994 07:49:37 GMT"}, 3_660),
        # It tells no time, or none that can be read: then Redis' clock counts.
        ({"retry-after": LATER}, 60),
        ({"retry-after": LATER, "date": "today"}, 60),
        ({"retry-after": THEN, "date": LATER}, 0),
        *[({"retry-after": text}, 0) for text in ("", "soon", "-5", "1.5", "5 s", "5, 5", "١٢")],
        ({"retry-after": "000000000005"}, 5),
        *[({"retry-after": text}, 315_360_000) for text in ("99999999999", "9" * 5_000, "315360001")],
        *[({"retry-after": text}, 0) for text in (LATER[5:], LATER[:-4], LATER.replace("06", "36"), "0" * 99)],
    ],
)
def test_for_how_long_an_answer_asks_to_wait(status: int, headers: dict[str, str], waits_s: int) -> None:
    assert wait_ms(status, headers, redis_clock) == waits_s * 1000


@pytest.mark.parametrize("status", [None, 101, 301, 400, 408, 500, 502, 504])
def test_only_two_statuses_ask_to_wait(status: int | None) -> None:
    assert wait_ms(status, {"retry-after": "120"}, redis_clock) == 0


@pytest.mark.parametrize(
    ("value", "asks"), [("never", True), ("Never", True), ("", False), ("no", False), ("never, never", False)]
)
def test_an_answer_may_ask_for_no_retry(value: str, asks: bool) -> None:
    assert asks_for_no_retry({"schedule-retry": value}) is asks
    assert not asks_for_no_retry({})


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        *[("30", 30_000), ("0", 0), ("0.25", 250), ("315360000", 315_360_000_000)],
        *[(text, None) for text in ("", "-1", "soon", "1e3", "315360001", "5, 5", ".5", "5.", "9" * 50, "١", "nan")],
    ],
)
def test_when_a_success_wants_the_task_again(value: str, ms: int | None) -> None:
    assert again_ms({"schedule-again-in": value}) == ms
    assert again_ms({}) is None
