"""How long an event loop does nothing else while something runs in it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PAUSE_MOST_S = 0.05


@asynccontextmanager
async def without_long_pauses() -> AsyncIterator[None]:
    """Whatever runs in the block lets others have their turn, at the latest after PAUSE_MOST_S of CPU time: other
    programs may hold the processor meanwhile."""
    pauses: list[float] = []

    async def look() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)  # one turn of everybody else
            pauses.append(time.thread_time() - began)

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)  # it begins
    yield
    await asyncio.sleep(0)  # it ends its last turn
    looking.cancel()
    assert max(pauses) < PAUSE_MOST_S
