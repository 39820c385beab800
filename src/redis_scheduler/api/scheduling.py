"""From checked requests to tasks in Redis: one, or many in parts of one call each."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise

from msgspec import UNSET

from redis_scheduler.api import requests
from redis_scheduler.api.batch_requests import of_task
from redis_scheduler.api.bodies import BatchItem, ScheduledTask, ScheduleRequest, Tried
from redis_scheduler.api.callers import Caller, refuse_others
from redis_scheduler.api.content import content_of
from redis_scheduler.api.idempotency import Once, stored_by
from redis_scheduler.api.places import Places
from redis_scheduler.api.repeats import first_of
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.errors import Code, RequestRefused, SchedulerError, StoreFull, StoreUnavailable
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.refusal import told
from redis_scheduler.store.written import StoredTask
from redis_scheduler.task.content import Content
from redis_scheduler.task.key import has_made_form, new_task_key
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import NONE, Options, options_of
from redis_scheduler.task.record import DEFAULT_TYPE, record_tail

Put = Callable[[NewTask], Awaitable[int]]
"""Enters a task under its own key, or replaces the one that has it; returns when it is due, in Redis' ms."""

MADE_AT_ONCE = 100
MADE_BYTES = 16_384
"""So many records are made in one go, and about so many bytes of them: about half a millisecond, and 5 ms if there are
callbacks in callbacks."""

_NONE = NewTask("", 0, b"", None)
"""In the place of a task that is only asked for."""

WRITTEN, UNKNOWN, NOT_WRITTEN = "written", "unknown", "not written"


class PartlyWritten(SchedulerError):
    """Not all tasks of a request are known to be written. `cause`: why; `tasks`: what became of each."""

    def __init__(self, cause: Exception, tasks: list[Tried]) -> None:
        match cause:
            case StoreUnavailable():
                self.code, what = Code.REDIS_UNAVAILABLE, told(cause)
            case RequestRefused():
                self.code, what = cause.code, str(cause)
            case _:
                self.code, what = Code.REDIS_FULL, "Redis is out of memory"
        outcomes = [task.outcome for task in tasks]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in (WRITTEN, UNKNOWN, NOT_WRITTEN))
        super().__init__(f"{what}; of {len(tasks)} tasks: {counts}; `tasks` says which")
        self.tasks = tasks


async def new_task(
    wanted: ScheduleRequest,
    type_name: str | None,
    places: Places,
    traceparent: str | None,
    caller: Caller | None,
    own_key: str | None = None,
    clocks: dict[ShardCalls, int] | None = None,
) -> NewTask:
    """Return the task of a checked request, with its own key or a new one. Raises RequestRefused while its options are
    not served.

    `traceparent`: the trace that the request is part of; `caller`: who asks. `clocks`: what is known of Redis' time for
    this request.
    """
    if caller is not None:
        refuse_others(caller, type_name, wanted)
    if type_name is not None:
        requests.check_new_type(type_name)
        if type_name == DEFAULT_TYPE:
            type_name = None
    content, options, key = content_of(wanted), options_of(wanted), own_key or new_task_key()
    if options is NONE and content[0] == "data" and caller is None and type_name is traceparent is None:
        ttl, delay_ms = requests.when(wanted)
        return NewTask(key, delay_ms, record_tail(wanted.webhook, ttl, None, content[1]), None)
    return await places.ask_new(
        partial(_task_served, wanted, key, content, options, type_name, traceparent, caller, clocks)
    )


async def _task_served(
    wanted: ScheduleRequest,
    key: str,
    content: tuple[Content, bytes | None],
    options: Options,
    type_name: str | None,
    traceparent: str | None,
    caller: Caller | None,
    clocks: dict[ShardCalls, int] | None,
    calls: ShardCalls,
) -> NewTask:
    """Return a task that says more than webhook, time and data, if it is served as a shard says."""
    token = None if caller is None else caller.id
    if wanted.repeat is UNSET:
        ttl, delay_ms = requests.when(wanted)
    else:
        ttl, delay_ms = first_of(wanted.repeat, wanted, await _clock_of(calls, clocks))
        await asyncio.sleep(0)  # a rare time takes a millisecond to find
    if options is not NONE or content[0] != "data" or token is not None:
        calls.check_policy(options)
        await calls.check_options(options, content[0], token)
    if traceparent is not None:
        options = await calls.traced(options, traceparent)
    tail = record_tail(wanted.webhook, ttl, type_name, content[1], options, content[0], token=token)
    listed = listing_of(type_name, options, token)
    if listed is not None:
        await calls.names.admit(listed, caller=caller)
    return NewTask(key, delay_ms, tail, listed)


async def _clock_of(calls: ShardCalls, clocks: dict[ShardCalls, int] | None) -> int:
    if clocks is None:
        return await calls.views.now_ms()
    if calls not in clocks:
        clocks[calls] = await calls.views.now_ms()
    return clocks[calls]


