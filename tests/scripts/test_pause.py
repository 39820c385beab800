"""Pause, resume, run: every state a task may be in, what stays of it, and when it comes then."""

from typing import Any

import pytest
import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.filters import Filters
from redis_scheduler.store.views import Views
from redis_scheduler.task.timing import DEFAULT
from tests.scripts import states
from tests.scripts.contents import counters, dump
from tests.scripts.indexes import typed_keys
from tests.scripts.states import (
    DUE,
    MAKERS,
    PAUSED,
    RETRY_DELAY_MS,
    TTL_MS,
    State,
    Task,
    ask,
    change,
    claimed,
    due_ms,
    in_due,
    overdue,
    paused,
    record_of,
    state_of,
    waits_ms,
)
from tests.support.names import KEYS
from tests.support.store import Store, letters

Redis = redis.asyncio.Redis

LETTERS = {
    **{"missing": "N", "due": "S", "in delivery": "D", "redelivered": "D", "waiting": "W", "deferred": "F"},
    **{"dead": "X", "paused": "P", "paused retry": "P", "awaiting": "A", "awaiting retry": "A", "queued": "Q"},
    **{"held": "H", "held retry": "H", "in turn": "H"},
}
LEFT_ALONE = {
    "pause": ("missing", "in delivery", "redelivered", "dead", "paused", "paused retry", "awaiting", "awaiting retry"),
    "resume": tuple(name for name in MAKERS if "paused" not in name),
    "run": (
        "missing",
        "in delivery",
        "redelivered",
        "dead",
        "awaiting",
        "awaiting retry",
        "queued",
        "held",
        "held retry",
        "in turn",
    ),
}
TOLERANCE_MS = 5_000


def without(name: bytes, held: dict[bytes, Any]) -> dict[bytes, Any]:
    return {key: value for key, value in held.items() if key != name}


async def score_of(raw: Redis, task: Task) -> float:
    return float(await ask(raw, "ZSCORE", KEYS.paused, task.key))


@pytest.mark.parametrize("state", MAKERS)
@pytest.mark.parametrize("verb", LEFT_ALONE)
async def test_each_verb_says_where_the_task_stood_and_moves_it_or_leaves_it_alone(
    verb: str, state: str, store: Store, raw: Redis
) -> None:
    make, before = MAKERS[state]
    task = await make(store, "mail")  # type: ignore[call-arg]
    held, counted, listed = await dump(raw), await counters(raw), await typed_keys(raw)
    assert letters(await getattr(store, verb)([task.key])) == LETTERS[state]
    if state in LEFT_ALONE[verb]:
        writer = KEYS.writer(store.name, verb).encode()
        assert without(writer, await dump(raw)) == without(writer, held)
        return
    after = State("paused", before.attempts) if verb == "pause" else None
    assert await state_of(raw, task.key) == (after or State("deferred" if before.attempts else "due", before.attempts))
    assert await counters(raw) == counted
    assert await typed_keys(raw) == listed
    assert await ask(raw, "XLEN", KEYS.queue) == 0


@pytest.mark.parametrize("state", MAKERS)
@pytest.mark.parametrize("verb", LEFT_ALONE)
async def test_a_task_with_another_record_than_expected_stays_where_it_is(
    verb: str, state: str, store: Store, raw: Redis
) -> None:
    task = await MAKERS[state][0](store)
    held = await dump(raw)
    answers = await getattr(store, verb)([task.key], expected=[b"other"])
    assert letters(answers) == ("N" if state == "missing" else "C")
    writer = KEYS.writer(store.name, verb).encode()
    assert without(writer, await dump(raw)) == without(writer, held)
    if state != "missing":
        expected = [await record_of(raw, task.key)]
        assert letters(await getattr(store, verb)([task.key], expected=expected)) == LETTERS[state]


async def test_a_task_keeps_its_time_while_it_is_paused(store: Store, raw: Redis) -> None:
    task = await in_due(store)
    due_at_ms = await due_ms(raw, task.key)
    await store.pause([task.key])
    assert await score_of(raw, task) == due_at_ms
    await store.resume([task.key])
    assert await due_ms(raw, task.key) == due_at_ms
    assert await state_of(raw, task.key) == DUE


