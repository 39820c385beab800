"""Every call may be sent twice: the second does nothing, whatever became of the task in between."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.claiming import Claimed, Promotion
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.retention import Trim
from redis_scheduler.store.written import Put
from redis_scheduler.task.claim import Entry
from tests.scripts.contents import dump
from tests.scripts.states import (
    MISSING,
    Task,
    awaiting,
    change,
    claimed,
    dead,
    in_delivery,
    in_due,
    kept,
    missing,
    new_task,
    overdue,
    state_of,
    tail,
    waiting,
)
from tests.scripts.verbs import VERBS, said
from tests.support.names import KEYS
from tests.support.store import Store, letters
from tests.support.waiting import wait_until

Call = Callable[[], Awaitable[Any]]


async def schedule_call(store: Store) -> tuple[Call, str]:
    new = replace(new_task(0, "mail"), tail=tail(0, "mail"))
    return lambda: store.schedule([new]), new.key


async def delayed_schedule_call(store: Store) -> tuple[Call, str]:
    new = new_task(1)
    return lambda: store.schedule([new]), new.key


async def update_call(store: Store) -> tuple[Call, str]:
    task = await in_delivery(store)
    changes = [await change(store, task)]
    return lambda: store.update(changes), task.key


async def delayed_update_call(store: Store) -> tuple[Call, str]:
    task = await waiting(store)
    changes = [await change(store, task, ttl_ms=1)]
    return lambda: store.update(changes), task.key


async def replay_call(store: Store) -> tuple[Call, str]:
    task = await dead(store)
    changes = [await change(store, task, ttl_ms=1)]
    return lambda: store.replay(changes), task.key


async def restore_call(store: Store) -> tuple[Call, str]:
    task = await missing(store, "mail")
    wanted = [kept(task, in_ms=0)]
    return lambda: store.restore(wanted), task.key


async def put_call(store: Store) -> tuple[Call, str]:
    task = await in_delivery(store)
    put = Put(replace(new_task(1), key=task.key), await store.client.command("HGET", KEYS.tasks, task.key), None)
    return lambda: store.put([put]), task.key


async def new_put_call(store: Store) -> tuple[Call, str]:
    put = Put(replace(new_task(1), key="own:key"), b"", None)
    return lambda: store.put([put]), "own:key"


async def cancel_call(store: Store) -> tuple[Call, str]:
    task = await in_delivery(store)
    return lambda: store.cancel([(task.key, None)]), task.key


async def cancel_and_keep_call(store: Store) -> tuple[Call, str]:
    task = await in_delivery(store)
    return lambda: VERBS["cancel and keep"].call(store, task), task.key


async def discard_call(store: Store) -> tuple[Call, str]:
    task = await dead(store)
    return lambda: store.discard([task.key]), task.key


async def pause_call(store: Store) -> tuple[Call, str]:
    task = await waiting(store)
    return lambda: store.pause([task.key]), task.key


async def resume_call(store: Store) -> tuple[Call, str]:
    task = await overdue(store)
    await store.pause([task.key])
    return lambda: store.resume([task.key]), task.key


async def run_call(store: Store) -> tuple[Call, str]:
    task = await waiting(store)
    return lambda: store.run([task.key]), task.key


async def run_series_call(store: Store) -> tuple[Call, str]:
    """A call that is sent again was not told before."""
    task = await in_due(store)
    return lambda: store.run([task.key], are_series=[1]), task.key


async def acknowledge_call(store: Store) -> tuple[Call, str]:
    task = await awaiting(store)
    return lambda: store.acknowledge([said(task)]), task.key


async def purge_call(store: Store) -> tuple[Call, str]:
    task = await in_due(store, "mail")
    return store.purge, task.key


WRITES = {
    "schedule": schedule_call,
    "schedule with a delay": delayed_schedule_call,
    "update": update_call,
    "update with a delay": delayed_update_call,
    "replay": replay_call,
    "restore": restore_call,
    "put": put_call,
    "put of a new task": new_put_call,
    "cancel": cancel_call,
    "cancel and keep": cancel_and_keep_call,
    "discard": discard_call,
    "pause": pause_call,
    "resume": resume_call,
    "run": run_call,
    "run of a series": run_series_call,
    "acknowledge": acknowledge_call,
    "purge": purge_call,
}
DELIVERS = [name for name in WRITES if name not in ("cancel", "cancel and keep", "discard", "pause", "purge")]


def send_again(store: Store, name: str) -> None:
    """Make the store's next call of the verb one with the last batch number, as a resend has."""
    store._batch_numbers[name.split()[0]] -= 1


