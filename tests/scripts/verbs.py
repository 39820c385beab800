"""Every verb once, for what holds for all of them: a task in a fitting state, the call, and where the task stands
then."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis_scheduler.store import writes
from redis_scheduler.store.alerts import Alerts, Found, Turn
from redis_scheduler.store.answer_shape import redis_ms
from redis_scheduler.store.audit import audit, balance
from redis_scheduler.store.history import History
from redis_scheduler.store.journal import Journal, Note
from redis_scheduler.store.limiting import Asked, Judged, Limiting
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.rekeying import Rekeying
from redis_scheduler.store.retention import Retention
from redis_scheduler.store.script import Script
from redis_scheduler.store.sign_ins import OWN, SignIns
from redis_scheduler.store.token import Token
from redis_scheduler.store.tokens import NO_SHARE, Coming, Share, Tokens
from redis_scheduler.store.vault import Vault
from redis_scheduler.store.views import Views
from redis_scheduler.store.workers import Workers
from redis_scheduler.store.written import Acknowledgement, OnceTask, Operation, Put, ShiftStep, Step
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.limit import NO_LIMIT, Breaking, Limit
from redis_scheduler.task.repeat import Progress
from redis_scheduler.task.summary import ended_tail, summary_tail
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
    REDELIVERED,
    WAITING,
    State,
    Task,
)
from tests.support.names import KEYS, OTHER_KEY, TEST_KEY
from tests.support.store import Store


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


async def _schedule_once(store: Store, task: Task) -> Any:
    once = OnceTask("id", "mac", NewTask(task.key, states.TTL_MS, states.tail(), None))
    return await store.schedule_once([once], 60_000, 10)


async def _update(store: Store, task: Task) -> Any:
    return await store.update([await states.change(store, task)])


async def _replay(store: Store, task: Task) -> Any:
    return await store.replay([await states.change(store, task, 1_000)])


async def _put(store: Store, task: Task) -> Any:
    [raw] = await store.client.command("HMGET", KEYS.tasks, task.key)
    return await store.put([Put(NewTask(task.key, states.TTL_MS, states.tail(), None), raw or b"", None)])


async def _page(store: Store, task: Task) -> Any:
    page = await Views(store.client).page(10, None)
    return [found.key for found in page.tasks]


def keeping(store: Store) -> Store:
    """The same store, but it keeps summaries."""
    found = Store(store.client, store.name, kept=KEPT)
    found._batch_numbers = store._batch_numbers
    return found


async def _finish(store: Store, task: Task) -> Any:
    task.claim.result = summary_tail("delivered", task.claim.record, 1, 12, 200)
    return await keeping(store).settle([task.claim])


async def _cancel_and_keep(store: Store, task: Task) -> Any:
    return await keeping(store).cancel([(task.key, None, b"", summary_tail("cancelled", task.claim.record, 0))])


async def _expire_and_keep(store: Store, task: Task) -> Any:
    task.claim.result = summary_tail("expired", task.claim.record, 1)
    return await keeping(store).expire(states.failed(task))


async def _end_and_keep(store: Store, task: Task) -> Any:
    """The task is a series, whose last time has come."""
    firing = states.fired(task, next_ms=None)
    firing.after.result = ended_tail(task.claim.record, Progress(1), states.MADE_MS)
    return await keeping(store).fire([firing])


async def _shift(store: Store, task: Task) -> Any:
    stored = await Views(store.client).task(task.key)
    step = ShiftStep(1, 1, "mark", "next", 5_000)
    return await store.shift("id", step, [] if stored is None else [stored])


ROWS: dict[Script, Callable[[Store, Task], Awaitable[Any]]] = {
    writes.CANCEL: lambda store, task: _as_row(task.key, None),
    writes.PAUSE: lambda store, task: _as_row(task.key, b""),
    writes.RESUME: lambda store, task: _as_row(task.key, b""),
    writes.RUN: lambda store, task: _as_row(task.key, b"", 0, 0),
    writes.REPLAY: lambda store, task: states.change(store, task, 1_000),
    writes.DISCARD: lambda store, task: _as_row(task.key, b""),
}
"""The row of each script that may be a step of an operation."""


async def _as_row(*values: Any) -> Any:
    return values


async def step_of(store: Store, script: Script, *tasks: Task, of: Operation | None = None) -> Operation | None:
    """Take a step of an operation, the first one unless another is given: how far it is behind it."""
    rows = [await ROWS[script](store, task) for task in tasks]
    return await store.step(script, rows, Step("id", of or Operation("mark", "next", 1, 0, 7)))


def _in_steps(script: Script, make: states.Maker, after: State, after_destroy: State | None = None) -> Verb:
    return Verb(make, lambda store, task: step_of(store, script, task), after, after_destroy or after)


async def _clean(store: Store, task: Task) -> Any:
    return await Retention(store.client, Kept())._clean([b"mail"], "0", b"mark")


async def _trim(store: Store, task: Task) -> Any:
    return await Retention(store.client, Kept(dead_ttl_ms=0)).trim()


async def _tally(store: Store, task: Task) -> Any:
    return await History(store.client, store.name).add(1, 1, {"delivered": 1})


async def _rekey(store: Store, task: Task) -> Any:
    """Seal all that is not sealed yet, or with the key of the tests."""
    work = Rekeying(store.client, Vault([OTHER_KEY, TEST_KEY]), writes=True)
    return [left async for step in work.run() for left in step]


TOKEN = Token("n", "", ("read",), 1, ("mail",), rate=5, tasks=9)
TOKEN_ID = "0123456789"
TOLD = Coming("process", 7, Share(1, 9))


async def _token_write(store: Store, task: Task) -> Any:
    return await Tokens(store.client).write(TOKEN_ID, b"", TOKEN)


async def _token_find(store: Store, task: Task) -> Any:
    return [token for _, token in await Tokens(store.client).find([(TOKEN_ID, 1)])]


async def _with_token(store: Store) -> Task:
    task = await states.in_due(store)
    await _token_write(store, task)
    return task


async def _token_take(store: Store, task: Task) -> Any:
    return await Tokens(store.client).take(TOKEN_ID, TOKEN, Share(1, 9), NO_SHARE, 1, TOLD)


async def _audit(store: Store, task: Task) -> Any:
    return [finding async for finding in audit(store.client, repairs=True)]


async def _set_clock_back(store: Store, task: Task) -> Task:
    """Have Redis' clock set back after a sweep."""
    now_ms = redis_ms(await store.client.command("TIME"))
    await store.client.command("HSET", KEYS.sweep, "clock_ms", now_ms + 20_000)
    return task


