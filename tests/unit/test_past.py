"""What pages know of the history: what is over is read once, all that is missing at once."""

import asyncio
from collections.abc import Sequence

import pytest

from redis_scheduler.ui import past
from redis_scheduler.ui.past import Past


async def test_only_what_may_have_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    now_s = 1_000.0
    monkeypatch.setattr("redis_scheduler.ui.past.time.monotonic", lambda: now_s)

    async def read(numbers: Sequence[int]) -> list[dict[str, int]]:
        asked.append(list(numbers))
        return [{"delivered": number} for number in numbers]

    minutes = Past(read, fresh_s=4)
    wanted = [{"delivered": number} for number in range(60)]
    assert await minutes.get(0, 59) == wanted
    assert await minutes.get(55, 59) == wanted[55:]
    assert asked == [list(range(60))]
    now_s += 4
    assert await minutes.get(0, 59) == wanted
    assert asked[1:] == [[58, 59]]
    now_s += past.SETTLED_FRESH_S
    await minutes.get(3_540, 3_599)
    assert len(minutes._kept) == 60


async def test_a_reading_loses_nothing_to_another_that_drops_what_counts_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, reads, may_answer = 1_000.0, asyncio.Event(), asyncio.Event()
    may_answer.set()
    monkeypatch.setattr("redis_scheduler.ui.past.time.monotonic", lambda: now_s)

    async def read(numbers: Sequence[int]) -> list[dict[str, int]]:
        reads.set()
        if len(numbers) == past.SETTLED:
            await may_answer.wait()
        return [{"delivered": number} for number in numbers]

    minutes = Past(read, fresh_s=4)
    wanted = await minutes.get(0, 59)
    now_s += past.SETTLED_FRESH_S - 1
    reads.clear()
    may_answer.clear()
    slow = asyncio.create_task(minutes.get(0, 59))
    await reads.wait()
    now_s += 1
    await minutes.get(55, 59)
    may_answer.set()
    assert await slow == wanted
