"""rekey: what another key has sealed, or none, is sealed by the first; nothing else of a task changes."""

import os
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreFull
from redis_scheduler.store import rekeying
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import SealedKeys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.rekeying import Counts, Left, Rekeying
from redis_scheduler.store.vault import Vault, Why
from redis_scheduler.store.walk import STEP_BYTES
from redis_scheduler.task.failure import read_attempts
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.label import index_of
from redis_scheduler.task.listing import TOKEN_MARK, Listing, listing_of
from redis_scheduler.task.record import read_record
from tests.scripts import states
from tests.scripts.conftest import Full
from tests.scripts.contents import dump
from tests.scripts.indexes import LETTER_BYTES, letters_of
from tests.scripts.states import MAKERS, ask
from tests.support.audit import assert_whole
from tests.support.names import KEYS, TEST_KEY
from tests.support.store import Store

Redis = redis.asyncio.Redis
OLD, NEW = TEST_KEY, os.urandom(32)


@pytest.fixture
async def old(redis_url: str, client: RedisClient) -> AsyncIterator[Store]:
    """A store that seals with the old key."""
    sealing = RedisClient(redis_url, 3, SealedKeys(KEYS.tag, Vault([OLD])))
    yield Store(sealing, "worker-b")
    await sealing.aclose()


async def done(
    client: RedisClient, *given: bytes, writes: bool = True, refuses: bool = False
) -> tuple[Counts, list[Left]]:
    work = Rekeying(client, Vault(given, refuses), writes)
    return work.counts, [left async for step in work.run() for left in step]


