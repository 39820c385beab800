"""The turns of shards with a backlog: one at a time, in order, and past one that has no answer."""

import asyncio
from dataclasses import replace

import pytest

from redis_scheduler.engine.ring import Ring
from redis_scheduler.task.timing import DEFAULT
from tests.support.waiting import wait_until

SHORT = replace(DEFAULT, turn_s=0.01)


class Shards:
    """Shards that take turns, and what they do within them."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.within: list[str] = []
        """Who is within its turn."""
        self.began: list[str] = []
        self.late: list[str] = []

    async def take(self, name: str, may_end: asyncio.Event, hurries: bool = False) -> None:
        async with self.ring.turn() as turn:
            self.within.append(name)
            self.began.append(name)
            if hurries:
                turn.hurry(lambda: self.late.append(name))
            await may_end.wait()
            self.within.remove(name)


async def step() -> None:
    """Let all go on that may."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def shards() -> Shards:
    return Shards(Ring(SHORT))


async def test_one_is_within_at_a_time_in_the_order_in_which_they_came(shards: Shards) -> None:
    ends = {name: asyncio.Event() for name in "abc"}
    tasks = [asyncio.create_task(shards.take(name, end)) for name, end in ends.items()]
    for name, end in ends.items():
        await step()
        assert shards.within == [name]
        end.set()
    await asyncio.gather(*tasks)
    assert shards.began == ["a", "b", "c"]
    await shards.take("again", ends["a"])


async def test_who_comes_again_comes_behind_those_that_wait(shards: Shards) -> None:
    may_end = asyncio.Event()

    async def turns(name: str) -> None:
        for _ in range(3):
            await shards.take(name, may_end)

    tasks = [asyncio.create_task(turns(name)) for name in "ab"]
    await step()
    may_end.set()
    await asyncio.gather(*tasks)
    assert shards.began == ["a", "b"] * 3


async def test_a_turn_without_an_answer_lets_the_next_begin_and_ends_none_of_the_later_ones(shards: Shards) -> None:
    ends = {name: asyncio.Event() for name in "abc"}
    stalls = asyncio.create_task(shards.take("a", ends["a"], hurries=True))
    others = [asyncio.create_task(shards.take(name, ends[name])) for name in "bc"]
    await wait_until(lambda: "b" in shards.within, "the next one has begun", every_s=0.001)
    assert (shards.within, shards.late) == (["a", "b"], ["a"])
    ends["a"].set()
    await stalls
    await step()
    assert shards.within == ["b"]
    ends["b"].set()
    await step()
    assert shards.within == ["c"]
    ends["c"].set()
    await asyncio.gather(*others)


async def test_a_turn_that_ends_in_time_is_not_late(shards: Shards) -> None:
    may_end = asyncio.Event()
    may_end.set()
    await shards.take("a", may_end, hurries=True)
    await asyncio.sleep(2 * SHORT.turn_s)
    assert shards.late == []


@pytest.mark.parametrize("is_called", [False, True])
async def test_one_that_is_cancelled_while_it_waits_is_passed_over(is_called: bool, shards: Shards) -> None:
    ends = {name: asyncio.Event() for name in "abc"}
    tasks = {name: asyncio.create_task(shards.take(name, end)) for name, end in ends.items()}
    await step()
    if is_called:
        # It is called in the very moment in which it is cancelled.
        ends["a"].set()
        await asyncio.sleep(0)
    tasks["b"].cancel()
    ends["a"].set()
    await step()
    assert shards.within == ["c"]
    assert tasks["b"].cancelled()
    ends["c"].set()
    await asyncio.gather(tasks["a"], tasks["c"])
    assert shards.began == ["a", "c"]


async def test_a_cancelled_one_that_was_to_be_called_loses_no_turn(shards: Shards) -> None:
    ends = {name: asyncio.Event() for name in "abc"}
    tasks = {name: asyncio.create_task(shards.take(name, end)) for name, end in ends.items()}
    await step()
    tasks["b"].cancel()
    tasks["a"].cancel()
    await step()
    assert shards.within[-1] == "c"
    ends["c"].set()
    await tasks["c"]
    assert shards.ring.current is None
