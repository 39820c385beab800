"""Waits that a stop ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


async def stop_or_interval(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until `stop` is set, for so many seconds at most; return whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


async def finished(work: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Run `work` to its end; cancel it, and return False, when `stop` is set before. Raises the error of `work`."""
    task, waiter = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return not task.cancelled()
    finally:
        waiter.cancel()
        task.cancel()


@contextlib.asynccontextmanager
async def setting_on(stop: asyncio.Event, event: asyncio.Event) -> AsyncIterator[None]:
    """Within the block, set `event` once `stop` is set: who waits for `event` need not wait for both."""

    async def set_event() -> None:
        await stop.wait()
        event.set()

    waiter = asyncio.create_task(set_event(), name="setting-on-stop")
    try:
        yield
    finally:
        waiter.cancel()
