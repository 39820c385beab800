"""From checked requests to tasks in Redis: one, or many in parts of one call each."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import UNSET

from redis_scheduler.api import requests
from redis_scheduler.api.batch_requests import of_task
from redis_scheduler.api.bodies import BatchItem, Placed, ScheduleRequest, Tried
from redis_scheduler.api.content import content_of
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.errors import Code, SchedulerError, StoreFull, StoreUnavailable
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.refusal import told
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.options import options_of
from redis_scheduler.task.record import DEFAULT_TYPE, record_tail

CallsOf = Callable[[str], ShardCalls]
"""Gives the calls to the shard of a task's key."""

MADE_AT_ONCE = 100
"""So many records are made in one go: about half a millisecond."""

WRITTEN, UNKNOWN, NOT_WRITTEN = "written", "unknown", "not written"


class PartlyWritten(SchedulerError):
    """Not all tasks of a request are known to be written. `cause`: what Redis did; `tasks`: what became of each."""

    def __init__(self, cause: StoreUnavailable | StoreFull, tasks: list[Tried]) -> None:
        outcomes = [task.outcome for task in tasks]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in (WRITTEN, UNKNOWN, NOT_WRITTEN))
        is_full = isinstance(cause, StoreFull)
        what = "Redis is out of memory" if is_full else told(cause)
        super().__init__(f"{what}; of {len(tasks)} tasks: {counts}; `tasks` says which")
        self.code = Code.REDIS_FULL if is_full else Code.REDIS_UNAVAILABLE
        self.tasks = tasks


async def new_task(
    wanted: ScheduleRequest, type_name: str | None, calls_of: CallsOf, traceparent: str | None = None
) -> NewTask:
    """Return the task of a checked request, with a new key. Raises RequestRefused while its options are not served.

    `traceparent`: the trace that the request is part of.
    """
    if type_name == DEFAULT_TYPE:
        type_name = None
    ttl, delay_ms = requests.when(wanted)
    (content, data), options, key = content_of(wanted), options_of(wanted), new_task_key()
    await calls_of(key).check_options(options, content)
    if traceparent is not None:
        options = await calls_of(key).traced(options, traceparent)
    tail = record_tail(wanted.webhook, ttl, type_name, data, options, content)
    return NewTask(key, delay_ms, tail, type_name)


async def schedule_all(
    items: Sequence[BatchItem],
    type_name: str | None,
    calls_of: CallsOf,
    call_limit: int,
    traceparent: str | None = None,
) -> list[Placed]:
    """Write tasks in their order, as many at a time as fit one call; `type_name` is the type of those that name none.

    Raises RequestRefused before anything is written, and PartlyWritten at the first part that fails; the parts behind
    it are not tried.
    """
    tasks = []
    for index, item in enumerate(items):
        with of_task(index):
            tasks.append(await new_task(item, type_name if item.type is UNSET else item.type, calls_of, traceparent))
        if len(tasks) % MADE_AT_ONCE == 0:
            await asyncio.sleep(0)
    placed: list[Placed] = []
    for start in range(0, len(tasks), call_limit):
        part = tasks[start : start + call_limit]
        answers = await asyncio.gather(
            *(calls_of(task.key).schedule.submit(task) for task in part), return_exceptions=True
        )
        if error := next((answer for answer in answers if isinstance(answer, BaseException)), None):
            if not isinstance(error, StoreUnavailable | StoreFull):
                raise error
            tried = [Tried(WRITTEN, task.key, task.due) for task in placed]
            tried += map(_tried, part, answers)
            raise PartlyWritten(error, tried + [Tried(NOT_WRITTEN)] * (len(tasks) - len(tried))) from error
        placed += [
            Placed(task.key, rfc3339(due_ms))
            for task, due_ms in zip(part, answers, strict=True)
            if isinstance(due_ms, int)
        ]
    return placed


def _tried(task: NewTask, answer: int | BaseException) -> Tried:
    if isinstance(answer, int):
        return Tried(WRITTEN, task.key, rfc3339(answer))
    return Tried(NOT_WRITTEN) if isinstance(answer, StoreFull) else Tried(UNKNOWN, task.key)
