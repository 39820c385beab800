"""The alarm rings once, not before its moment, on a timerfd and on the timers of the event loop."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from redis_scheduler.engine import alarm
from redis_scheduler.engine.alarm import Alarm
from tests.support.waiting import wait_until

EARLY_S = 0.002
"""What the event loop's own timers may be early."""


class Rings:
    def __init__(self) -> None:
        self.times: list[float] = []

    def ring(self) -> None:
        self.times.append(time.monotonic())

    async def come(self, count: int) -> None:
        await wait_until(lambda: len(self.times) == count, f"{count} rings", every_s=0.001)


def open_descriptors() -> set[str]:
    """The names of this process's descriptors, where the system tells them."""
    folder = Path("/proc/self/fd")
    # The one that reads the folder is among them.
    return {entry.name for entry in folder.iterdir() if entry.exists()} if folder.exists() else set()


@pytest.fixture(params=["Python's timerfd", "libc's timerfd", "elsewhere"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "elsewhere":
        monkeypatch.setattr(sys, "platform", request.param)
        assert alarm._timerfd() is None
        return
    if sys.platform != "linux":
        pytest.skip("timerfd is of Linux")
    if request.param == "libc's timerfd":
        monkeypatch.delattr(os, "timerfd_create", raising=False)
        assert isinstance(alarm._timerfd(), alarm._TimerfdOfLibc)
    elif sys.version_info < (3, 13):
        pytest.skip("Python has it from 3.13 on")
    else:
        assert isinstance(alarm._timerfd(), alarm._TimerfdOfPython)


@pytest.mark.usefixtures("_system")
async def test_it_rings_once_and_not_before_its_moment() -> None:
    rings = Rings()
    with Alarm(rings.ring) as ringing:
        for count, seconds in enumerate((0.03, 0.0004, 0, 0.01), start=1):
            set_at = time.monotonic()
            ringing.set(seconds)
            await rings.come(count)
            assert rings.times[-1] >= set_at + seconds - EARLY_S
        await asyncio.sleep(0.05)
    assert len(rings.times) == 4


@pytest.mark.usefixtures("_system")
async def test_set_again_it_rings_at_the_new_moment_only() -> None:
    rings = Rings()
    with Alarm(rings.ring) as ringing:
        ringing.set(60)
        ringing.set(0.01)
        await rings.come(1)
        ringing.set(0.02)
        set_at = time.monotonic()
        ringing.set(0.1)
        await rings.come(2)
        assert rings.times[1] >= set_at + 0.1 - EARLY_S


@pytest.mark.usefixtures("_system")
async def test_set_anew_in_the_moment_it_expires_it_waits_for_the_new_one() -> None:
    rings = Rings()
    with Alarm(rings.ring) as ringing:
        ringing.set(0.001)
        # The event loop stands still meanwhile.
        time.sleep(0.01)  # noqa: ASYNC251
        set_at = time.monotonic()
        ringing.set(0.05)
        await rings.come(1)
        assert rings.times[0] >= set_at + 0.05 - EARLY_S


@pytest.mark.usefixtures("_system")
async def test_it_rings_no_more_when_it_is_left_and_leaves_nothing_open() -> None:
    rings = Rings()
    open_before = open_descriptors()
    with Alarm(rings.ring) as ringing:
        ringing.set(0.01)
    await asyncio.sleep(0.05)
    assert rings.times == []
    assert open_descriptors() == open_before
