"""replay: brings dead letters back to life, and nothing else."""

from dataclasses import replace

import pytest
import redis.asyncio

from tests.scripts.contents import counters, dump
from tests.scripts.states import DEAD, DUE, MAKERS, MISSING, ask, change, dead, due_ms, in_due, record_of, state_of
from tests.support.names import KEYS
from tests.support.store import Store, letters


@pytest.mark.parametrize("state", MAKERS)
async def test_only_the_dead_are_replayed(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    replay = await change(store, task, ttl_ms=7_000)
    whole, counted = await dump(raw), await counters(raw)
    now_ms, answers = await store.replay([replay])
    if state == "dead":
        assert letters(answers) == "U"
        assert await state_of(raw, task.key) == DUE
        assert await due_ms(raw, task.key) == now_ms + 7_000
        assert await record_of(raw, task.key) == b'{"due":%d' % (now_ms + 7_000) + replay.tail
        assert await ask(raw, "HGET", KEYS.failures, task.key) is None
        assert await counters(raw) == counted | {"replayed": 1}
    else:
        assert letters(answers) == "N"
        assert await state_of(raw, task.key) == before
        after = await dump(raw)
        del after[KEYS.writer(store.name, "replay").encode()]
        after[KEYS.counters.encode()] = whole.get(KEYS.counters.encode())
        assert {name: after.get(name) for name in whole} == whole
        assert await counters(raw) == counted


async def test_each_letter_of_a_batch_is_judged_by_itself(store: Store, raw: redis.asyncio.Redis) -> None:
    first, changed, living = await dead(store), await dead(store), await in_due(store)
    changes = [await change(store, task, 1_000) for task in (first, changed, living)]
    changes[1] = replace(changes[1], expected=b"other")
    assert letters((await store.replay([*changes, changes[0]]))[1]) == "UCNN"
    assert [await state_of(raw, task.key) for task in (first, changed, living)] == [DUE, DEAD, DUE]
    assert await counters(raw) == {"scheduled": 3, "failed": 2, "died": 2, "replayed": 1}


async def test_a_replayed_task_that_is_cancelled_is_counted_as_cancelled(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await dead(store)
    await store.replay([await change(store, task, 1_000)])
    assert letters(await store.cancel([(task.key, None)])) == "C"
    assert await state_of(raw, task.key) == MISSING
    assert await counters(raw) == {"scheduled": 1, "failed": 1, "died": 1, "replayed": 1, "cancelled": 1}
