"""The walk of the audit: each step is bounded, however large or many the records are, and nothing is passed over."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.audit import SAMPLE_BYTES, SAMPLE_LIMIT, sample
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.script import Script
from redis_scheduler.store.views import Views
from redis_scheduler.store.walk import LOOK_LIMIT, STEP_BYTES, Walk, _Batch
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.scripts.indexes import typed_keys
from tests.scripts.states import ask, claimed, new_task
from tests.scripts.test_audit import by_kind, found, repaired
from tests.support.names import KEYS
from tests.support.store import Store

Redis = redis.asyncio.Redis


@pytest.fixture
def answers(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each answer that the client gets."""
    sizes: list[int] = []
    resending = client.resending

    async def noted(send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await resending(send)
        sizes.append(size_of(answer))
        return answer

    monkeypatch.setattr(client, "resending", noted)
    return sizes


def size_of(answer: Any) -> int:
    return sum(map(size_of, answer)) if isinstance(answer, list) else len(answer) if isinstance(answer, bytes) else 8


async def test_large_records_make_no_large_answer(store: Store, client: RedisClient, answers: list[int]) -> None:
    large = b'"' + 250_000 * b"x" + b'"'
    tasks = [NewTask(new_task_key(), 600_000, states.tail(data=large, type_name="mail"), "mail") for _ in range(60)]
    for start in range(0, len(tasks), 10):
        await store.schedule(tasks[start : start + 10])
    answers.clear()
    assert await found(client) == []
    # HSCAN answers whole buckets, which hold more than it was asked for: no body of a task comes with them.
    assert max(answers) < 100_000
    assert len(answers) > 60 * 250_000 // (2 * STEP_BYTES), "steps are small where records are large"


@pytest.mark.parametrize("large_bytes", [SAMPLE_BYTES, 4_000_000])
async def test_a_start_reads_no_more_than_its_room_however_large_records_are(
    large_bytes: int, store: Store, client: RedisClient, raw: Redis
) -> None:
    data = b'"' + large_bytes * b"x" + b'"'
    tasks = [NewTask(new_task_key(), 600_000, states.tail(data=data), None) for _ in range(SAMPLE_LIMIT)]
    for task in tasks:
        await store.schedule([task])
    took_us = []
    for _ in range(5):  # whatever else runs on the machine holds up some of them
        await ask(raw, "CONFIG", "RESETSTAT")
        assert await sample(client) == []
        stats = re.findall(rb"cmdstat_eval(?:sha)?:calls=[0-9]+,usec=([0-9]+)", await ask(raw, "INFO", "commandstats"))
        took_us.append(sum(map(int, stats)))
    assert 0 < min(took_us) < 20_000, "ten records of 4 MB took 50 to 150 ms"
    # What is too large to be read is looked at all the same.
    await ask(raw, "ZADD", KEYS.dead, 1, *[text for task in tasks for text in (1, task.key)][1:])
    assert by_kind(await sample(client)) == {"several places": {task.key for task in tasks}}
    await repaired(client)


@pytest.mark.parametrize("end", [b"}", b',"data":{"n":1}}'])
async def test_the_head_of_a_record_with_options_is_as_long_as_it_says(end: bytes, raw: Redis) -> None:
    members = b',"webhook":"http://host/","ttl":5,"z":{"a":"b","data":"c"}'
    front = b'{"due":7,"head":%d%b' % (len(members), members)
    await ask(raw, "HSET", "records", "key", front + end)
    answer = await ask(raw, "EVAL", Script("heads").text, 1, "records", 1_000, 1_000, "", "", "key")
    assert answer == [b"", b"key", front + b"}", len(front + end)]


async def test_of_records_that_are_named_as_many_are_read_as_there_is_room_for(raw: Redis) -> None:
    sizes = [100, 101, 50, 0, 51, 50]
    for number, size in enumerate(sizes):
        await ask(raw, "HSET", "records", f"key{number}", size * b"x")
    names = [f"key{number}" for number in range(len(sizes))]
    answer = await ask(raw, "EVAL", Script("heads").text, 1, "records", 10, 200, "", "", *names, "gone")
    heads, told = answer[2::3], answer[3::3]
    assert told == [*sizes, 0]
    assert heads == [10 * b"x", None, 10 * b"x", b"", None, 10 * b"x", None]


async def test_the_audit_reads_each_of_many_large_records_of_a_type(
    store: Store, client: RedisClient, raw: Redis
) -> None:
    data = b'"' + 700_000 * b"x" + b'"'
    tasks = [NewTask(new_task_key(), 600_000, states.tail(data=data, type_name="mail"), "mail") for _ in range(8)]
    for task in tasks:
        await store.schedule([task])
    walk = Walk(client)
    records = await walk.records([task.key.encode() for task in tasks] + [b"gone"])
    assert [(record and record.type) for _, record in records] == ["mail"] * 8 + [None]
    await ask(raw, "ZADD", KEYS.type_index("other"), *[text for task in tasks for text in (1, task.key)])
    await ask(raw, "SADD", KEYS.types, "other")
    assert by_kind(await found(client)) == {"wrongly listed": {task.key for task in tasks}}
    await repaired(client)


def test_a_small_record_before_large_ones_makes_no_large_step() -> None:
    batch = _Batch()
    for limit in (2, 4, 8):
        batch.note(1, 5)
        assert batch.limit == limit
    batch.note(7, 7 * STEP_BYTES)
    assert batch.limit == 1


async def test_every_stray_entry_and_pending_id_of_many_is_found(store: Store, client: RedisClient, raw: Redis) -> None:
    ids = {await ask(raw, "XADD", KEYS.queue, "*", "key", "gone") for _ in range(2 * LOOK_LIMIT + 50)}
    strays = {entry_id.decode() for entry_id in ids}
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", KEYS.queue, ">")
    assert by_kind(await found(client)) == {"stray entry": strays}
    await ask(raw, "XDEL", KEYS.queue, *ids)
    assert by_kind(await found(client)) == {"stray pending": strays}
    assert len(await found(client, repairs=True)) == len(strays)
    assert await found(client) == []


async def test_small_records_are_read_many_at_once_and_every_one_is_looked_at(
    store: Store, client: RedisClient, raw: Redis, answers: list[int]
) -> None:
    tasks = [new_task(number % 2 * 600_000, "mail") for number in range(12 * DEFAULT.batch_limit)]
    for start in range(0, len(tasks), DEFAULT.batch_limit):
        await store.schedule(tasks[start : start + DEFAULT.batch_limit])
    await claimed(store, DEFAULT.batch_limit + 1)
    answers.clear()
    assert await found(client) == []
    assert len(answers) < len(tasks) // 6
    await ask(raw, "DEL", KEYS.due, KEYS.queue, KEYS.entries)
    assert by_kind(await found(client)) == {"nowhere": {task.key for task in tasks}}
    assert len(await found(client, repairs=True)) == len(tasks)
    assert await typed_keys(raw) == {"mail": {task.key for task in tasks}}
    assert (await Views(client).ledger()).due == len(tasks)