async def content(raw: Redis) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The records and failures."""
    answers = [await ask(raw, "HGETALL", place) for place in (KEYS.tasks, KEYS.failures)]
    records, failures = (dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers)
    return records, failures


async def around(raw: Redis) -> dict[bytes, object]:
    """All else that Redis holds."""
    found = await dump(raw)
    for place in (KEYS.tasks, KEYS.failures, KEYS.dead_bytes):
        found.pop(place.encode(), None)
    return found


@pytest.mark.parametrize("state", [state for state in MAKERS if state != "missing"])
async def test_a_task_is_sealed_anew_wherever_it_stands_and_stays_there(
    state: str, old: Store, client: RedisClient, raw: Redis
) -> None:
    make, expected = MAKERS[state]
    for store, keys in ((Store(client, "worker-a"), [NEW]), (old, [NEW, OLD])):
        task = await make(store)
        before = await around(raw)
        opened = Vault(keys).read_record(task.key, await states.stored_of(raw, task.key))
        counts, left = await done(client, *keys)
        assert (counts.resealed, left) == (1 + expected.attempts, [])
        assert await around(raw) == before
        records, failures = await content(raw)
        record, failure = records[task.key.encode()], failures.get(task.key.encode(), b"")
        assert Vault([NEW]).read_record(task.key, record) == opened
        assert opened.webhook
        attempts, sealed = read_attempts(failure)
        assert attempts == expected.attempts
        assert Vault([NEW]).open_failure(task.key, sealed) == (states.FAILURE if attempts else None)
        sizes = {task.key: LETTER_BYTES + len(record) + len(failure)} if state == "dead" else {}
        assert await letters_of(raw) == sizes
        assert (await done(client, NEW, writes=False))[0].is_done
        await store.cancel([(task.key, None)])


TOKEN = TOKEN_MARK + "0123456789"
LISTED: list[Listing] = ["mail", ("mail", index_of("order=1")), (index_of("order=1"),), TOKEN, ("mail", TOKEN)]


@pytest.mark.parametrize("listed", LISTED)
async def test_a_task_stays_in_its_lists(listed: Listing, store: Store, client: RedisClient, raw: Redis) -> None:
    for keys in ([OLD], [NEW, OLD]):
        task = await states.in_due(store, listed)
        before = await dump(raw)
        assert (await done(client, *keys))[0].resealed
        found = read_record(await states.stored_of(raw, task.key))
        assert listing_of(found.type, found.options, found.token) == listed
        await assert_whole(client)
        changed = {name for name, held in (await dump(raw)).items() if before[name] != held}
        counted = {KEYS.owned("0123456789").encode()} if found.token else set()
        assert changed == {KEYS.tasks.encode(), *counted}


async def test_what_needs_another_key_is_counted_and_a_count_changes_nothing(
    old: Store, client: RedisClient, raw: Redis
) -> None:
    sealed, failed, plain = (
        await states.in_due(old),
        await states.deferred(old),
        await states.in_due(Store(client, "b")),
    )
    before = await dump(raw)
    counts, left = await done(client, NEW, OLD, writes=False)
    assert (counts.seen, counts.resealed, counts.is_done, left) == (4, 4, False, [])
    counts, left = await done(client, NEW, writes=False)
    assert sorted(left) == sorted(
        Left(task.key.encode(), place, Why.OTHER_KEY)
        for task, place in ((sealed, "tasks"), (failed, "tasks"), (failed, "failures"))
    )
    assert (counts.left[Why.OTHER_KEY], counts.resealed, counts.is_done) == (3, 1, False)
    assert await dump(raw) == before
    counts, left = await done(client, NEW)
    assert (counts.resealed, counts.left[Why.OTHER_KEY]) == (1, 3)
    assert not (await done(client, NEW, writes=False))[0].is_done
    assert read_record(await states.stored_of(raw, plain.key)).unknown == "seal"


async def test_what_other_hands_changed_is_left_as_it_is_and_told(old: Store, client: RedisClient, raw: Redis) -> None:
    moved, other, failed = await states.in_due(old), await states.in_due(old), await states.deferred(old)
    stored = await states.stored_of(raw, other.key)
    await ask(raw, "HSET", KEYS.tasks, moved.key, stored)
    for place, key in ((KEYS.tasks, other.key), (KEYS.failures, failed.key)):
        value = await ask(raw, "HGET", place, key)
        await ask(raw, "HSET", place, key, value[:-9] + (b"A" if value[-9:-8] != b"A" else b"B") + value[-8:])
    # The name of its key, and its seal, where no version would put them.
    strange = b'{"due":1, "seal":"00000000","webhook":"http://localhost/","ttl":1}'
    await ask(raw, "HSET", KEYS.failures, moved.key, b'1 {"sealed":"x')
    await ask(raw, "HSET", KEYS.tasks, "strange", strange)
    before = await content(raw)
    counts, left = await done(client, NEW, OLD)
    assert sorted(left) == sorted(
        Left(key, place, Why.CHANGED)
        for key, place in (
            *((moved.key.encode(), "tasks"), (other.key.encode(), "tasks"), (b"strange", "tasks")),
            *((moved.key.encode(), "failures"), (failed.key.encode(), "failures")),
        )
    )
    assert counts.resealed == 1
    after = await content(raw)
    assert {key for key in before[0] if before[0][key] != after[0][key]} == {failed.key.encode()}
    assert after[1] == before[1]
    assert not (await done(client, NEW, writes=False))[0].is_done
    await ask(raw, "HDEL", KEYS.tasks, "strange")
    await ask(raw, "HDEL", KEYS.failures, moved.key)


async def test_with_plain_records_refused_none_is_made_a_good_one(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    task = await states.deferred(store)
    before = await dump(raw)
    counts, left = await done(client, NEW, refuses=True)
    assert left == [Left(task.key.encode(), place, Why.PLAIN) for place in ("tasks", "failures")]
    assert await dump(raw) == before
    assert counts.is_done, "it needs no older key"


async def test_what_is_no_record_is_left_as_it_is(store: Store, client: RedisClient, raw: Redis) -> None:
    task = await states.in_due(store)
    for value in (b"", b"x", b"[1]", b'{"due":"x"}', b'{"webhook":"http://localhost/","ttl":1,"due":1}', b"\xff"):
        await ask(raw, "HSET", KEYS.tasks, task.key, value)
        for key in (task.key, b"\xff\n"):
            await ask(raw, "HSET", KEYS.failures, key, "2")
        counts, left = await done(client, NEW)
        assert left == [Left(task.key.encode(), "tasks", Why.UNREADABLE)]
        assert counts.is_done
        assert await states.stored_of(raw, task.key) == value
    await ask(raw, "DEL", KEYS.failures)
    await store.cancel([(task.key, None)])


async def test_many_are_sealed_in_steps_and_a_walk_that_was_cut_off_is_made_again(
    old: Store, client: RedisClient, raw: Redis
) -> None:
    large = states.tail(data=b'"' + 300_000 * b"x" + b'"')
    tasks = [states.new_task() for _ in range(600)]
    tasks += [NewTask(new_task_key(), states.TTL_MS, large, None) for _ in range(20)]
    for start in range(0, len(tasks), 100):
        await old.schedule(tasks[start : start + 100])
    work, steps = Rekeying(client, Vault([NEW, OLD]), writes=True), 0
    walk = work.run()
    async for _ in walk:
        steps += 1
        if work.counts.resealed > 200:
            break
    await walk.aclose()  # type: ignore[attr-defined]  # a generator
    assert work.counts.resealed < 620
    assert (await done(client, NEW, OLD, writes=False))[0].resealed == 620 - work.counts.resealed
    assert (await done(client, NEW, OLD))[0].resealed == 620 - work.counts.resealed
    counts, _ = await done(client, NEW, OLD)
    assert (counts.seen >= 620, counts.resealed, counts.is_done) == (True, 0, True)


def test_a_call_is_given_no_more_than_a_step() -> None:
    sizes = [STEP_BYTES, 1, *[10] * 150, STEP_BYTES * 3, STEP_BYTES - 5, 5, 1]
    parts = list(rekeying._parts(sizes, lambda size: size))
    assert [one for part in parts for one in part] == sizes
    assert all(len(part) == 1 or (len(part) <= 100 and sum(part) <= STEP_BYTES) for part in parts)
    assert len(parts) == 6


async def test_what_was_changed_meanwhile_is_not_replaced(old: Store, client: RedisClient, raw: Redis) -> None:
    task, gone = await states.deferred(old), await states.missing(old)
    row = rekeying._Row("tasks", task.key.encode(), await states.stored_of(raw, task.key), b"new")
    work = Rekeying(client, Vault([NEW, OLD]), writes=True)
    await old.update([await states.change(old, task)])
    before = await dump(raw)
    others = [rekeying._Row(place, gone.key.encode(), b"old", b"new") for place in ("tasks", "failures")]
    assert await work._replace([row, *others]) == [task.key.encode(), *[gone.key.encode()] * 2]
    assert await dump(raw) == before
    stored = {task.key.encode(): await states.stored_of(raw, task.key)}
    [row] = work._rows("tasks", stored, [])
    assert [await work._replace([row]) for _ in range(2)] == [[], [row.key]]


async def test_a_full_redis_is_left_as_it_is(full: Full, store: Store, client: RedisClient, raw: Redis) -> None:
    tasks = [await states.deferred(store) for _ in range(2)]
    before = await dump(raw)
    async with full():
        with pytest.raises(StoreFull):
            await done(client, NEW)
        assert await dump(raw) == before
        assert (await done(client, NEW, writes=False))[0].resealed == 4
    used = int(
        dict(line.split(b":") for line in (await ask(raw, "INFO", "memory")).split() if b":" in line)[b"used_memory"]
    )
    await ask(raw, "CONFIG", "SET", "maxmemory", used + used // 20)
    work = Rekeying(client, Vault([NEW]), writes=True, reserve=0.5)
    with pytest.raises(StoreFull, match="MEMORY_RESERVE"):
        assert [step async for step in work.run()]
    assert await dump(raw) == before
    # What does not grow goes on within the reserve.
    await done(client, NEW)
    work = Rekeying(client, Vault([OLD, NEW]), writes=True, reserve=0.5)
    assert [step async for step in work.run() if step] == []
    assert work.counts.resealed == 4
    await ask(raw, "CONFIG", "SET", "maxmemory", 0)
    assert await ask(raw, "HLEN", KEYS.tasks) == len(tasks)