async def new_tasks(
    items: Sequence[BatchItem],
    type_name: str | None,
    places: Places,
    traceparent: str | None,
    caller: Caller | None,
) -> list[NewTask]:
    """Return the tasks of a batch, in their order; `type_name` is the type of those that name none. Raises
    RequestRefused."""
    tasks, made_bytes, clocks = [], 0, dict[ShardCalls, int]()
    for index, item in enumerate(items):
        with of_task(index):
            own_type = type_name if item.type is UNSET else item.type
            own_key = None if item.key is UNSET else item.key
            tasks.append(await new_task(item, own_type, places, traceparent, caller, own_key, clocks))
        made_bytes += len(tasks[-1].tail)
        if len(tasks) % MADE_AT_ONCE == 0 or made_bytes > MADE_BYTES:
            made_bytes = 0
            await asyncio.sleep(0)
    return tasks


async def schedule_all(
    tasks: Sequence[NewTask], places: Places, call_limit: int, once: Once | None, put: Put
) -> tuple[list[ScheduledTask], bool]:
    """Write tasks in their order, as many at a time as fit one call; return them, and whether an earlier request had
    written all of them.

    With an Idempotency-Key the first task goes alone: where the key is that of another request, no other is written.
    Raises PartlyWritten at the first part that fails (RequestRefused if nothing was written); the parts behind it are
    not tried.
    """
    placed: list[ScheduledTask] = []
    bounds = [0, *range(call_limit, len(tasks), call_limit), len(tasks)]
    if once is not None and bounds[1] > 1:
        bounds.insert(1, 1)
    for start, end in pairwise(bounds):
        part = tasks[start:end]
        found = await (_placed(part, places, put) if once is None else _placed_once(part, start, places, once))
        if error := next((one for one in found if isinstance(one, BaseException)), None):
            raise _failure(error, [*placed, *found], tasks, once is not None) from error
        placed += [one for one in found if isinstance(one, ScheduledTask)]
    return placed, all(one.key != task.key for one, task in zip(placed, tasks, strict=True))


async def stored_before(once: Once, count: int, places: Places) -> list[ScheduledTask] | None:
    """Return what an earlier request with the same Idempotency-Key and content has stored, `count` tasks; None where it
    has not stored all of them."""
    found = await places_before(once, count, places)
    stored = [ScheduledTask(one.key, rfc3339(one.due_ms)) for one in found if one is not None]
    return stored if len(stored) == count else None


async def places_before(once: Once, count: int, places: Places) -> list[StoredTask | None]:
    """Return for each of `count` tasks what an earlier request with the same Idempotency-Key and content has stored."""
    wanted = [once.task(_NONE, place) for place in range(count)]
    found = await asyncio.gather(*map(places.stored_once, wanted))
    return [one if isinstance(one, StoredTask) else None for one in found]


async def _placed(part: Sequence[NewTask], places: Places, put: Put) -> list[ScheduledTask | BaseException]:
    """Write one part; return each task, or its error."""
    answers = await asyncio.gather(
        *(places.schedule.submit(task) if has_made_form(task.key) else put(task) for task in part),
        return_exceptions=True,
    )
    return [
        ScheduledTask(task.key, rfc3339(answer)) if isinstance(answer, int) else answer
        for task, answer in zip(part, answers, strict=True)
    ]


async def _placed_once(
    part: Sequence[NewTask], start: int, places: Places, once: Once
) -> list[ScheduledTask | BaseException]:
    """The same of a request with an Idempotency-Key; `start`: the place of the first task."""
    wanted = [once.task(task, place) for place, task in enumerate(part, start)]
    answers = await asyncio.gather(*map(places.once, wanted), return_exceptions=True)
    found: list[ScheduledTask | BaseException] = []
    for answer in answers:
        try:
            stored = answer if isinstance(answer, BaseException) else stored_by(answer, once)
        except RequestRefused as error:
            stored = error
        found.append(stored if isinstance(stored, BaseException) else ScheduledTask(stored.key, rfc3339(stored.due_ms)))
    return found


def _failure(
    error: BaseException, found: Sequence[ScheduledTask | BaseException], tasks: Sequence[NewTask], is_once: bool
) -> BaseException:
    """Return what is raised when a part has failed: `found` of it and of those before it."""
    if not isinstance(error, StoreUnavailable | StoreFull | RequestRefused):
        return error
    tried = [Tried(NOT_WRITTEN)] * len(tasks)
    for number, (task, one) in enumerate(zip(tasks, found, strict=False)):
        if isinstance(one, ScheduledTask):
            tried[number] = Tried(WRITTEN, one.key, one.due)
        elif isinstance(one, StoreUnavailable):
            # With an Idempotency-Key the task may stand under the key of an earlier request.
            tried[number] = Tried(UNKNOWN, None if is_once else task.key)
    is_untouched = isinstance(error, RequestRefused) and all(one.outcome == NOT_WRITTEN for one in tried)
    return error if is_untouched else PartlyWritten(error, tried)
