"""An alarm that rings at its moment: to some microseconds by Linux' timerfd, elsewhere to two milliseconds by the event
loop.

The event loop's own timers count in milliseconds and round up twice: that was half of what a delivery was late.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_NANOSECONDS = 1_000_000_000


class _TimerfdOfPython:
    """From Python 3.13 on. By name, since a type checker on 3.11 knows of none."""

    @staticmethod
    def create() -> int:
        descriptor: int = vars(os)["timerfd_create"](time.CLOCK_MONOTONIC, flags=os.O_NONBLOCK | os.O_CLOEXEC)
        return descriptor

    @staticmethod
    def set(descriptor: int, nanoseconds: int) -> None:
        vars(os)["timerfd_settime_ns"](descriptor, initial=nanoseconds)


class _TimerfdOfLibc:
    """For Python 3.11 and 3.12, where struct itimerspec is four longs."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def create(self) -> int:
        descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return descriptor

    def set(self, descriptor: int, nanoseconds: int) -> None:
        moment = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, _NANOSECONDS))
        if self._libc.timerfd_settime(descriptor, 0, moment, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")


def _timerfd() -> _TimerfdOfPython | _TimerfdOfLibc | None:
    if sys.platform != "linux":
        return None
    if hasattr(os, "timerfd_create"):
        return _TimerfdOfPython()
    return _TimerfdOfLibc() if sys.maxsize > 2**32 else None


class Alarm:
    """Calls `on_ring` at a moment that may be set again and again. A context manager: it holds a descriptor."""

    def __init__(self, on_ring: Callable[[], None]) -> None:
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._timerfd = _timerfd()
        if self._timerfd is not None:
            with contextlib.suppress(OSError):
                self._descriptor = self._timerfd.create()
                self._loop.add_reader(self._descriptor, self._on_expired, self._descriptor)
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
        if self._timerfd is not None and self._descriptor is not None:
            with contextlib.suppress(OSError):
                # A time of 0 would disarm it.
                self._timerfd.set(self._descriptor, max(1, round(seconds * _NANOSECONDS)))
                return
        self._timer = self._loop.call_later(seconds, self._on_ring)

    def _on_expired(self, descriptor: int) -> None:
        try:
            os.read(descriptor, 8)
        except BlockingIOError:  # it was set anew meanwhile, and will ring
            return
        self._on_ring()
