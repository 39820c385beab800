"""Batching: what arrives while a call is under way leaves in the next one."""

import asyncio

import pytest

from redis_scheduler.api.batcher import Batcher
from redis_scheduler.errors import StoreFull, StoreUnavailable, StoreUnreplicated


class Calls:
    """A call that waits to be let through, and keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [item * 10 for item in items]


async def test_items_that_come_during_a_call_share_the_next() -> None:
    calls = Calls()
    batcher = Batcher(calls, limit=3)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    rest = [batcher.submit(item) for item in (2, 3, 4, 5)]
    assert calls.batches == [[1]]
    calls.gate.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50]
    assert calls.batches == [[1], [2, 3, 4], [5]]


async def test_a_batch_ends_at_its_size() -> None:
    calls = Calls()
    calls.gate.set()
    batcher = Batcher(calls, limit=100, size=lambda item: item, limit_bytes=10)
    await asyncio.gather(*(batcher.submit(item) for item in (6, 6, 6, 50, 1)))
    assert calls.batches == [[6, 6], [6, 50], [1]]


@pytest.mark.parametrize(
    ("error", "calls_made"),
    [(StoreUnavailable(), [[1]]), (StoreFull(), [[1], [2]]), (StoreUnreplicated(), [[1], [2]])],
)
async def test_what_waits_behind_an_outage_fails_with_it(error: Exception, calls_made: list[list[int]]) -> None:
    calls = Calls()
    calls.error = error
    batcher = Batcher(calls, limit=3)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    second = batcher.submit(2)
    calls.gate.set()
    assert list(await asyncio.gather(first, second, return_exceptions=True)) == [error, error]
    assert calls.batches == calls_made
    calls.error = None
    assert await batcher.submit(3) == 30


async def test_what_comes_behind_a_call_that_takes_long_may_go_beside_it() -> None:
    calls = Calls()
    batcher = Batcher(calls, limit=3)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    queued = batcher.submit(2)
    batcher.go_beside()
    await asyncio.sleep(0)
    assert calls.batches == [[1], [2]]
    batcher.go_beside()
    last = [batcher.submit(3)]
    await asyncio.sleep(0)
    last.append(batcher.submit(4))
    await asyncio.sleep(0)
    assert calls.batches == [[1], [2], [3]], "one call again, until another may go beside it"
    calls.gate.set()
    assert await asyncio.gather(first, queued, *last) == [10, 20, 30, 40]
    assert calls.batches == [[1], [2], [3], [4]]


async def test_a_caller_that_left_does_not_disturb_the_others() -> None:
    calls = Calls()
    batcher = Batcher(calls, limit=3)
    left, stays = batcher.submit(1), batcher.submit(2)
    await asyncio.sleep(0)
    left.cancel()
    calls.gate.set()
    assert await stays == 20
