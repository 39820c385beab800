"""Records: no script decodes one, so the bytes of `data` stay what the client sent."""

import pytest
import redis.asyncio

from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.written import Change
from redis_scheduler.task.record import decode_record
from tests.scripts.states import claimed, dead, in_due, new_task, record_of, stored_of, tail
from tests.support.store import Store, letters

BODIES = {
    "nothing": None,
    "null": b"null",
    "empty containers": b'[[],{},[{}],""]',
    "an empty list": b"[]",
    "big integers": b"[12345678901234567890123,9007199254740993,-0,1e400]",
    "fractions": b"[1.10,0.1e-7,100000000000000000000.0]",
    "unicode": '"äöü ☃ 😀 \u2028"'.encode(),
    "escapes": rb'"\u0000\ud83d\ude00\/\\\""',
    "whitespace": b' {\n\t"a" :  [ 1 , 2 ]\r\n} ',
    "names of the record's own": b'{"due":1,"data":{"due":2,"data":"}"},"webhook":",\\"data\\":"}',
    "repeated members": b'{"a":1,"a":2}',
    "format characters": b'"%s %d %.0f %1 %% $1 \\\\1"',
    "many": b"[" + b"[]," * 20_000 + b"0]",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_data_is_delivered_as_it_was_scheduled(body: bytes | None, store: Store) -> None:
    new = new_task(0)
    await store.schedule([NewTask(new.key, 0, tail(0, data=body), None)])
    [claim] = await claimed(store, 1)
    assert claim.record.data == body


@pytest.mark.parametrize("ttl_ms", [None, 5_000])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_data_stays_as_it_was_updated(
    body: bytes | None, ttl_ms: int | None, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_due(store)
    before, due_ms = await stored_of(raw, task.key), decode_record(await record_of(raw, task.key)).due
    change = Change(task.key, before, tail(data=body), ttl_ms, due_ms, None, None)
    assert letters((await store.update([change]))[1]) == "U"
    after = decode_record(await record_of(raw, task.key))
    assert after.data == body
    # And it is compared as bytes: what was read can be replaced again.
    again = Change(task.key, await stored_of(raw, task.key), tail(data=body), ttl_ms, after.due, None, None)
    assert letters((await store.update([again]))[1]) == "U"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_data_stays_as_it_was_replayed(body: bytes | None, store: Store, raw: redis.asyncio.Redis) -> None:
    task = await dead(store)
    change = Change(task.key, await stored_of(raw, task.key), tail(data=body), 5_000, 0, None, None)
    assert letters((await store.replay([change]))[1]) == "U"
    assert decode_record(await record_of(raw, task.key)).data == body
