"""The API in the process of the tests, which can so give it limits, or look at its memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis_scheduler.api import app, server
from redis_scheduler.api.limits import DEFAULT as DEFAULT_LIMITS
from redis_scheduler.api.limits import Limits
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.generations import Generations
from redis_scheduler.task.timing import DEFAULT, Timing
from tests.support.service import TOKEN


@asynccontextmanager
async def api_here(
    *clients: RedisClient,
    max_body: int = 1_048_576,
    timing: Timing = DEFAULT,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[int]:
    """Serve the API over the shards of these clients until the end of the block; its port. Requests that are under way
    then are cut off."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    listener = server.listen("127.0.0.1", 0)
    shards, generations = len(clients), Generations.of(len(clients))
    deployments = [Deployment(0 if number else shards, generations=generations) for number in range(shards)]
    application = app.create_app(clients, "writer", TOKEN, max_body, deployments, timing=timing, limits=limits)
    running = server.create_server(application, grace_s=1, limits=limits)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run_until(stop, hurry, listener))
        yield listener.getsockname()[1]
        stop.set()
        hurry.set()
