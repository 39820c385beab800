"""What a signal does to a command beside the service: it ends it in order, as an error would.

So the private Redis that the command started is stopped, and the unfinished file of an export is removed. The first
signal counts: a closing terminal sends several, and a service manager sends SIGHUP after SIGTERM.
"""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any

from redis_scheduler.process.signals import heeded

SIGNALLED = 128
"""The exit code of what a signal ended is this and the number of the signal."""


class _Interruption:
    """The signal that ends the command, if one came."""

    def __init__(self) -> None:
        self.number = 0
        self.is_pending = False
        """Whether the command does not know of it yet."""
        self.waits = False
        """Whether the command waits for a file, and not in the event loop."""

    def arise(self) -> None:
        """Raise CancelledError; the command need not be told of the signal again."""
        self.is_pending = self.waits = False
        raise asyncio.CancelledError


_interruption = _Interruption()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Around what waits for a file outside the event loop: raise CancelledError once a signal ends the command."""
    if _interruption.is_pending:
        _interruption.arise()
    _interruption.waits = True
    try:
        yield
    finally:
        _interruption.waits = False


def run_command(main: Coroutine[Any, Any, bool]) -> int:
    """Run a command, which returns whether all is well; return its exit code. Raises what it raises."""
    return asyncio.run(_ended(main))


async def _ended(main: Coroutine[Any, Any, bool]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.create_task(main)

    def cancel() -> None:
        if _interruption.is_pending:
            _interruption.is_pending = False
            task.cancel()

    def on_signal(number: int, _: FrameType | None) -> None:
        if not _interruption.number:
            _interruption.number, _interruption.is_pending = number, True
            loop.call_soon_threadsafe(cancel)
        if _interruption.waits:
            _interruption.arise()

    before = {number: signal.signal(number, on_signal) for number in heeded()}
    try:
        return 0 if await task else 1
    except asyncio.CancelledError:
        return SIGNALLED + _interruption.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
