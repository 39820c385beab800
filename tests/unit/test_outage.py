"""What a process knows of Redis: an outage begins with an error, and ends only where Redis is seen to serve."""

import asyncio

import pytest

from redis_scheduler.errors import StoreFull, StoreRefused, StoreUnavailable
from redis_scheduler.store.outage import LINES_MOST, Outage


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.message, vars(record)["fields"].get("error", "")) for record in caplog.records]


async def test_a_step_that_asks_redis_for_nothing_ends_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    outage, stop = Outage(), asyncio.Event()
    outage.begin(StoreUnavailable("no answer"))

    async def step() -> None:
        stop.set()

    await outage.loop(stop, step)
    assert outage.is_away
    outage.end()
    assert lines(caplog) == [("redis-away", "no answer"), ("redis-back", "")]


def test_each_kind_of_error_is_said_once_in_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    errors = [
        *("Error 111 connecting to 127.0.0.1:1", "Connection closed by server", "NOAUTH Authentication required."),
        *("Error 104 while reading", "NOAUTH again", "LOADING Redis", "MISCONF no disk", "LOADING Redis"),
    ]
    for _ in range(2):
        for error in errors:
            outage.begin(StoreUnavailable(error))
        outage.end()
        outage.end()
    said = [("redis-away", errors[number]) for number in (0, 2, 5, 6)]
    assert lines(caplog) == 2 * [*said, ("redis-back", "")]


def test_an_outage_that_begins_and_ends_with_each_request_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for _ in range(100):
        outage.begin(StoreUnavailable("max number of clients reached"))
        outage.end()
    assert lines(caplog) == LINES_MOST * [("redis-away", "max number of clients reached"), ("redis-back", "")]


@pytest.mark.parametrize("error", [StoreFull(), StoreRefused("WRONGTYPE")])
async def test_what_redis_refuses_of_one_call_is_no_outage_and_is_said_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    outage, stop = Outage(), asyncio.Event()
    outage.end()
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            stop.set()
        raise error

    await outage.loop(stop, step)
    assert not outage.is_away
    assert lines(caplog) == [("redis-refused", str(error))]


async def test_that_the_redis_of_another_shard_is_away_is_no_outage_of_this_one() -> None:
    outage, stop = Outage(0), asyncio.Event()
    outage.end()
    away = StoreUnavailable("no answer")

    async def step() -> None:
        stop.set()
        raise away

    for away.shard, is_away in ((3, False), (0, True)):
        stop.clear()
        await outage.loop(stop, step)
        assert outage.is_away is is_away
