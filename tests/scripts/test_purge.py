"""purge: deletes every task of this service, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store import retention as retention_of
from redis_scheduler.store import writes
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.retention import CLEANED_MEMBERS, Retention
from redis_scheduler.task.kept import NO_RESULTS
from redis_scheduler.task.label import LABEL_MARK, index_of
from redis_scheduler.task.listing import TOKEN_MARK
from redis_scheduler.task.timing import DEFAULT
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import MAKERS, MISSING, ask, claimed, in_delivery, in_due, new_task, queued, state_of
from tests.support.names import KEYS
from tests.support.store import Store


@pytest.mark.parametrize("state", MAKERS)
async def test_a_purge_deletes_a_task_in_any_state_and_counts_it(
    state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await MAKERS[state][0](store)
    before = await counters(raw)
    assert await store.purge() == (0 if state == "missing" else 1)
    assert await state_of(raw, task.key) == MISSING
    # The dead were counted when they died.
    assert await counters(raw) == before | ({} if state in ("missing", "dead") else {"purged": 1})


async def test_after_a_purge_of_everything_only_counters_group_and_writers_are_left(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    for make, _ in MAKERS.values():
        await make(store)
    await store.schedule([new_task(type_name="mail")])
    await ask(raw, "SET", "another-service", "1")
    assert await store.purge() == len(MAKERS)
    writers = {KEYS.writer(store.name, verb).encode() for verb in ("schedule", "pause", "purge")}
    left = await dump(raw)
    assert (
        set(left)
        == {getattr(KEYS, name).encode() for name in ("counters", "queue", "series_listed")}
        | {b"group", b"pending", b"another-service"}
        | writers
    )
    assert (left[KEYS.queue.encode()], left[b"pending"]) == ([], [])


def retention(store: Store) -> Retention:
    return Retention(store.client, NO_RESULTS)


async def of_types(store: Store, names: Sequence[str]) -> None:
    """Schedule a task of each type."""
    for start in range(0, len(names), DEFAULT.batch_limit):
        await store.schedule([new_task(type_name=name) for name in names[start : start + DEFAULT.batch_limit]])


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a purge delete fewer indexes itself, so that some remain."""
    monkeypatch.setattr(writes, "PURGED_TYPES", 50)


async def test_all_of_some_types_are_deleted_at_once(store: Store, raw: redis.asyncio.Redis) -> None:
    names = [f"type-{number}" for number in range(writes.PURGED_TYPES)]
    await of_types(store, names)
    assert await store.purge() == len(names)
    assert await ask(raw, "KEYS", KEYS.type_index("*")) == []
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.remains) == 0
    assert await counters(raw) == {"scheduled": len(names), "purged": len(names)}


async def test_what_remains_of_more_types_is_cleaned_in_steps(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis
) -> None:
    names = [f"type-{number}" for number in range(2 * DEFAULT.batch_limit + 50)]
    await of_types(store, names)
    assert await store.purge() == len(names)
    assert await ask(raw, "SCARD", KEYS.types) == len(names) - 50
    assert await ask(raw, "EXISTS", KEYS.remains) == 1
    assert not await retention(store).clean(0)
    assert await ask(raw, "EXISTS", KEYS.remains) == 1
    assert await retention(store).clean(60)
    assert await ask(raw, "KEYS", KEYS.type_index("*")) == []
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.remains) == 0
    assert await counters(raw) == {"scheduled": len(names), "purged": len(names)}


async def test_a_call_that_has_looked_at_enough_leaves_no_index_half_looked_at(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await of_types(store, [f"type-{number}" for number in range(90)])
    await store.purge()
    await in_due(store)
    for most in (1, 2, 3, 7):  # members and names come to it exactly, or not
        monkeypatch.setattr(retention_of, "CLEANED_MEMBERS", most)
        names = await ask(raw, "SRANDMEMBER", KEYS.types, 8)
        cleaned, cursor = await retention(store)._clean(names, "0")
        assert (0 < cleaned < 8, cursor) == (True, "0")
        assert await ask(raw, "EXISTS", *(KEYS.type_index(name.decode()) for name in names)) == 8 - cleaned
    assert await retention(store).clean(60)
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.remains) == 0


async def test_the_next_purge_cleans_what_remains_too(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis
) -> None:
    await of_types(store, [f"type-{number}" for number in range(90)])
    await store.purge()
    assert await ask(raw, "EXISTS", KEYS.remains) == 1
    assert await store.purge() == 0
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.remains) == 0