async def _in_delivery_before_clock_set(store: Store) -> Task:
    return await _set_clock_back(store, await states.in_delivery(store))


async def _retriable_after_clock_set(store: Store) -> Task:
    return await _set_clock_back(store, await states.waiting(store, delay_ms=10_000))


async def _deferred_before_clock_set(store: Store) -> Task:
    task = await _set_clock_back(store, await states.deferred(store))
    await store.look(10)
    return task


def said(task: Task, sign: str = "+") -> Acknowledgement:
    """What the receiver of its claim says."""
    return Acknowledgement(task.key, task.claim.id, task.claim.attempts, sign, states.TTL_MS)


LIMIT = "localhost:80"
"""That of the tasks that tests make."""


def limiting(store: Store, limit: Limit = NO_LIMIT) -> Limiting:
    return Limiting(store.client, default=limit)


def asked(task: Task, has_begun: int = 0) -> Asked:
    return Asked(task.key, LIMIT, has_begun)


ONE_AT_ONCE, ONE_A_SECOND = Limit(concurrency=1), Limit(rate=1)


async def _promote_into_line(store: Store, task: Task) -> Any:
    return await states.with_room(store, 0).promote(in_turn=True)


async def _permit(store: Store, task: Task) -> Any:
    return await limiting(store, ONE_AT_ONCE).permit([asked(task)])


async def _permit_again(store: Store, task: Task) -> Any:
    return await limiting(store, ONE_AT_ONCE).permit([asked(task, has_begun=1)])


async def _give_back(store: Store, task: Task) -> Any:
    return await limiting(store, ONE_AT_ONCE).admit([task.key])


async def _judge(store: Store) -> Any:
    return await Limiting(store.client, breaking=Breaking(5)).judge([Judged(LIMIT, 1, 0)])


def alerts(store: Store) -> Alerts:
    return Alerts(store.client, "worker-a", every_ms=60_000, turn_ms=5_000)


async def _alert(store: Store, task: Task) -> Any:
    now_ms = int(await store.client.command("HGET", KEYS.alerts, "turn") or 1)
    return await alerts(store).note(Turn(now_ms), [Found("late", 0, "by 5 s")], {0: now_ms})


async def _with_turn(store: Store) -> Task:
    task = await states.in_due(store)
    await alerts(store).take_turn()
    return task


async def _with_copy(store: Store) -> Task:
    task = await states.in_due(store)
    await alerts(store).copy(1, [(b"is:late", b"1 5 5 0"), (b"tell:1", b"began 0 5 late\nby 5 s")])
    return task


async def _copy(store: Store, task: Task) -> Any:
    await alerts(store).copy(2, [(b"is:ledger", b"1 9 9 0"), (b"number", b"1")])
    _, fields = await alerts(store).noted()
    return sorted(fields)


