"""Workers that are killed at random for as long as a case does something else."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.checker import Checker
from tests.chaos.leases import SHORTENED
from tests.support.service import Process

KILLS_MOST = 200
"""A case that goes on for longer has met what does not end."""


@asynccontextmanager
async def killing(checker: Checker, size: int = 2, least: int = 2, **variables: str) -> AsyncIterator[list[Process]]:
    """Within the block workers are SIGKILLed, one after another, and started again; after it all of them are alive.

    The block ends only when so many were killed at `least`. Leases are short where the suite is scaled down.
    """
    seed = random.randrange(2**32)
    rng, is_over = random.Random(seed), asyncio.Event()

    def launch() -> Process:
        return checker.launch("worker", **(SHORTENED | variables))

    workers = [launch() for _ in range(size)]
    await asyncio.gather(*(worker.started() for worker in workers))

    async def kill() -> int:
        for kills in range(KILLS_MOST):
            if is_over.is_set() and kills >= least:
                return kills
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            victim = rng.randrange(size)
            await workers[victim].started()
            await checker.kill(workers[victim])
            workers[victim] = launch()
        raise AssertionError("the case does not end")

    killer = asyncio.create_task(kill())
    try:
        yield workers
    finally:
        is_over.set()
        kills = await killer
        checker.figures.note(workers_killed=kills, seed=f"{seed}")