@pytest.mark.parametrize("make", [states.waiting, states.deferred])
async def test_a_retry_keeps_the_rest_of_its_delay(make: states.Maker, store: Store, raw: Redis) -> None:
    task = await make(store)
    if make is states.waiting:
        await states.set_idle(raw, DEFAULT.window_ms - 20_000, task.claim, owner=keys.WAITING)
        assert 19_000 < await waits_ms(raw, task.claim) <= 20_000
        rest_ms = 20_000
    else:
        rest_ms = RETRY_DELAY_MS
    await store.pause([task.key])
    # What is deferred may come 2 ms later.
    assert -rest_ms - 2 <= await score_of(raw, task) < TOLERANCE_MS - rest_ms
    # As if it had been paused for an hour: that does not count.
    await ask(raw, "ZADD", KEYS.paused, -rest_ms, task.key)
    before_ms = redis_ms(await ask(raw, "TIME"))
    await store.resume([task.key])
    assert 0 <= (await due_ms(raw, task.key) or 0) - before_ms - rest_ms < TOLERANCE_MS
    assert await state_of(raw, task.key) == State("deferred", attempts=1)


@pytest.mark.parametrize("make", [states.overdue, states.queued, states.retriable])
async def test_what_was_due_comes_at_once(make: states.Maker, store: Store, raw: Redis) -> None:
    task = await make(store)
    await store.pause([task.key])
    assert (await store.promote()).moved == 0
    await store.resume([task.key])
    assert redis_ms(await ask(raw, "TIME")) - (await due_ms(raw, task.key) or 0) in range(-3, TOLERANCE_MS)


async def test_what_is_run_comes_before_all_that_is_due_later(store: Store, raw: Redis) -> None:
    await in_due(store)
    task = await in_due(store)
    record = await record_of(raw, task.key)
    assert letters(await store.run([task.key, task.key])) == "SS"
    assert await record_of(raw, task.key) == record
    promoted = 0
    while not promoted:
        promoted = (await store.promote()).moved
    assert [claim.key for claim in await claimed(store, 1)] == [task.key]


async def test_what_is_due_already_keeps_its_time_when_it_is_run(store: Store, raw: Redis) -> None:
    task = await overdue(store)
    due_at_ms = await due_ms(raw, task.key)
    await store.run([task.key])
    assert await due_ms(raw, task.key) == due_at_ms


@pytest.mark.parametrize("make", [in_due, states.waiting, states.deferred])
@pytest.mark.parametrize("pauses", [False, True])
async def test_what_is_run_after_a_delay_comes_no_later_than_it_did(
    make: states.Maker, pauses: bool, store: Store, raw: Redis
) -> None:
    task, resumed = await make(store), await make(store)
    if pauses:
        await store.pause([task.key, resumed.key])
    else:
        await store.pause([resumed.key])
    await store.resume([resumed.key])
    await store.run([task.key], [10 * TTL_MS])
    comes_ms, expected_ms = [await due_ms(raw, key) or 0 for key in (task.key, resumed.key)]
    assert abs(comes_ms - expected_ms) < TOLERANCE_MS
    assert await ask(raw, "ZCARD", KEYS.paused) == 0
    await store.run([task.key], [500])
    assert (await due_ms(raw, task.key) or 0) <= comes_ms - 100


async def test_a_paused_task_whose_time_is_over_comes_after_the_delay(store: Store, raw: Redis) -> None:
    task = await overdue(store)
    await store.pause([task.key])
    before_ms = redis_ms(await ask(raw, "TIME"))
    await store.run([task.key], [TTL_MS])
    assert 0 <= (await due_ms(raw, task.key) or 0) - before_ms - TTL_MS < TOLERANCE_MS


async def test_an_outcome_of_a_claim_from_before_the_pause_does_not_count(store: Store, raw: Redis) -> None:
    task = await states.waiting(store)
    await store.pause([task.key])
    for outcome in (store.settle([task.claim]), store.release([task.claim]), store.retry(states.failed(task))):
        assert await outcome == [0]
    assert await state_of(raw, task.key) == State("paused", attempts=1)


