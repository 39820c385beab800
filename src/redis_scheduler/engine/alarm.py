"""An alarm that rings at its moment: to some microseconds by Linux' timerfd, elsewhere to two milliseconds by the event
loop.

The event loop's own timers count in milliseconds and round up twice: that was half of what a delivery was late.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_NANOSECONDS = 1_000_000_000


class Alarm:
    """Calls `on_ring` at a moment that may be set again and again. A context manager: it holds a descriptor."""

    def __init__(self, on_ring: Callable[[], None]) -> None:
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        # struct itimerspec is four longs there. Python has timerfd itself from 3.13 on.
        if sys.platform == "linux" and sys.maxsize > 2**32:
            self._system = ctypes.CDLL(None)
            descriptor = self._system.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor >= 0:
                self._descriptor = descriptor
                self._loop.add_reader(descriptor, self._on_expired, descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def set(self, seconds: float) -> None:
        """Ring once, so many seconds from now, instead of when it was set to before."""
        if self._timer is not None:
            self._timer.cancel()
        # A time of 0 would disarm it.
        moment = divmod(max(1, round(seconds * _NANOSECONDS)), _NANOSECONDS)
        if self._descriptor is None or self._system.timerfd_settime(
            self._descriptor, 0, (ctypes.c_long * 4)(0, 0, *moment), None
        ):
            self._timer = self._loop.call_later(seconds, self._on_ring)

    def _on_expired(self, descriptor: int) -> None:
        try:
            os.read(descriptor, 8)
        except BlockingIOError:  # it was set anew meanwhile, and will ring
            return
        self._on_ring()
