"""Waits that a stop ends."""

import asyncio
import contextlib


async def stop_or_interval(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until `stop` is set, for so many seconds at most; return whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
