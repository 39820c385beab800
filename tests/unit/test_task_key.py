"""Keys of tasks and the shards that they name; the hash tags of shards, and how they spread over masters."""

from collections import Counter

import pytest

from redis_scheduler.store.tag import SLOTS, slot_of, tag_of
from redis_scheduler.task.key import (
    KEY_LENGTH,
    SHARDS_MOST,
    has_made_form,
    hashed_shard,
    in_shard,
    is_task_key,
    new_task_key,
    shards_of,
)

SUFFIXES = (0, 19, 18, 5, 66, 60, 61, 67, 22, 20, 21, 23, 256, 51, 50)
"""Of the tags without NAMESPACE. They must stay: tasks stand under them."""


def tags(namespace: str = "", shards: int = SHARDS_MOST) -> list[str]:
    return [tag_of(namespace, shard) for shard in range(shards)]


def spread(namespace: str, shards: int, masters: int) -> list[int]:
    """How many of so many shards each master has, if its slots are as redis-cli shares them out."""
    ends = [round(SLOTS / masters * (number + 1) - 1) for number in range(masters)]
    slots = [slot_of(tag.strip("{}")) for tag in tags(namespace, shards)]
    counts = Counter(next(number for number, end in enumerate(ends) if slot <= end) for slot in slots)
    return [counts[number] for number in range(masters)]


def test_the_tags_stay_as_they_are() -> None:
    assert tags() == [f"{{rs:{suffix}}}" for suffix in SUFFIXES]
    assert tag_of("staging") == "{rs.staging:0}"
    assert slot_of("rs:0") == 12_872
    assert slot_of("123456789") == 12_739  # as the specification of Redis Cluster has it
    for shard in (-1, SHARDS_MOST):
        with pytest.raises(ValueError, match="no shard"):
            tag_of("", shard)


@pytest.mark.parametrize("namespace", ["", "staging", "x", "tenant-7"])
def test_tags_spread_evenly_over_masters(namespace: str) -> None:
    for masters in range(1, 16):
        for shards in range(1, SHARDS_MOST + 1):
            found = spread(namespace, shards, masters)
            assert sum(found) == shards
            assert max(found) <= -(-shards // masters) + 1
    assert len({*tags(namespace)} | {*tags("other")}) == 2 * SHARDS_MOST


def test_without_a_namespace_they_spread_as_well_as_can_be_over_the_usual_masters() -> None:
    assert spread("", 8, 8) == [1] * 8
    assert spread("", 4, 4) == [1] * 4
    assert spread("", 15, 3) == [5] * 3
    assert sorted(spread("", 8, 3)) == [2, 3, 3]


def test_a_key_that_is_made_tells_its_shard() -> None:
    for shard in range(SHARDS_MOST):
        keys = [new_task_key(shard) for _ in range(200)]
        assert {shards_of(key, (SHARDS_MOST,))[0] for key in keys} == {shard}
        assert all(is_task_key(key) and has_made_form(key) and len(key) == KEY_LENGTH for key in keys)
        assert len({key[-1] for key in keys}) == 4, "two bits of it are random"
        moved = [in_shard(key, 7) for key in keys]
        assert {shards_of(key, (8,))[0] for key in moved} == {7}
        assert [key[:-1] for key in moved] == [key[:-1] for key in keys]
        assert [in_shard(key, shard) for key in moved] == keys


@pytest.mark.parametrize("key", ["order-17", "a" * 22, "x" * 21 + "A", "x" * 21 + "D", "x" * 21 + "v"])
def test_where_there_was_never_more_than_one_shard_each_key_stands_in_it(key: str) -> None:
    assert shards_of(key, (1,)) == (0,)


def test_a_key_that_a_caller_made_stands_where_its_hash_says_today_or_said_before() -> None:
    keys = [f"order-{number}" for number in range(1_000)]
    assert {hashed_shard("order-17", 4), hashed_shard("order-17", 8)} == {0, 4}, "the hash must stay as it is"
    for key in keys:
        assert shards_of(key, (4,)) == (hashed_shard(key, 4),)
        assert shards_of(key, (8, 1, 4))[0] == hashed_shard(key, 8)
        assert {*shards_of(key, (8, 1, 4))} == {hashed_shard(key, 8), 0, hashed_shard(key, 4)}
    counts = Counter(hashed_shard(key, 8) for key in keys)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_a_key_of_the_service_s_form_is_looked_up_both_ways() -> None:
    """A caller may have made one that tells another shard than 0; an import from more shards brings such."""
    key = new_task_key(3)
    assert {*shards_of(key, (4, 1))} == {3, hashed_shard(key, 4), 0}
    assert shards_of(key, (4, 1))[0] == 3
    assert {*shards_of(key, (2,))} == {hashed_shard(key, 2)}, "there is no shard 3"
    assert shards_of(new_task_key(), (4, 8, 1)) == (0,)
    assert 15 not in shards_of("x" * 21 + "v", (15,))
