"""Tasks that are put again, paused, resumed and run while they are delivered, and workers are killed. Case 25."""

import asyncio
import random

import pytest
import redis.asyncio

from tests.chaos.accounts import Sent
from tests.chaos.checker import Checker
from tests.chaos.figures import Figures, scaled
from tests.chaos.killing import killing
from tests.chaos.leases import WINDOW_S
from tests.scripts.contents import counters
from tests.support.waiting import wait_until


@pytest.mark.case("25a", "own keys put again and again, workers SIGKILLed")
async def test_the_last_put_of_each_key_arrives_and_none_that_it_replaced(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    """Each put finds its key scheduled, queued, in delivery, lost with its worker, or delivered."""
    keys_count, rounds = scaled(60, 20), scaled(40, 8)
    checker.receiver.delay_s = 0.1
    api = await checker.start("api")

    async def put_again(number: int) -> int:
        rng, before, met = random.Random(number), None, 0
        for _ in range(rounds):
            after = await checker.put(api, f"own:{number}", rng.choice((0, 0, 0.1, 0.5)), before)
            met += before is not None and before.replaced_at is None
            before = after
            await asyncio.sleep(rng.uniform(0, 0.3))
        return met

    async with killing(checker):
        met = sum(await asyncio.gather(*(put_again(number) for number in range(keys_count))))
    await checker.drained(WINDOW_S + 15)
    verdict = await checker.verdict()
    figures.note(put_in_delivery=met)
    assert met > keys_count / 2
    assert verdict.replaced > keys_count
    assert verdict.dead == 0
    found = await counters(raw)
    # A put that replaces a waiting task schedules nothing more.
    assert keys_count <= found["scheduled"] == found["delivered"] <= keys_count * rounds


@pytest.mark.case("25b", "tasks paused, resumed and run, workers SIGKILLed")
async def test_what_is_paused_waits_for_its_resume_and_then_arrives(
    checker: Checker, raw: redis.asyncio.Redis, figures: Figures
) -> None:
    count, at_once = scaled(3_000, 300), 30
    checker.receiver.delay_s = 0.1
    api = await checker.start("api")

    async def pause_and_resume(first: int) -> None:
        def scheduled() -> list[Sent]:
            found = [checker.sent.get(number) for number in range(first, first + at_once)]
            return [task for task in found if task and task.is_acknowledged]

        await wait_until(lambda: len(scheduled()) == at_once, "they are scheduled", 60)
        await checker.pause(api, scheduled())
        await asyncio.sleep(0.5)
        await checker.resume(api, scheduled(), "run" if first % (2 * at_once) else "resume")

    async with killing(checker):
        loading = checker.load(api, count, ttl=lambda n: n % 30 / 10, rate=300)
        await asyncio.gather(loading, *(pause_and_resume(first) for first in range(0, count, at_once)))
    await checker.drained(WINDOW_S + 15)
    verdict = await checker.verdict()
    paused = sum(task.paused_at is not None for task in checker.sent.values())
    figures.note(paused=paused)
    assert paused > count / 4
    assert verdict.arrived == count
    assert await counters(raw) == {"scheduled": count, "delivered": count}
