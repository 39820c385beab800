"""Who gets the room for pages."""

import asyncio
from dataclasses import replace

from redis_scheduler.api.limits import DEFAULT
from redis_scheduler.api.pages import PageRoom


async def test_who_asks_for_a_page_does_not_wait_for_all_pages_of_another() -> None:
    room, order = PageRoom(replace(DEFAULT, pages_bytes=10)), list[str]()

    async def one(name: str) -> None:
        page = await room.enter(None, 10, name[0])
        order.append(name)
        await asyncio.sleep(0)
        page.leave()

    await asyncio.gather(*map(one, ("a0", "a1", "a2", "a3", "b0")))
    assert order == ["a0", "a1", "a2", "b0", "a3"]