async def test_what_comes_behind_a_purge_stays_and_is_listed(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"type-{number}" for number in range(2 * DEFAULT.batch_limit)]
    await of_types(store, names)
    await store.schedule([new_task(type_name="crowded") for _ in range(3 * CLEANED_MEMBERS)])
    new: list[NewTask] = []
    command = store.client.command

    async def interrupted(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "SSCAN":
            kind = ("crowded", "new", *names)[len(new)]
            new.append(new_task(type_name=(kind, index_of("user=anna"), index_of(f"order={len(new)}"))))
            await store.schedule([new[-1]])
        return await command(name, *arguments, **more)

    monkeypatch.setattr(store.client, "command", interrupted)
    assert await store.purge() == len(names) + 3 * CLEANED_MEMBERS
    assert await retention(store).clean(60)
    assert new
    assert await ask(raw, "HLEN", KEYS.tasks) == await ask(raw, "ZCARD", KEYS.due) == len(new)
    expected: dict[str, set[str]] = {}
    for task in new:
        for name in task.listed or ():
            expected.setdefault(name, set()).add(task.key)
    assert await typed_keys(raw) == expected
    assert len(await ask(raw, "KEYS", f"{KEYS.tag}:type:*")) == sum(
        not name.startswith(LABEL_MARK) for name in expected
    )
    assert await counters(raw) == {
        "scheduled": len(names) + 3 * CLEANED_MEMBERS + len(new),
        "purged": len(names) + 3 * CLEANED_MEMBERS,
    }


async def test_what_remains_of_a_token_is_no_longer_counted(
    store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, one = f"{TOKEN_MARK}0123456789", f"{TOKEN_MARK}abcdef0123"
    for _ in range(5):
        await store.schedule([new_task(type_name=many) for _ in range(DEFAULT.batch_limit)])
    await store.schedule([new_task(type_name=("mail", one))])
    monkeypatch.setattr(writes, "PURGED_TYPES", 0)
    monkeypatch.setattr(retention_of, "CLEANED_MEMBERS", 300)
    await store.purge()
    left = [new_task(type_name=many) for _ in range(3)]
    await store.schedule(left)
    assert await retention(store).clean(60)
    assert await typed_keys(raw) == {many: {task.key for task in left}}
    assert await ask(raw, "EXISTS", KEYS.owned("abcdef0123")) == 0
    await store.cancel([(task.key, many) for task in left])
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.owned("0123456789")) == 0


async def test_a_purge_in_the_middle_of_the_cleaning_is_cleaned_behind(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await of_types(store, [f"type-{number}" for number in range(90)])
    await store.purge()
    command = store.client.command

    async def interrupted(name: str, *arguments: Any, **more: Any) -> Any:
        found = await command(name, *arguments, **more)
        if name == "SSCAN":
            await of_types(store, [f"later-{number}" for number in range(120)])
            await store.purge()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "command", interrupted)
        assert await retention(store).clean(60)
    assert await ask(raw, "EXISTS", KEYS.remains) == 1
    assert await retention(store).clean(60)
    assert await ask(raw, "EXISTS", KEYS.types, KEYS.remains) == 0


async def test_a_foreign_key_in_the_place_of_an_index_stays(
    few_at_once: None, store: Store, raw: redis.asyncio.Redis
) -> None:
    await of_types(store, [f"type-{number}" for number in range(120)])
    for number in range(120):
        await ask(raw, "DEL", KEYS.type_index(f"type-{number}"))
        await ask(raw, "SET", KEYS.type_index(f"type-{number}"), "foreign")
    await store.purge()
    new = await in_due(store, "mail")
    assert await retention(store).clean(60)
    assert len(await ask(raw, "KEYS", KEYS.type_index("type-*"))) == 120
    assert await ask(raw, "SMEMBERS", KEYS.types) == [b"mail"]
    await store.cancel([(new.key, "mail")])


async def test_what_is_scheduled_after_a_purge_is_delivered_and_what_was_in_delivery_has_no_say(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    old = await in_delivery(store)
    await store.purge()
    new = await queued(store)
    assert await store.settle([old.claim]) == [0]
    assert await store.release([old.claim]) == [0]
    [claim] = await claimed(store, 1)
    assert claim.key == new.key
    assert await store.settle([claim]) == [1]


async def test_a_reader_that_was_connected_before_the_purge_goes_on(store: Store) -> None:
    reader = QueueReader(store.client, store.name)
    first = await queued(store)
    assert [entry.key for entry in await reader.claim(10)] == [first.key]
    await store.purge()
    second = await queued(store)
    assert [entry.key for entry in await reader.claim(10)] == [second.key]
    await reader.aclose()
