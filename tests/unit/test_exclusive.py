"""Requests that go one after another."""

import asyncio

import pytest

from redis_scheduler.api.exclusive import Exclusive
from redis_scheduler.errors import RequestRefused


async def test_those_that_come_while_it_is_held_go_in_their_order() -> None:
    exclusive, inside, order = Exclusive(), 0, list[int]()

    async def one(number: int) -> None:
        nonlocal inside
        async with exclusive.held():
            inside += 1
            assert inside == 1
            order.append(number)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(one, range(9)))
    await one(9)
    assert order == list(range(10))


async def test_who_asks_takes_turns_with_who_asks_much() -> None:
    exclusive, order = Exclusive(), list[str]()

    async def one(name: str) -> None:
        async with exclusive.held(whose=name[0]):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, ("a0", "a1", "a2", "a3", "b0", "b1", "c0")))
    assert order == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]


async def test_those_that_have_given_up_take_no_turn_of_those_behind_them_and_are_not_kept() -> None:
    exclusive, order = Exclusive(), list[str]()

    async def one(name: str, wait_s: float = 10) -> None:
        async with exclusive.held(wait_s, whose=name[0]):
            order.append(name)

    async with exclusive.held():
        gone = [asyncio.create_task(one(f"a{number}", 0.01)) for number in range(5)]
        await asyncio.wait(gone)
        assert not exclusive._lines
        late = [asyncio.create_task(one(f"a{number}")) for number in range(5, 8)]
        waiting = [asyncio.create_task(one(name)) for name in ("a8", "b0", "b1", "b2")]
        await asyncio.sleep(0)
        for giving_up in late:  # their futures are done, and stand in line still
            giving_up.cancel()
    await asyncio.wait(waiting, timeout=10)
    assert order == ["a8", "b0", "b1", "b2"]
    assert all(isinstance(task.exception(), RequestRefused) for task in gone)
    assert not exclusive._lines


async def test_whose_turn_comes_as_it_gives_up_passes_it_on() -> None:
    exclusive = Exclusive()

    async def one() -> None:
        async with exclusive.held(whose="b"):
            pass

    async with exclusive.held():
        giving_up, next_one = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(0)
    giving_up.cancel()  # its turn has come
    await asyncio.wait([giving_up, next_one], timeout=10)
    assert giving_up.cancelled()
    assert next_one.done()
    async with exclusive.held(0.1):
        with pytest.raises(RequestRefused, match="Too many such requests"):
            async with exclusive.held(0.01):
                pass
    async with exclusive.held(0.1):
        pass


async def test_one_that_comes_between_an_end_and_the_next_begin_goes_last() -> None:
    exclusive, order = Exclusive(), list[str]()

    async def one(name: str) -> None:
        async with exclusive.held():
            order.append(name)

    async with exclusive.held():
        waiting = asyncio.create_task(one("waiting"))
        await asyncio.sleep(0)
    await one("late")  # it is free, but promised
    await waiting
    assert order == ["waiting", "late"]


async def test_one_that_is_cancelled_while_it_waits_is_in_nobodys_way() -> None:
    exclusive = Exclusive()
    async with exclusive.held():
        waiting = asyncio.create_task(exclusive.held().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(10), exclusive.held():
        pass
    assert waiting.cancelled()