@pytest.mark.parametrize("ttl_ms", [None, 5_000])
async def test_a_change_leaves_a_paused_task_paused(ttl_ms: int | None, store: Store, raw: Redis) -> None:
    task = await states.paused_retry(store, "mail")
    before = await score_of(raw, task)
    now_ms, answers = await store.update([await change(store, task, ttl_ms)])
    assert letters(answers) == "U"
    assert b'"new"' in await record_of(raw, task.key)
    assert await typed_keys(raw) == {"mail": {task.key}}
    if ttl_ms is None:
        assert (await state_of(raw, task.key), await score_of(raw, task)) == (State("paused", attempts=1), before)
    else:
        assert (await state_of(raw, task.key), await score_of(raw, task)) == (PAUSED, now_ms + ttl_ms)


async def test_what_stands_nowhere_is_put_where_it_is_asked_to_be(store: Store, raw: Redis) -> None:
    task, other = await in_due(store), await in_due(store)
    await ask(raw, "DEL", KEYS.due)
    assert letters(await store.resume([task.key])) == "L"
    assert letters(await store.pause([task.key])) == letters(await store.run([other.key])) == "L"
    assert await state_of(raw, task.key) == PAUSED
    assert await state_of(raw, other.key) == DUE


async def test_the_list_shows_what_is_paused_behind_all_else(store: Store, client: RedisClient, raw: Redis) -> None:
    tasks = [await paused(store, "mail") for _ in range(3)]
    others = [await states.queued(store), await in_due(store)]
    found, cursor = [], None
    for _ in range(10):
        page = await Views(client).page(2, cursor)
        found += [(stored.key, stored.state, stored.expires_ms) for stored in page.tasks]
        if (cursor := page.next) is None:
            break
    assert [key for key, *_ in found[:2]] == [task.key for task in others]
    assert sorted(found[2:]) == sorted((task.key, "paused", None) for task in tasks)
    by_type = await Views(client).page(10, None, Filters("mail"))
    assert {stored.key for stored in by_type.tasks} == {task.key for task in tasks}
    ledger = await Views(client).ledger()
    assert (ledger.paused, ledger.running) == (3, 5)


async def test_a_lost_task_comes_at_its_time_after_a_pause(store: Store, raw: Redis) -> None:
    task = await in_due(store)
    wanted = await due_ms(raw, task.key)
    await ask(raw, "ZREM", KEYS.due, task.key)
    assert letters(await store.pause([task.key])) == "L"
    assert await score_of(raw, task) == wanted
    await store.resume([task.key])
    assert await due_ms(raw, task.key) == wanted


@pytest.mark.parametrize(
    ("make", "code"),
    [(in_due, "S"), (states.overdue, "S"), (states.queued, "Q"), (states.waiting, "W"), (states.paused, "P")],
)
async def test_a_series_is_told_once_until_it_was_claimed(
    make: states.Maker, code: str, store: Store, raw: Redis
) -> None:
    """By a mark, which a pause and a change leave; a task that is no series has none."""
    task, other = await make(store), await in_due(store)
    record = await record_of(raw, task.key)
    assert letters(await store.run([task.key, other.key], are_series=[1, 0])) == f"{code}S"
    assert letters(await store.run([task.key, other.key], are_series=[1, 0])) == "RS"
    assert letters(await store.pause([task.key])) in ("S", "F", "Q")
    assert letters((await store.update([await change(store, task)]))[1]) == "U"
    assert letters(await store.resume([task.key])) == "P"
    assert (await record_of(raw, task.key))[:20] == record[:20], "it keeps its time"
    promoted = 0
    while promoted < 2:
        promoted += (await store.promote()).moved
    told = {claim.key: claim.is_told_to_run for claim in await claimed(store, 2)}
    assert told == {task.key: True, other.key: False}


@pytest.mark.parametrize("make", [states.in_delivery, states.awaiting, states.held, states.dead, states.missing])
async def test_what_cannot_be_run_is_not_told(make: states.Maker, store: Store, raw: Redis) -> None:
    task = await make(store)
    before = await ask(raw, "HGET", KEYS.failures, task.key)
    first, second = [letters(await store.run([task.key], are_series=[1])) for _ in range(2)]
    assert first == second != "R"
    assert await ask(raw, "HGET", KEYS.failures, task.key) == before
