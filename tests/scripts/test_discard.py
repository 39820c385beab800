"""discard: deletes dead letters, and nothing that is alive."""

import pytest
import redis.asyncio

from tests.scripts.contents import counters, dump, traces
from tests.scripts.indexes import letters_of
from tests.scripts.states import MAKERS, MISSING, dead, in_due, record_of, state_of
from tests.support.store import Store, letters


@pytest.mark.parametrize("state", MAKERS)
async def test_only_the_dead_are_deleted(state: str, store: Store, raw: redis.asyncio.Redis) -> None:
    make, before = MAKERS[state]
    task = await make(store)
    whole, counted = await dump(raw), await counters(raw)
    found = letters(await store.discard([task.key]))
    assert await counters(raw) == counted
    if state == "dead":
        assert found == "C"
        assert await state_of(raw, task.key) == MISSING
        assert await traces(raw, task) == []
        assert await letters_of(raw) == {}
    else:
        assert found == "N"
        assert await state_of(raw, task.key) == before
        assert await dump(raw) == whole


async def test_each_of_a_batch_is_judged_by_itself(store: Store, raw: redis.asyncio.Redis) -> None:
    one, living, other = await dead(store), await in_due(store), await dead(store)
    answers = await store.discard([one.key, living.key, "unknown", one.key, other.key])
    assert letters(answers) == "CNNNC"


async def test_a_dead_letter_with_another_record_than_expected_stays(store: Store, raw: redis.asyncio.Redis) -> None:
    one, living = await dead(store), await in_due(store)
    before = await dump(raw)
    assert letters(await store.discard([one.key, living.key, "unknown"], [b"other"] * 3)) == "XNN"
    assert await dump(raw) == before
    assert letters(await store.discard([one.key], [await record_of(raw, one.key)])) == "C"
    assert await traces(raw, one) == []