async def _keep_turn(store: Store, task: Task) -> Any:
    return await alerts(store).keep_turn()


RELEASED = State("waiting", owner="waiting")
PAUSED_RETRY = State("paused", attempts=1)

NOTE = Note(who="api", what="POST /purge", via="api")

VERBS: dict[str, Verb] = {
    "schedule": Verb(states.missing, _schedule, DUE, DUE),
    "schedule once": Verb(states.missing, _schedule_once, DUE, DUE),
    "update": Verb(states.in_delivery, _update, QUEUED, QUEUED),
    "cancel": Verb(states.in_delivery, lambda store, task: store.cancel([(task.key, None)]), MISSING, MISSING),
    "purge": Verb(states.in_delivery, lambda store, task: store.purge(), MISSING, MISSING),
    "replay": Verb(states.dead, _replay, DUE, DUE),
    "put": Verb(states.in_delivery, _put, DUE, DUE),
    "put of a new task": Verb(states.missing, _put, DUE, DUE),
    "put of a dead task": Verb(states.dead, _put, DUE, DUE),
    "put of a paused task": Verb(states.paused, _put, PAUSED, PAUSED),
    "pause": Verb(states.queued, lambda store, task: store.pause([task.key]), PAUSED, PAUSED),
    "pause of a retry": Verb(states.waiting, lambda store, task: store.pause([task.key]), PAUSED_RETRY, PAUSED_RETRY),
    "resume": Verb(states.paused, lambda store, task: store.resume([task.key]), DUE, DUE),
    "run": Verb(states.waiting, lambda store, task: store.run([task.key]), DEFERRED, State("queued", attempts=1)),
    "run of a paused task": Verb(states.paused, lambda store, task: store.run([task.key]), DUE, DUE),
    "run of a series": Verb(states.queued, lambda store, task: store.run([task.key], are_series=[1]), QUEUED, QUEUED),
    "shift": Verb(states.in_due, _shift, DUE, DUE),
    "shift of a paused task": Verb(states.paused, _shift, PAUSED, PAUSED),
    "clean": Verb(lambda store: states.in_due(store, "mail"), _clean, DUE, DUE),
    "step of a cancel": _in_steps(writes.CANCEL, states.in_delivery, MISSING),
    "step of a pause": _in_steps(writes.PAUSE, states.queued, PAUSED),
    "step of a resume": _in_steps(writes.RESUME, states.paused, DUE),
    "step of a run": _in_steps(writes.RUN, states.waiting, DEFERRED, State("queued", attempts=1)),
    "step of a replay": _in_steps(writes.REPLAY, states.dead, DUE),
    "step of a discard": _in_steps(writes.DISCARD, states.dead, MISSING),
    "restore": Verb(states.missing, lambda store, task: store.restore([states.kept(task)]), DUE, DUE),
    "rekey": Verb(states.redelivered, _rekey, REDELIVERED, State("queued", attempts=1)),
    "expect": Verb(states.in_delivery, lambda store, task: store.expect([states.taken_on(task)]), AWAITING, QUEUED),
    "acknowledge": Verb(states.awaiting, lambda store, task: store.acknowledge([said(task)]), QUEUED, QUEUED),
    "acknowledge early": Verb(
        states.in_delivery, lambda store, task: store.acknowledge([said(task)]), IN_DELIVERY, QUEUED
    ),
    "extend": Verb(states.awaiting, lambda store, task: store.acknowledge([said(task, "")]), AWAITING, AWAITING),
    "promote": Verb(states.overdue, lambda store, task: store.promote(), QUEUED, QUEUED),
    "promote and claim": Verb(states.overdue, lambda store, task: store.promote(most_claims=1), IN_DELIVERY, QUEUED),
    "promote in turn": Verb(states.overdue, lambda store, task: store.promote(in_turn=True), QUEUED, QUEUED),
    "promote in turn and claim": Verb(
        states.overdue, lambda store, task: store.promote(most_claims=1, in_turn=True), IN_DELIVERY, QUEUED
    ),
    "promote into a line": Verb(states.overdue, _promote_into_line, IN_TURN, IN_TURN),
    "promote out of a line": Verb(states.in_turn, lambda store, task: store.promote(in_turn=True), QUEUED, QUEUED),
    "claim": Verb(states.queued, lambda store, task: store.claim(1), IN_DELIVERY, IN_DELIVERY),
    "hold": Verb(states.in_delivery, lambda store, task: store.hold([task.claim]), HELD, QUEUED),
    "admit": Verb(states.held, lambda store, task: limiting(store).admit(), QUEUED, QUEUED),
    "admit of a retry": Verb(states.held_retry, _give_back, State("queued", attempts=1), State("queued", attempts=1)),
    "permit": Verb(states.in_delivery, _permit, IN_DELIVERY, QUEUED),
    "permit that goes on": Verb(states.in_delivery, _permit_again, IN_DELIVERY, QUEUED),
    "limit": Verb(states.held, lambda store, task: limiting(store).say(LIMIT, ONE_A_SECOND), HELD, HELD),
    "limit that is forgotten": Verb(states.held, lambda store, task: limiting(store).say(LIMIT, None), HELD, HELD),
    "judge": Verb(states.held, lambda store, task: _judge(store), HELD, HELD),
    "hosts": Verb(states.held, lambda store, task: limiting(store).states([LIMIT]), HELD, HELD),
    "load": Verb(
        states.in_delivery, lambda store, task: store.load([Entry(task.claim.id, task.key)]), IN_DELIVERY, QUEUED
    ),
    "settle": Verb(states.in_delivery, lambda store, task: store.settle([task.claim]), MISSING, MISSING),
    "finish": Verb(states.in_delivery, _finish, MISSING, MISSING),
    "cancel and keep": Verb(states.in_delivery, _cancel_and_keep, MISSING, MISSING),
    "retry": Verb(states.in_delivery, lambda store, task: store.retry(states.failed(task)), WAITING, QUEUED),
    "defer": Verb(states.in_delivery, lambda store, task: store.defer(states.failed(task)), DEFERRED, QUEUED),
    "bury": Verb(states.in_delivery, lambda store, task: store.bury(states.failed(task)), DEAD, QUEUED),
    "again": Verb(states.in_delivery, lambda store, task: store.again(states.failed(task)), DUE, DUE),
    "expire": Verb(states.in_delivery, lambda store, task: store.expire(states.failed(task)), MISSING, QUEUED),
    "fire": Verb(states.in_delivery, lambda store, task: store.fire([states.fired(task)]), DUE, QUEUED),
    "expire and keep": Verb(states.in_delivery, _expire_and_keep, MISSING, QUEUED),
    "end and keep": Verb(states.in_delivery, _end_and_keep, MISSING, QUEUED),
    "release": Verb(states.in_delivery, lambda store, task: store.release([task.claim]), RELEASED, QUEUED),
    "renew": Verb(states.in_delivery, lambda store, task: store.renew([task.claim.id]), IN_DELIVERY, QUEUED),
    "look": Verb(states.retriable, lambda store, task: store.look(10), REDELIVERED, State("queued", attempts=1)),
    "look after the clock was set back": Verb(
        _retriable_after_clock_set,
        lambda store, task: store.look(10),
        REDELIVERED,
        State("queued", attempts=1),
    ),
    "retry after the clock was set back": Verb(
        _in_delivery_before_clock_set, lambda store, task: store.retry(states.failed(task)), WAITING, QUEUED
    ),
    "discard": Verb(states.dead, lambda store, task: store.discard([task.key]), MISSING, MISSING),
    "trim": Verb(states.dead, _trim, MISSING, MISSING),
    "rewind": Verb(_deferred_before_clock_set, lambda store, task: store.rewind(), DEFERRED, DEFERRED),
    "pending": Verb(states.in_delivery, lambda store, task: store.pending(10), IN_DELIVERY, QUEUED),
    "retire": Verb(states.in_due, lambda store, task: store.retire(0), DUE, DUE),
    "tally": Verb(states.in_due, _tally, DUE, DUE),
    "live": Verb(states.in_due, lambda store, task: Workers(store.client).count(), DUE, DUE),
    "note": Verb(states.in_due, lambda store, task: Journal(store.client, 10).note(NOTE), DUE, DUE),
    "watch": Verb(states.in_due, lambda store, task: alerts(store).take_turn(), DUE, DUE),
    "watch that goes on": Verb(_with_turn, _keep_turn, DUE, DUE),
    "alert": Verb(_with_turn, _alert, DUE, DUE),
    "alert copy": Verb(_with_copy, _copy, DUE, DUE),
    "sign in": Verb(
        states.in_due, lambda store, task: SignIns(store.client).begin("text", OWN, "token", 9_000), DUE, DUE
    ),
    "token write": Verb(states.in_due, _token_write, DUE, DUE),
    "token find": Verb(_with_token, _token_find, DUE, DUE),
    "token take": Verb(states.in_due, _token_take, DUE, DUE),
    "audit": Verb(states.in_delivery, _audit, IN_DELIVERY, QUEUED),
    "balance": Verb(states.in_delivery, lambda store, task: balance(store.client), IN_DELIVERY, QUEUED),
    "page": Verb(states.in_due, _page, DUE, DUE),
    "ledger": Verb(states.in_delivery, lambda store, task: Views(store.client).ledger(), IN_DELIVERY, QUEUED),
}
