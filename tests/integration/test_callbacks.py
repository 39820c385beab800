"""The engine schedules what the end of a task starts, whichever way it ends, and of an answer it keeps no more than is
told."""

import json
from typing import Any

import pytest
import redis.asyncio
from aiohttp import web

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.connection import KEPT_BYTES
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.callback import TOLD_BYTES
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.options import NONE, Callback, Options
from redis_scheduler.task.record import Record, read_record, record_tail
from redis_scheduler.task.timing import DEFAULT
from tests.integration.conftest import OneShard
from tests.integration.test_claims import claimed
from tests.support.names import KEYS
from tests.support.receiver import Receiver
from tests.support.store import Store

HOOK = "http://127.0.0.1:9/"
CALLBACKS = Options(on_success=Callback(webhook=f"{HOOK}well"), on_failure=Callback(webhook=f"{HOOK}ill"))


async def claim_with(client: RedisClient, store: Store, options: Options) -> Claim:
    """The claim of a task with these options."""
    task = NewTask(new_task_key(), 0, record_tail(HOOK, 0, None, b"1", options), None)
    await store.schedule([task])
    [claim], _ = await store.load(await claimed(client, store.name, 1))
    assert claim.key == task.key
    return claim


async def scheduled(raw: redis.asyncio.Redis) -> list[tuple[Record, dict[str, Any]]]:
    """The tasks in `due`, and what they are to tell."""
    keys: list[bytes] = await raw.execute_command("ZRANGE", KEYS.due, 0, -1)
    records = [read_record(await raw.execute_command("HGET", KEYS.tasks, key)) for key in keys]
    return [(record, json.loads(record.data or b"")) for record in records]


async def test_a_task_that_lost_its_workers_starts_its_task(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    claim = await claim_with(client, store, CALLBACKS)
    claim.tries = DEFAULT.lost_workers_most + 1
    engine.worker.accept([claim])
    await engine.outcomes.write()
    [(record, told)] = await scheduled(raw)
    assert record.webhook == f"{HOOK}ill"
    assert (told["event"], told["key"], told["attempts"]) == ("task.died", claim.key, 0)
    assert told["error"].startswith("worker lost: ")
    assert (told["status"], told["answer"]) == (None, None)


async def test_a_task_whose_time_is_over_starts_its_task_and_tells_the_last_status(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    claim = await claim_with(client, store, Options(expire=1, on_failure=CALLBACKS.on_failure))
    claim.record = Record(**{name: getattr(claim.record, name) for name in Record.__struct_fields__} | {"due": 1_000})
    claim.previous_status = 503
    engine.worker.accept([claim])
    await engine.outcomes.write()
    [(_, told)] = await scheduled(raw)
    assert (told["event"], told["attempts"], told["status"]) == ("task.expired", 0, 503)
    assert told["due"] == "1970-01-01T00:00:01.000Z"


async def test_an_end_that_does_not_count_starts_nothing(
    engine: OneShard, client: RedisClient, store: Store, raw: redis.asyncio.Redis
) -> None:
    claim = await claim_with(client, store, CALLBACKS)
    claim.tries = DEFAULT.lost_workers_most + 1
    assert len(await store.cancel([(claim.key, None)])) == 1
    engine.worker.accept([claim])
    await engine.outcomes.write()
    assert await scheduled(raw) == []
    assert await raw.hlen(KEYS.tasks) == 0


@pytest.mark.parametrize(
    ("options", "status", "kept"),
    [
        (NONE, 200, 0),
        (Options(retries=1), 200, 0),
        (CALLBACKS, 200, TOLD_BYTES),
        (NONE, 500, KEPT_BYTES),
        (CALLBACKS, 500, TOLD_BYTES),
    ],
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_of_an_answer_no_more_is_kept_than_is_told(
    receiver: Receiver, options: Options, status: int, kept: int, is_chunked: bool
) -> None:
    body = bytes(range(256)) * 128

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        if not is_chunked:
            response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), 1_000):
            await response.write(body[start : start + 1_000])
        return response

    receiver.behaviour = answer
    record = read_record(b'{"due":7' + record_tail(receiver.url, 0, None, None, options))
    async with Deliverer("test-token", 5) as deliverer:
        for _ in range(2):  # the second on the same connection, where an answer before it has left nothing
            outcome = await deliverer.attempt(Claim("1-1", "key", record, 0))
            assert (outcome.status, outcome.answer) == (status, body[:kept])
        plain = read_record(b'{"due":7' + record_tail(receiver.url, 0, None, None))
        outcome = await deliverer.attempt(Claim("1-1", "key", plain, 0))
        assert outcome.answer == (body[:KEPT_BYTES] if status == 500 else b"")
