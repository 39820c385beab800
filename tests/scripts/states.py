"""Tasks in every state, brought there by real transitions, and what Redis holds of them: the tables start from here."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import redis.asyncio
from msgspec import structs

from redis_scheduler.store import keys
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.moves import Moved
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.written import Change
from redis_scheduler.task.claim import Claim, Entry, Unsettled
from redis_scheduler.task.failure import read_attempts
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.label import LABEL_MARK
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing
from redis_scheduler.task.options import NONE, Options
from redis_scheduler.task.record import decode_record, record_tail
from redis_scheduler.task.repeat import Repeat
from redis_scheduler.task.series import Firing, Made, Next
from redis_scheduler.task.timing import DEFAULT
from tests.support.names import KEYS, VAULT
from tests.support.store import Store
from tests.support.waiting import wait_until

FAILURE = b'{"error":"HTTP 500","elapsed_ms":3,"status":500}'
WEBHOOK = "http://localhost/"
TTL_MS = 600_000
RETRY_DELAY_MS = 50_000
MADE_MS, NEXT_MS = 1_700_000_000_000, 32_503_680_000_000
"""When the occurrences of a series were meant, and when it comes again."""


@dataclass
class Task:
    """A task that a test made. Without a claim of its own its `claim` is what a confused worker might come with."""

    key: str
    claim: Claim
    type: Listing = None


@dataclass(frozen=True)
class State:
    """Where a task stands: the place, its recorded attempts, and of a pending entry the owner and delivery count."""

    place: str
    attempts: int = 0
    owner: str | None = None
    tries: int = 0


MISSING = State("missing")
DUE = State("due")
QUEUED = State("queued")
IN_DELIVERY = State("in delivery", owner="worker-a", tries=1)
REDELIVERED = State("in delivery", attempts=1, owner="worker-a", tries=1)
WAITING = State("waiting", attempts=1, owner=keys.WAITING)
DEFERRED = State("deferred", attempts=1)
PAUSED = State("paused")
AWAITING = State("awaiting")
HELD = State("held")
IN_TURN = State("in turn")
DEAD = State("dead", attempts=1)


def tail(
    ttl_ms: int = TTL_MS, type_name: Listing = None, data: bytes | None = b'{"n":1}', options: Options = NONE
) -> bytes:
    """A record without its due time; `type_name` may have labels, SERIES and a token beside it, or instead."""
    names = (type_name,) if isinstance(type_name, str) else type_name or ()
    types = [name for name in names if not name.startswith((LABEL_MARK, SERIES, TOKEN_MARK))]
    tokens = [name[1:] for name in names if name.startswith(TOKEN_MARK)]
    if labels := dict(name[1:].split("=") for name in names if name.startswith(LABEL_MARK)):
        options = structs.replace(options, labels=labels)
    if SERIES in names:
        options = structs.replace(options, repeat=Repeat(every=3600))
    type_name, token = types[0] if types else None, tokens[0] if tokens else None
    return record_tail(WEBHOOK, ttl_ms / 1000, type_name, data, options, token=token)


def new_task(ttl_ms: int = TTL_MS, type_name: Listing = None) -> NewTask:
    return NewTask(new_task_key(), ttl_ms, tail(ttl_ms, type_name), type_name)


def failed(*tasks: Task, delay_ms: int = RETRY_DELAY_MS) -> list[Unsettled]:
    return [Unsettled(task.claim, FAILURE, delay_ms) for task in tasks]


def kept(task: Task, place: str = "due", failure: bytes = b"", in_ms: int = TTL_MS) -> Moved:
    """What an export has kept of a task that is due, or died, so far from now."""
    at_ms = int(time.time() * 1000) + in_ms
    return Moved(task.key, at_ms, tail(type_name=task.type), place, at_ms, failure, task.type)


def fired(task: Task, count: int = 1, next_ms: int | None = NEXT_MS, unless: str = "") -> Firing:
    """What the task does if it is a series that came due: it makes so many occurrences, and its record becomes
    another."""
    after, otherwise = [Next(next_ms, tail(type_name=task.type, data=data)) for data in (b'"after"', b'"otherwise"')]
    made = [Made(new_task_key(), MADE_MS + number, tail(type_name=task.type), task.type) for number in range(count)]
    return Firing(task.claim, made, after, unless, otherwise)


async def change(store: Store, task: Task, ttl_ms: int | None = None, data: bytes = b'"new"') -> Change:
    """A change of what is stored of the task now (or of nothing) to the same with other data."""
    [raw] = await store.client.command("HMGET", KEYS.tasks, task.key)
    due_ms = decode_record(VAULT.opened(task.key, raw)).due if raw else 0
    tail_after = tail(TTL_MS if ttl_ms is None else ttl_ms, task.type, data)
    return Change(task.key, raw or b"{}", tail_after, ttl_ms, due_ms, task.type, task.type)


# Transitions


async def scheduled(store: Store, ttl_ms: int, type_name: Listing = None) -> Task:
    new = new_task(ttl_ms, type_name)
    await store.schedule([new])
    entry_id = await store.client.command("HGET", KEYS.entries, new.key) or b"1-1"
    record = decode_record(b'{"due":1' + new.tail)
    return Task(new.key, Claim(entry_id.decode(), new.key, record, 0), type_name)


async def claimed(store: Store, limit: int) -> list[Claim]:
    """Claim that many entries, all of which must be there; and no other, where it is none."""
    if not limit:  # the reader would wait for one
        read = ("XREADGROUP", "GROUP", keys.GROUP, store.name, "STREAMS", KEYS.queue, ">")
        assert not await store.client.command(*read)
        return []
    reader = QueueReader(store.client, store.name)
    claims, _ = await store.load(await reader.claim(limit))
    await reader.aclose()
    assert len(claims) == limit
    return claims


async def reclaimed(store: Store, limit: int = 100) -> list[Claim]:
    """Make the next step of the sweep now, whenever it is due."""
    await plan_sweep(store)
    entries = (await store.look(limit)).entries
    return (await store.load(entries))[0]


async def swept(store: Store, limit: int) -> tuple[list[Entry], float]:
    """Make a step of the sweep if it is due; return what it brought, and the seconds until the next."""
    sweep = await store.look(limit)
    return sweep.entries, sweep.wait_s


async def leave_gap(store: Store) -> None:
    """Let the last sign of a sweeping worker be longer ago than the hold."""
    now_ms = redis_ms(await store.client.command("TIME"))
    long_ago_ms = now_ms - DEFAULT.sweep_hold_ms - 1_000
    await store.client.command("HSET", KEYS.sweep, "next_ms", long_ago_ms, "seen_ms", long_ago_ms)


async def plan_sweep(store: Store, in_ms: int = 0) -> None:
    """Make the next step of the sweep due then."""
    now_ms = redis_ms(await store.client.command("TIME"))
    await store.client.command("HSET", KEYS.sweep, "next_ms", now_ms + in_ms)


async def set_idle(raw: redis.asyncio.Redis, idle_ms: int, *claims: Claim, owner: str = "worker-a") -> None:
    """Make pending entries idle for so long, as if the time had passed."""
    ids = [claim.id for claim in claims]
    await raw.execute_command("XCLAIM", KEYS.queue, keys.GROUP, owner, 0, *ids, "IDLE", idle_ms, "JUSTID")


async def missing(store: Store, type_name: Listing = None) -> Task:
    new = new_task(type_name=type_name)
    return Task(new.key, Claim("1-1", new.key, decode_record(b'{"due":1' + new.tail), 0), type_name)


async def in_due(store: Store, type_name: Listing = None) -> Task:
    return await scheduled(store, TTL_MS, type_name)


async def overdue(store: Store, type_name: Listing = None) -> Task:
    """In DUE, and its time has come."""
    task = await scheduled(store, 1, type_name)
    due_ms = int(await store.client.command("ZSCORE", KEYS.due, task.key))

    async def is_due() -> bool:
        return redis_ms(await store.client.command("TIME")) >= due_ms

    await wait_until(is_due, "the task is due", every_s=0.001)
    return task


async def queued(store: Store, type_name: Listing = None) -> Task:
    return await scheduled(store, 0, type_name)


async def in_delivery(store: Store, type_name: Listing = None) -> Task:
    task = await queued(store, type_name)
    [task.claim] = await claimed(store, 1)
    assert task.claim.key == task.key, "an older task is queued"
    return task


async def waiting(store: Store, type_name: Listing = None, delay_ms: int = RETRY_DELAY_MS) -> Task:
    task = await in_delivery(store, type_name)
    assert await store.retry(failed(task, delay_ms=delay_ms)) == [1]
    return task


async def retriable(store: Store, type_name: Listing = None) -> Task:
    """Waiting, its delay is over, and a sweep is due."""
    task = await waiting(store, type_name, delay_ms=0)
    await plan_sweep(store)
    return task


async def redelivered(store: Store, type_name: Listing = None) -> Task:
    task = await retriable(store, type_name)
    [task.claim] = await reclaimed(store)
    return task


async def deferred(store: Store, type_name: Listing = None) -> Task:
    task = await in_delivery(store, type_name)
    assert await store.defer(failed(task)) == [1]
    return task


async def paused(store: Store, type_name: Listing = None) -> Task:
    return await _paused(store, await in_due(store, type_name))


async def paused_retry(store: Store, type_name: Listing = None) -> Task:
    return await _paused(store, await waiting(store, type_name))


async def _paused(store: Store, task: Task) -> Task:
    await store.pause([task.key])
    return task


async def awaiting(store: Store, type_name: Listing = None) -> Task:
    task = await in_delivery(store, type_name)
    assert await store.expect([taken_on(task)]) == [1]
    return task


async def awaiting_retry(store: Store, type_name: Listing = None) -> Task:
    task = await redelivered(store, type_name)
    assert await store.expect([taken_on(task)]) == [1]
    return task


def taken_on(task: Task, within_ms: int = TTL_MS) -> Unsettled:
    return Unsettled(task.claim, b"", within_ms, counts=False)


async def held(store: Store, type_name: Listing = None) -> Task:
    task = await in_delivery(store, type_name)
    assert await store.hold([task.claim]) == [1]
    return task


async def held_retry(store: Store, type_name: Listing = None) -> Task:
    task = await redelivered(store, type_name)
    assert await store.hold([task.claim]) == [1]
    return task


def with_room(store: Store, entries: int) -> Store:
    """The same store, for which the queue is full with so many entries that nobody has claimed."""
    found = Store(store.client, store.name, replace(DEFAULT, queued_most=entries))
    found._batch_numbers = store._batch_numbers
    return found


async def in_turn(store: Store, type_name: Listing = None) -> Task:
    """Held in the line of its token."""
    task = await overdue(store, type_name)
    assert (await with_room(store, 0).promote(in_turn=True)).moved == 1
    return task


async def dead(store: Store, type_name: Listing = None) -> Task:
    task = await in_delivery(store, type_name)
    assert await store.bury(failed(task)) == [1]
    return task


Maker = Callable[[Store], Awaitable[Task]]

MAKERS: dict[str, tuple[Maker, State]] = {
    "missing": (missing, MISSING),
    "due": (in_due, DUE),
    "in delivery": (in_delivery, IN_DELIVERY),
    "redelivered": (redelivered, REDELIVERED),
    "waiting": (waiting, WAITING),
    "deferred": (deferred, DEFERRED),
    "dead": (dead, DEAD),
    "paused": (paused, PAUSED),
    "paused retry": (paused_retry, State("paused", attempts=1)),
    "awaiting": (awaiting, AWAITING),
    "awaiting retry": (awaiting_retry, State("awaiting", attempts=1)),
    "held": (held, HELD),
    "held retry": (held_retry, State("held", attempts=1)),
    "in turn": (in_turn, IN_TURN),
    "queued": (queued, QUEUED),
}
"""Every state a task can be in, how it gets there, and how that looks."""


# What Redis holds of a task; all that it holds: contents.py


async def ask(raw: redis.asyncio.Redis, *arguments: str | bytes | int) -> Any:
    """Send one command; its answer as it comes."""
    return await raw.execute_command(*arguments)


async def state_of(raw: redis.asyncio.Redis, key: str) -> State:
    """Where the key stands; it must be one place, and its record must be there."""
    record, failure, entry_id = [await ask(raw, "HGET", at, key) for at in (KEYS.tasks, KEYS.failures, KEYS.entries)]
    places = {"due": KEYS.due, "dead": KEYS.dead, "paused": KEYS.paused, "awaiting": KEYS.awaiting, "held": KEYS.held}
    scores = {place: await ask(raw, "ZSCORE", at, key) for place, at in places.items()}
    stands = [place for place, score in scores.items() if score is not None]
    assert len(stands) + (entry_id is not None) == (record is not None), "must stand in one place"
    attempts = read_attempts(failure)[0]
    if record is None:
        return State("missing", attempts)
    if stands == ["due"] and attempts:
        return State("deferred", attempts)
    if stands == ["held"] and float(scores["held"]) < 0:
        return State("in turn", attempts)
    if stands:
        return State(stands[0], attempts)
    row = await _pending_row(raw, entry_id)
    if row is None:
        return State("queued", attempts)
    owner = row[1].decode()
    return State("waiting" if owner == keys.WAITING else "in delivery", attempts, owner, row[3])


async def _pending_row(raw: redis.asyncio.Redis, entry_id: str | bytes) -> Any:
    """Id, owner, idle ms and delivery count of an entry; None if it is not pending."""
    rows = await ask(raw, "XPENDING", KEYS.queue, keys.GROUP, entry_id, entry_id, 1)
    return rows[0] if rows else None


async def waits_ms(raw: redis.asyncio.Redis, claim: Claim) -> int:
    """How long until the pending entry may be claimed again."""
    row = await _pending_row(raw, claim.id)
    waits: int = DEFAULT.window_ms - row[2]
    return waits


async def due_ms(raw: redis.asyncio.Redis, key: str) -> int | None:
    score = await ask(raw, "ZSCORE", KEYS.due, key)
    return None if score is None else int(score)


async def entry_of(raw: redis.asyncio.Redis, key: str) -> str | None:
    entry_id = await ask(raw, "HGET", KEYS.entries, key)
    return entry_id.decode() if entry_id else None


async def stored_of(raw: redis.asyncio.Redis, key: str) -> bytes:
    """The record as it is stored."""
    record: bytes = await ask(raw, "HGET", KEYS.tasks, key)
    return record


async def record_of(raw: redis.asyncio.Redis, key: str) -> bytes:
    """The record as it was before it was sealed, if it is."""
    return VAULT.opened(key, await stored_of(raw, key))


async def failure_of(raw: redis.asyncio.Redis, key: str) -> bytes | None:
    """What is kept of failed attempts, as it was before it was sealed, if it is."""
    stored: bytes | None = await ask(raw, "HGET", KEYS.failures, key)
    front, space, failure = (stored or b"").partition(b" ")
    return front + space + (VAULT.open_failure(key, failure) or b"") if stored else stored
