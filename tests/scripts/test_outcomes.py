"""settle, retry, defer, bury, expire, release: what each does with a task in each state."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
import redis.asyncio
from msgspec import structs

from redis_scheduler.store import keys
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import read_record, record_tail
from tests.scripts.contents import counters, dump, traces
from tests.scripts.indexes import typed_keys
from tests.scripts.states import (
    DEAD,
    DEFERRED,
    DUE,
    FAILURE,
    MAKERS,
    MISSING,
    RETRY_DELAY_MS,
    WAITING,
    State,
    Task,
    ask,
    claimed,
    due_ms,
    failed,
    failure_of,
    in_delivery,
    reclaimed,
    record_of,
    redelivered,
    retriable,
    state_of,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store

Outcome = Callable[[Store, Task], Awaitable[Sequence[int]]]


async def _defer_for_a_slot(store: Store, task: Task) -> list[bool]:
    [item] = failed(task)
    item.counts = False
    return await store.defer([item])


OUTCOMES: dict[str, Outcome] = {
    "settle": lambda store, task: store.settle([task.claim]),
    "retry": lambda store, task: store.retry(failed(task)),
    "defer": lambda store, task: store.defer(failed(task)),
    "defer for a slot": _defer_for_a_slot,
    "bury": lambda store, task: store.bury(failed(task)),
    "expire": lambda store, task: store.expire(failed(task)),
    "again": lambda store, task: store.again(failed(task)),
    "release": lambda store, task: store.release([task.claim]),
}

# Of the task as each verb leaves it: after its first delivery, and after its second, the first having failed.
# What is not here is fenced.
AFTER: dict[tuple[str, str], State] = {
    ("settle", "queued"): MISSING,  # the group was lost and made anew during the delivery
    ("settle", "in delivery"): MISSING,
    ("settle", "redelivered"): MISSING,
    ("settle", "waiting"): MISSING,  # taken over from a stalled worker, whose success comes late
    ("retry", "in delivery"): WAITING,
    ("retry", "redelivered"): State("waiting", attempts=2, owner=keys.WAITING),
    ("defer", "in delivery"): DEFERRED,
    ("defer", "redelivered"): State("deferred", attempts=2),
    ("defer for a slot", "in delivery"): DUE,
    ("defer for a slot", "redelivered"): DEFERRED,
    ("bury", "in delivery"): DEAD,
    ("bury", "redelivered"): State("dead", attempts=2),
    ("expire", "in delivery"): MISSING,
    ("expire", "redelivered"): MISSING,
    **{("again", state): DUE for state in ("queued", "in delivery", "redelivered", "waiting")},  # as settle
    ("release", "in delivery"): State("waiting", owner=keys.WAITING),
    ("release", "redelivered"): State("waiting", attempts=1, owner=keys.WAITING),
}
COUNTED = {
    "settle": {"delivered"},
    "retry": {"failed"},
    "defer": {"failed"},
    "bury": {"failed", "died"},
    "expire": {"failed", "expired"},
    "again": {"delivered", "scheduled"},
}


@pytest.mark.parametrize("state", MAKERS)
@pytest.mark.parametrize("verb", OUTCOMES)
async def test_an_outcome_moves_the_task_that_its_fence_allows_and_no_other(
    verb: str, state: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    make, _ = MAKERS[state]
    task = await make(store)
    before, counted = await dump(raw), await counters(raw)
    answer = await OUTCOMES[verb](store, task)
    if (verb, state) in AFTER:
        assert answer == [1]
        assert await state_of(raw, task.key) == AFTER[verb, state]
        assert await counters(raw) == counted | {name: counted.get(name, 0) + 1 for name in COUNTED.get(verb, ())}
    else:
        assert answer == [0]
        assert await dump(raw) == before


@pytest.mark.parametrize("verb", ["settle", "expire"])
async def test_a_task_that_is_forgotten_leaves_nothing_behind(
    verb: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await redelivered(store, "mail")
    assert await OUTCOMES[verb](store, task) == [1]
    assert await traces(raw, task) == []
    assert await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, "-", "+", 10) == []


@pytest.mark.parametrize("verb", ["retry", "defer", "bury"])
async def test_the_last_failure_is_kept_with_the_number_of_attempts(
    verb: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await redelivered(store)
    await OUTCOMES[verb](store, task)
    assert await failure_of(raw, task.key) == b"2 " + FAILURE


@pytest.mark.parametrize(
    ("verb", "place", "counted"), [("bury", State("dead", attempts=0), "died"), ("expire", MISSING, "expired")]
)
async def test_what_ends_without_an_attempt_counts_none(
    verb: str, place: State, counted: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    [item] = failed(task)
    item.counts = False
    assert await getattr(store, verb)([item]) == [1]
    assert await state_of(raw, task.key) == place
    assert await counters(raw) == {"scheduled": 1, counted: 1}


async def test_what_is_buried_without_another_attempt_keeps_its_last_failure(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await redelivered(store)
    [item] = failed(task)
    item.counts, item.last_failure = False, b""
    assert await store.bury([item]) == [1]
    assert await failure_of(raw, task.key) == b"1 " + FAILURE


async def test_a_retry_waits_its_delay_and_a_release_does_not_wait(store: Store, raw: redis.asyncio.Redis) -> None:
    retried, released = await in_delivery(store), await in_delivery(store)
    await store.retry(failed(retried, delay_ms=20_000))
    await store.release([released.claim])
    assert 19_000 < await waits_ms(raw, retried.claim) <= 20_000
    assert await waits_ms(raw, released.claim) <= 0


async def test_a_deferred_task_is_due_after_its_delay(store: Store, raw: redis.asyncio.Redis) -> None:
    task = await in_delivery(store)
    seconds, microseconds = await ask(raw, "TIME")
    await store.defer(failed(task))
    score = await due_ms(raw, task.key)
    assert score is not None
    assert 0 < score - RETRY_DELAY_MS - int(seconds) * 1000 - int(microseconds) // 1000 < 1_000


async def test_a_release_burns_no_attempt_and_starts_the_claims_afresh(store: Store) -> None:
    task = await retriable(store)
    [claim] = await reclaimed(store)
    await store.release([claim])
    [again] = await reclaimed(store)
    assert (again.key, again.attempts, again.tries) == (task.key, 1, 1)


async def test_a_task_that_comes_again_has_a_new_due_time_and_says_how_often_it_came(
    store: Store, raw: redis.asyncio.Redis
) -> None:
    tail = record_tail("http://localhost/", 0, "mail", b'{"due":1,"again":7}', Options(again_most=9))
    await store.schedule([NewTask("task", 0, tail, "mail")])
    for times in (1, 2):
        [claim] = await claimed(store, 1)
        assert claim.record.again == times - 1
        assert await store.again(failed(Task("task", claim), delay_ms=600_000)) == [1]
        record = read_record(await record_of(raw, "task"))
        assert record == structs.replace(claim.record, due=await due_ms(raw, "task"), again=times)
        assert await typed_keys(raw) == {"mail": {"task"}}
        await ask(raw, "ZADD", KEYS.due, 1, "task")
        await store.promote()


async def test_a_batch_is_judged_task_by_task(store: Store, raw: redis.asyncio.Redis) -> None:
    tasks = [await in_delivery(store) for _ in range(4)]
    await store.cancel([(tasks[1].key, None)])
    assert await store.settle([task.claim for task in tasks[:2]]) == [1, 0]
    assert await store.retry(failed(*tasks)) == [0, 0, 1, 1]
    assert await counters(raw) == {"scheduled": 4, "cancelled": 1, "delivered": 1, "failed": 2}


@pytest.mark.parametrize("verb", ["settle", "retry", "defer", "bury", "expire", "again", "release"])
async def test_an_outcome_that_stands_twice_in_a_batch_counts_once(
    verb: str, store: Store, raw: redis.asyncio.Redis
) -> None:
    task = await in_delivery(store)
    if verb in ("settle", "release"):
        await getattr(store, verb)([task.claim, task.claim])
    else:
        await getattr(store, verb)(failed(task, task))
    assert await state_of(raw, task.key) == AFTER[verb, "in delivery"]
    assert await counters(raw) == Counter(["scheduled", *COUNTED.get(verb, ())])
