"""A month of a series in three zones, in which all of them change their clocks, forward or back; and a day of one
that knows no clock on the wall. Redis' clock is set from time to time.

Redis' clock is the only one that counts: the service's own goes on as it is.
"""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import redis.asyncio

from tests.acceptance.test_series import series_of
from tests.support.audit import audited
from tests.support.clock import SettableClock
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.redis_process import redis_process
from tests.support.service import client_of, serving
from tests.support.waiting import wait_until

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Sydney")
SPRING = date(2027, 3, 8), 31
"""From this day on, so many days. New York changes its clocks (forward) on the 14th of March, Berlin on the 28th,
Sydney (back) on the 4th of April."""

AUTUMN = date(2027, 10, 1), 40
"""Sydney changes its clocks (forward) on the 3rd of October, Berlin (back) on the 31st, New York on the 7th of
November."""


def nine(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, 9, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def wanted(first: date, days: int) -> list[tuple[datetime, str]]:
    """The instants of nine o'clock on weekdays, with their zones, in their order."""
    return sorted(
        (nine(day, zone), zone)
        for zone in ZONES
        for day in (first + timedelta(days=number) for number in range(days))
        if day.weekday() < 5
    )


async def arrived(receiver: Receiver, count: int) -> None:
    await wait_until(lambda: len(receiver.arrivals) >= count, f"number {count} has come")


@pytest.mark.long
@pytest.mark.parametrize(("first", "days"), [SPRING, AUTUMN], ids=["spring", "autumn"])
async def test_every_weekday_at_nine_comes_at_nine_wherever_it_is(
    first: date, days: int, tmp_path: Path, receiver: Receiver
) -> None:
    begins = nine(first, "Australia/Sydney") - timedelta(hours=9)
    instants = wanted(first, days)
    clock = SettableClock(tmp_path, begins.timestamp() - time.time())
    async with (
        redis_process(tmp_path / "redis", environment=clock.environment) as server,
        audited(server.url),
        redis.asyncio.Redis.from_url(server.url) as raw,
        serving(tmp_path, REDIS_URL=server.url) as process,
        client_of(process) as client,
    ):
        for zone in ZONES:
            rule = {"cron": "0 9 * * MON-FRI", "tz": zone}
            await series_of(client, f"{receiver.url}{zone}", rule)
        for number, (at, _) in enumerate(instants):
            # The bell wakes the timer, which has slept by the clock of before. What comes a minute early has time to.
            for ahead_s, comes in ((-60.0, 0), (0.0, 1)):
                clock.set(at.timestamp() + ahead_s - time.time())
                await raw.publish(KEYS.bell, "")
                await (arrived(receiver, number + 1) if comes else asyncio.sleep(0.1))
                assert len(receiver.arrivals) == number + comes
    found = [(datetime.fromisoformat(one.headers["Schedule-Due"]), one.path[1:]) for one in receiver.arrivals]
    assert found == instants
    hours = [{at.hour for at, where in found if where == zone} for zone in ZONES]
    assert hours == [{7, 8}, {13, 14}, {22, 23}]


async def test_every_does_not_drift_over_a_day_however_late_it_is_made(tmp_path: Path, receiver: Receiver) -> None:
    every_s, late_s = 3_661.007, 1.5
    clock = SettableClock(tmp_path, 0.0)
    async with (
        redis_process(tmp_path / "redis", environment=clock.environment) as server,
        audited(server.url),
        redis.asyncio.Redis.from_url(server.url) as raw,
        serving(tmp_path, REDIS_URL=server.url) as process,
        client_of(process) as client,
    ):
        key = await series_of(client, receiver.url, {"every": every_s})
        info = (await client.call("GET", f"/schedule/{key}"))[1]["data"]["info"]
        first = datetime.fromisoformat(info["due"])
        wanted = [first + timedelta(milliseconds=round(every_s * 1000) * number) for number in range(24)]
        for number, at in enumerate(wanted, 1):
            clock.set(at.timestamp() + late_s - time.time())
            await raw.publish(KEYS.bell, "")
            await arrived(receiver, number)
    assert [datetime.fromisoformat(one.headers["Schedule-Due"]) for one in receiver.arrivals] == wanted
