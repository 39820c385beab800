"""Requests that go one after another."""

import asyncio

from redis_scheduler.api.exclusive import Exclusive


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
