"""Every verb once, for what holds for all of them: a task in a fitting state, the call, and where the task stands then."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis_scheduler.audit import audit, balance
from redis_scheduler.store import Entry, NewTask, Store
from redis_scheduler.views import Views
from tests.scripts import states
from tests.scripts.states import DEAD, DEFERRED, DUE, IN_DELIVERY, MISSING, QUEUED, REDELIVERED, WAITING, State, Task


@dataclass(frozen=True)
class Verb:
    """`after`: where the task stands; `after_destroy`: where, if the group was destroyed before the call.

    The entries are then queued anew, so that no worker's outcome but a success counts.
    """

    make: states.Maker
    call: Callable[[Store, Task], Awaitable[Any]]
    after: State
    after_destroy: State


async def _schedule(store: Store, task: Task) -> Any:
    return await store.schedule([NewTask(task.key, states.TTL_MS, states.tail(), None)])


async def _update(store: Store, task: Task) -> Any:
    return await store.update([await states.change(store, task)])


async def _replay(store: Store, task: Task) -> Any:
    return await store.replay([await states.change(store, task, 1_000)])


async def _page(store: Store, task: Task) -> Any:
    page = await Views(store.client).page(10, None, None)
    return [found.key for found in page.tasks]


async def _audit(store: Store, task: Task) -> Any:
    return [finding async for finding in audit(store.client, repairs=True)]


RELEASED = State("waiting", owner="waiting")

VERBS: dict[str, Verb] = {
    "schedule": Verb(states.missing, _schedule, DUE, DUE),
    "update": Verb(states.in_delivery, _update, QUEUED, QUEUED),
    "cancel": Verb(states.in_delivery, lambda store, task: store.cancel([(task.key, None)]), MISSING, MISSING),
    "purge": Verb(states.in_delivery, lambda store, task: store.purge(), MISSING, MISSING),
    "replay": Verb(states.dead, _replay, DUE, DUE),
    "promote": Verb(states.overdue, lambda store, task: store.promote(), QUEUED, QUEUED),
    "promote and claim": Verb(states.overdue, lambda store, task: store.promote(claims=1), IN_DELIVERY, QUEUED),
    "load": Verb(
        states.in_delivery, lambda store, task: store.load([Entry(task.claim.id, task.key)]), IN_DELIVERY, QUEUED
    ),
    "settle": Verb(states.in_delivery, lambda store, task: store.settle([task.claim]), MISSING, MISSING),
    "retry": Verb(states.in_delivery, lambda store, task: store.retry(states.failed(task)), WAITING, QUEUED),
    "defer": Verb(states.in_delivery, lambda store, task: store.defer(states.failed(task)), DEFERRED, QUEUED),
    "bury": Verb(states.in_delivery, lambda store, task: store.bury(states.failed(task)), DEAD, QUEUED),
    "release": Verb(states.in_delivery, lambda store, task: store.release([task.claim]), RELEASED, QUEUED),
    "renew": Verb(states.in_delivery, lambda store, task: store.renew([task.claim.id]), IN_DELIVERY, QUEUED),
    "reclaim": Verb(states.retriable, lambda store, task: store.reclaim(10), REDELIVERED, State("queued", attempts=1)),
    "pending": Verb(states.in_delivery, lambda store, task: store.pending(10), IN_DELIVERY, QUEUED),
    "retire": Verb(states.in_due, lambda store, task: store.retire(0), DUE, DUE),
    "audit": Verb(states.in_delivery, _audit, IN_DELIVERY, QUEUED),
    "balance": Verb(states.in_delivery, lambda store, task: balance(store.client), IN_DELIVERY, QUEUED),
    "page": Verb(states.in_due, _page, DUE, DUE),
    "ledger": Verb(states.in_delivery, lambda store, task: Views(store.client).ledger(), IN_DELIVERY, QUEUED),
}