@pytest.mark.parametrize("name", WRITES)
async def test_a_resent_write_answers_as_the_first_did_and_changes_nothing(
    name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    call, _ = await WRITES[name](store)
    answer = await call()
    before = await dump(raw)
    send_again(store, name)
    assert await call() == answer
    assert await dump(raw) == before


@pytest.mark.parametrize("name", DELIVERS)
async def test_a_write_resent_after_the_delivery_does_not_bring_the_task_back(
    name: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    call, key = await WRITES[name](store)
    answer = await call()

    async def in_queue() -> bool:
        await store.promote()
        return (await state_of(raw, key)).place == "queued"

    await wait_until(in_queue, "the task is queued", every_s=0.001)
    assert await store.settle(await claimed(store, 1)) == [1]
    before = await dump(raw)
    send_again(store, name)
    assert await call() == answer
    assert await dump(raw) == before
    assert await state_of(raw, key) == MISSING


async def test_a_resent_purge_spares_what_was_scheduled_after_it(store: Store, raw: redis.asyncio.Redis) -> None:
    await in_due(store)
    assert await store.purge() == 1
    later = [await in_due(store), await in_delivery(store)]
    before = await dump(raw)
    send_again(store, "purge")
    assert await store.purge() == 1
    assert await dump(raw) == before
    assert letters(await store.cancel([(task.key, None) for task in later])) == "CD"


async def test_a_batch_that_its_writer_has_given_up_comes_too_late(store: Store, raw: redis.asyncio.Redis) -> None:
    first, second, third = [await in_due(store) for _ in range(3)]
    for task in (first, second):
        await store.cancel([(task.key, None)])
    before = await dump(raw)
    store._batch_numbers["cancel"] -= 2
    with pytest.raises(StoreUnavailable, match="later one"):
        await store.cancel([(third.key, None)])
    assert await dump(raw) == before


async def test_two_writers_with_the_same_numbers_do_not_meet(
    store: Store, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    tasks = [await in_due(store), await in_due(Store(client, "worker-b"))]
    answers = [
        await each.cancel([(task.key, None)])
        for each, task in zip((store, Store(client, "worker-b")), tasks, strict=True)
    ]
    assert list(map(letters, answers)) == ["C", "C"]


NOTHING: dict[str, Any] = {
    "promote": Promotion(0, None),
    "promote and claim": Promotion(0, None),
    "promote in turn": Promotion(0, None),
    "promote in turn and claim": Promotion(0, None),
    "promote into a line": Promotion(0, 0.005),
    "promote out of a line": Promotion(0, None),
    "claim": Claimed(),
    "settle": [0],
    "finish": [0],
    "retry": [0],
    "defer": [0],
    "bury": [0],
    "expire": [0],
    "expire and keep": [0],
    "fire": [0],
    "end and keep": [0],
    "hold": [0],
    "expect": [0],
    "again": [0],
    "release": [0],
    "retire": 0,
    "sign in": 0,
    "watch": None,
    "trim": Trim(0, None),
}


@pytest.mark.parametrize(
    "name",
    [
        *NOTHING,
        "renew",
        "load",
        "pending",
        "page",
        "audit",
        "balance",
        "tally",
        "rekey",
        "token write",
        "token find",
        "permit",
        "permit that goes on",
        "hosts",
        "alert",
    ],
)
async def test_a_resent_call_of_a_worker_does_nothing(name: str, store: Store, raw: redis.asyncio.Redis) -> None:
    verb = VERBS[name]
    task = await verb.make(store)
    answer = await verb.call(store, task)
    before = await dump(raw)
    again = await verb.call(store, task)
    # A claim is equal to itself alone: its text has each value.
    assert repr(again) == repr(answer) if name == "load" else again == NOTHING.get(name, answer)
    after = await dump(raw)
    permits = [found.pop(KEYS.permits.encode(), [b"", b"0"]) for found in (before, after)]
    assert after == before
    # A permit lasts from the last call on: in units of 64 ms, of which the second may come in the next.
    assert permits[0][::2] == permits[1][::2]
    assert all(
        int(later) - int(earlier) in range(100) for earlier, later in zip(*(p[1::2] for p in permits), strict=True)
    )


async def test_what_a_lost_answer_of_a_look_took_is_listed_as_pending(store: Store, raw: redis.asyncio.Redis) -> None:
    verb = VERBS["look"]
    task: Task = await verb.make(store)
    taken = (await store.look(10)).entries
    before = await dump(raw)
    assert (await store.look(10)).entries == []
    assert await dump(raw) == before
    assert await store.pending(10) == taken == [Entry(task.claim.id, task.key, 1)]
