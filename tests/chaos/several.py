"""A service with several shards, under load, and what holds in each of them at the end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import Keys
from redis_scheduler.store.tag import tag_of
from redis_scheduler.task.key import shards_of
from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures
from tests.support.audit import assert_whole, plain
from tests.support.receiver import Receiver
from tests.support.service import Process, run
from tests.support.waiting import wait_until


def keys_of(shard: int) -> Keys:
    """The names of the keys of a shard."""
    return Keys(tag_of("", shard), shard)


@asynccontextmanager
async def checking(
    folder: Path, url: str, urls: Sequence[str], receiver: Receiver, figures: Figures
) -> AsyncIterator[Checker]:
    """A checker of a service with this REDIS_URL. `urls`: of the server of each shard, at the end. Then, if nothing
    failed, each must be whole."""
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(plain(one)) for one in urls]
        checker = Checker(folder, url, raws[0], receiver, figures)
        checker.others = [(raw, keys_of(number)) for number, raw in enumerate(raws) if number]
        stack.push_async_callback(lambda: checker.shards[0][0].aclose())  # it may be another one by then
        stack.push_async_callback(checker.stop)
        yield checker
        await checker.stop()
        await are_whole(urls)
        done = await asyncio.to_thread(run, "doctor", REDIS_URL=url)
        assert done.returncode == 0, done.stdout + done.stderr


async def are_whole(urls: Sequence[str]) -> None:
    """See that each shard's ledger balances, and that its audit finds nothing; `urls`: one for each shard."""
    for number, url in enumerate(urls):
        async with aclosing(RedisClient(url, 3, keys_of(number))) as client:
            client.outage.must_check = False  # it knows but one of the servers
            await assert_whole(client)


async def start(checker: Checker, shards: int, workers: int = 2, **variables: str) -> list[Process]:
    """Start an API and workers; return them once new tasks go to all shards."""
    roles = ["api", *["worker"] * workers]
    processes = [checker.launch(role, LOG_LEVEL="debug", RETRY_TIME="1", **variables) for role in roles]
    await asyncio.gather(*(process.started() for process in processes))
    await spread(checker, processes[0], shards)
    return processes


async def spread(checker: Checker, api: Process, shards: int) -> None:
    """Schedule tasks until one stands in the last shard: by then new ones go to all."""

    async def is_there() -> bool:
        [task] = await checker.load(api, 1)
        return task.is_acknowledged and shard_of(task, shards) == shards - 1

    await wait_until(is_there, "new tasks go to all shards", 30, every_s=0.05)


async def end(*processes: Process) -> None:
    """Let processes come to their end, none of which may have ended before."""
    assert all(process.process.poll() is None for process in processes)
    await asyncio.gather(*(process.stop() for process in processes))


def shard_of(task: Sent, shards: int) -> int:
    """The shard of a task that was acknowledged, whose key the service made."""
    return shards_of(task.key, (shards,))[0]
