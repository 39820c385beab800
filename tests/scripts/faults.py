"""Faults of the data model, each made on a sound task, for the audit to find."""

from collections.abc import Awaitable, Callable

import redis.asyncio

from redis_scheduler.store import keys
from redis_scheduler.store.written import OnceTask
from redis_scheduler.task.listing import Listing
from tests.scripts import states
from tests.scripts.states import (
    AWAITING,
    DEAD,
    DEFERRED,
    DUE,
    HELD,
    IN_DELIVERY,
    IN_TURN,
    MISSING,
    PAUSED,
    QUEUED,
    State,
    Task,
    ask,
)
from tests.support.names import KEYS
from tests.support.store import Store

Redis = redis.asyncio.Redis
Found = dict[str, set[str]]
"""Of each kind of fault, at what it is found."""

Seed = Callable[[Store, Redis], Awaitable[tuple[Found, str, State]]]
"""Makes a fault; answers what is to be found, a task's key, and where that is to stand after the repair."""

Typed = Callable[[Store, Listing], Awaitable[Task]]
"""Makes a task of a type."""

SEEDS: dict[str, Seed] = {}


def seed(function: Seed) -> Seed:
    SEEDS[function.__name__.replace("_", " ")] = function
    return function


GONE: dict[str, tuple[Typed, Listing, str, State]] = {
    "gone from due": (states.in_due, "mail", KEYS.due, DUE),
    "gone from due after a failure": (states.deferred, None, KEYS.due, DEFERRED),
    "gone from dead": (states.dead, None, KEYS.dead, DEFERRED),
    "gone from paused": (states.paused_retry, None, KEYS.paused, DEFERRED),
    "gone from awaiting": (states.awaiting_retry, None, KEYS.awaiting, DEFERRED),
    "gone from its line": (states.in_turn, None, KEYS.held, DUE),
    "gone from held": (states.held, None, KEYS.held, DUE),
}
"""A task that is taken out of the only place that it stands in, and where it is to stand then."""

ALSO_IN: dict[str, tuple[Typed, Listing, str, State]] = {
    "in due and in delivery": (states.in_delivery, "mail", KEYS.due, IN_DELIVERY),
    "in the queue and dead": (states.queued, None, KEYS.dead, QUEUED),
    "in due and paused": (states.paused, "mail", KEYS.due, DUE),
    "in turn and paused": (states.in_turn, None, KEYS.paused, IN_TURN),
    "held and paused": (states.held, None, KEYS.paused, HELD),
    "awaiting and paused": (states.awaiting, None, KEYS.paused, AWAITING),
    "paused and dead": (states.paused, None, KEYS.dead, PAUSED),
}
"""A task that is put into a second place, and where it is to stand then."""


def _gone(make: Typed, type_name: Listing, place: str, then: State) -> Seed:
    async def seed_it(store: Store, raw: Redis) -> tuple[Found, str, State]:
        task = await make(store, type_name)
        await ask(raw, "ZREM", place, task.key)
        return {"nowhere": {task.key}}, task.key, then

    return seed_it


def _also_in(make: Typed, type_name: Listing, place: str, then: State) -> Seed:
    async def seed_it(store: Store, raw: Redis) -> tuple[Found, str, State]:
        task = await make(store, type_name)
        await ask(raw, "ZADD", place, 1, task.key)
        return {"several places": {task.key}}, task.key, then

    return seed_it


SEEDS |= {name: _gone(*row) for name, row in GONE.items()}
SEEDS |= {name: _also_in(*row) for name, row in ALSO_IN.items()}


# In no place


