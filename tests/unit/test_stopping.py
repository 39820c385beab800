"""Waits that a stop ends."""

import asyncio
import contextlib

from redis_scheduler.stopping import finished, setting_on
from tests.support.waiting import wait_until


async def test_within_the_block_a_stop_sets_the_event() -> None:
    stop, event = asyncio.Event(), asyncio.Event()
    async with setting_on(stop, event):
        await asyncio.sleep(0)
        assert not event.is_set()
        stop.set()
        async with asyncio.timeout(5):
            await event.wait()


async def test_a_stop_from_before_the_block_sets_the_event_too() -> None:
    stop, event = asyncio.Event(), asyncio.Event()
    stop.set()
    async with setting_on(stop, event), asyncio.timeout(5):
        await event.wait()


async def test_a_stop_behind_the_block_sets_nothing_and_no_task_is_left() -> None:
    stop, event = asyncio.Event(), asyncio.Event()
    with contextlib.suppress(LookupError):
        async with setting_on(stop, event):
            raise LookupError
    stop.set()
    await wait_until(lambda: len(asyncio.all_tasks()) == 1, "the waiter's end")
    assert not event.is_set()


async def test_what_a_stop_interrupts_is_cancelled_and_not_finished() -> None:
    stop, never = asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(finished(never.wait(), stop))
    await asyncio.sleep(0)
    stop.set()
    assert not await work
    assert await finished(asyncio.sleep(0), asyncio.Event())