@seed
async def gone_from_entries(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HDEL", KEYS.entries, task.key)
    return {"nowhere": {task.key}, "stray entry": {task.claim.id}}, task.key, DUE


# An entry that is not there


@seed
async def gone_from_queue(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store, "mail")
    await ask(raw, "XDEL", KEYS.queue, task.claim.id)
    return {"no entry": {task.key}}, task.key, QUEUED


@seed
async def gone_from_queue_in_delivery(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    await ask(raw, "XDEL", KEYS.queue, task.claim.id)
    return {"no entry": {task.key}, "stray pending": {task.claim.id}}, task.key, QUEUED


@seed
async def in_the_entry_of_another(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task, other = await states.in_delivery(store), await states.queued(store)
    await ask(raw, "HSET", KEYS.entries, task.key, other.claim.id)
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_of_no_id(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HSET", KEYS.entries, task.key, "no id")
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_by_half_its_id(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "HSET", KEYS.entries, task.key, task.claim.id.partition("-")[0])
    return {"no entry": {task.key}, "stray entry": {task.claim.id}}, task.key, QUEUED


@seed
async def in_an_entry_of_another_service(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XDEL", KEYS.queue, task.claim.id)
    entry_id: bytes = await ask(raw, "XADD", KEYS.queue, "*", "other", task.key)
    await ask(raw, "HSET", KEYS.entries, task.key, entry_id)
    return {"no entry": {task.key}, "stray entry": {entry_id.decode()}}, task.key, QUEUED


@seed
async def in_an_entry_with_more_fields(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XDEL", KEYS.queue, task.claim.id)
    entry_id: bytes = await ask(raw, "XADD", KEYS.queue, "*", "key", task.key, "more", "1")
    await ask(raw, "HSET", KEYS.entries, task.key, entry_id)
    return {"no entry": {task.key}, "stray entry": {entry_id.decode()}}, task.key, QUEUED


# In several places


@seed
async def in_due_and_dead(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.dead(store, "mail")
    await ask(raw, "ZADD", KEYS.due, 1, task.key)
    return {"several places": {task.key}, "not listed": {task.key}}, task.key, DEFERRED


@seed
async def in_all_five_places(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    for place in (KEYS.dead, KEYS.paused, KEYS.awaiting, KEYS.held, KEYS.due):
        await ask(raw, "ZADD", place, 1, task.key)
    return {"several places": {task.key}}, task.key, IN_DELIVERY


@seed
async def in_due_and_in_an_entry_that_is_gone(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(raw, "HSET", KEYS.entries, task.key, "1-1")
    return {"several places": {task.key}}, task.key, DUE


@seed
async def dead_and_in_an_entry_that_is_gone(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.dead(store, "mail")
    await ask(raw, "HSET", KEYS.entries, task.key, "1-1")
    return {"several places": {task.key}}, task.key, DEAD


# Without a record


def seed_without_a_record(name: str) -> None:
    async def without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
        task = await states.MAKERS[name][0](store)
        await ask(raw, "HDEL", KEYS.tasks, task.key)
        return {"no record": {task.key}}, task.key, MISSING

    SEEDS[f"{name} without a record"] = without_a_record


for state in states.MAKERS:
    if state != "missing":
        seed_without_a_record(state)


@seed
async def in_all_places_of_a_type_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.redelivered(store, "mail")
    for place in (KEYS.dead, KEYS.paused, KEYS.awaiting, KEYS.held, KEYS.due):
        await ask(raw, "ZADD", place, 1, task.key)
    await ask(raw, "HDEL", KEYS.tasks, task.key)
    return {"no record": {task.key}, "wrongly listed": {task.key}}, task.key, MISSING


@seed
async def in_an_entry_of_no_id_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "HSET", KEYS.entries, task.key, "no id")
    return {"no record": {task.key}}, task.key, MISSING


@seed
async def a_failure_of_no_task(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.missing(store)
    await ask(raw, "HSET", KEYS.failures, task.key, b"1 " + states.FAILURE)
    return {"stray failure": {task.key}}, task.key, MISSING


# Entries and pending ids of nobody


@seed
async def a_second_entry(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    entry_id: bytes = await ask(raw, "XADD", KEYS.queue, "*", "key", task.key)
    return {"stray entry": {entry_id.decode()}}, task.key, IN_DELIVERY


@seed
async def an_entry_of_a_waiting_task_that_a_worker_has(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    entry_id: bytes = await ask(raw, "XADD", KEYS.queue, "*", "key", task.key)
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", KEYS.queue, ">")
    return {"stray entry": {entry_id.decode()}}, task.key, DUE


@seed
async def an_entry_that_is_not_of_this_service(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    entry_id: bytes = await ask(raw, "XADD", KEYS.queue, "*", "other", task.key)
    return {"stray entry": {entry_id.decode()}}, task.key, QUEUED


@seed
async def a_pending_id_of_no_entry(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_delivery(store)
    await ask(raw, "XDEL", KEYS.queue, task.claim.id)
    for place in (KEYS.tasks, KEYS.entries):
        await ask(raw, "HDEL", place, task.key)
    return {"stray pending": {task.claim.id}}, task.key, MISSING


# Passed by: the group is past the entry, and nobody has it


@seed
async def of_a_consumer_that_was_deleted(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store, "mail")
    await ask(raw, "XREADGROUP", "GROUP", keys.GROUP, "worker-b", "STREAMS", KEYS.queue, ">")
    assert await ask(raw, "XGROUP", "DELCONSUMER", KEYS.queue, keys.GROUP, "worker-b") == 1
    return {"forgotten": {task.claim.id}}, task.key, QUEUED


@seed
async def acknowledged_by_another(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.redelivered(store)
    await ask(raw, "XACK", KEYS.queue, keys.GROUP, task.claim.id)
    return {"forgotten": {task.claim.id}}, task.key, State("queued", attempts=1)


@seed
async def passed_by(store: Store, raw: Redis) -> tuple[Found, str, State]:
    tasks = [await states.queued(store) for _ in range(3)]
    await ask(raw, "XGROUP", "SETID", KEYS.queue, keys.GROUP, "$")
    return {"forgotten": {task.claim.id for task in tasks}}, tasks[1].key, QUEUED


@seed
async def passed_by_for_ever(store: Store, raw: Redis) -> tuple[Found, str, State]:
    tasks = [await states.queued(store) for _ in range(3)]
    # What is queued anew is behind this too.
    await ask(raw, "XGROUP", "SETID", KEYS.queue, keys.GROUP, f"{2**64 - 1}-0")
    return {"forgotten": {task.claim.id for task in tasks}}, tasks[1].key, QUEUED


@seed
async def passed_by_without_a_record(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.queued(store)
    await ask(raw, "XGROUP", "SETID", KEYS.queue, keys.GROUP, "$")
    await ask(raw, "HDEL", KEYS.tasks, task.key)
    return {"no record": {task.key}}, task.key, MISSING


# Idempotency ids


@seed
async def an_idempotency_id_without_an_end(store: Store, raw: Redis) -> tuple[Found, str, State]:
    once = OnceTask("id", "mac", states.new_task())
    await store.schedule_once([once], 60_000, 10)
    await ask(raw, "ZREM", KEYS.idempotency_ends, "id")
    return {"no end": {"id"}}, once.task.key, DUE


@seed
async def an_end_of_no_idempotency_id(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(raw, "ZADD", KEYS.idempotency_ends, 1, "id")
    return {"stray end": {"id"}}, task.key, DUE


# Counters


@seed
async def a_counter_that_is_no_number(store: Store, raw: Redis) -> tuple[Found, str, State]:
    task = await states.in_due(store)
    await ask(
        raw, "HSET", KEYS.counters, "died", "many", "failed", "007", "lost", "1e3", "cancelled", "-", "others", "x"
    )
    return {"no number": {"died", "failed", "lost", "cancelled"}}, task.key, DUE
