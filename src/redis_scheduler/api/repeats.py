"""How a task repeats, as a body says it: what is wrong with that, and which times it means."""

import asyncio
from collections.abc import Iterator
from itertools import chain, islice

from msgspec import UNSET

from redis_scheduler.api import requests
from redis_scheduler.api.bodies import ScheduleRequest, Shown, UpdateRequest
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.shown import ended_view, view_of
from redis_scheduler.api.view import Info, LastOccurrence, TaskView
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.stored import Stored
from redis_scheduler.task import given
from redis_scheduler.task.due import NO_TTL, delay_until, due_after
from redis_scheduler.task.repeat import Fault, Progress, Repeat, rule_fault
from redis_scheduler.task.summary import Summary
from redis_scheduler.task.times import fault_of, next_ms, times_after

NEXT_SHOWN = 5
"""So many of a series' next times are shown."""


def check_repeat(repeat: Repeat, start_ms: int) -> None:
    """Raise InvalidField for a rule that means no time after its start, or contradicts itself."""
    refuse(fault_of(repeat, start_ms))


def refuse(fault: Fault | None) -> None:
    """Raise InvalidField for what is wrong with a rule."""
    if fault is None:
        return
    got = "" if fault.given is UNSET else f", got {given.shown(fault.given)}"
    code = Code.CONTRADICTION if fault.is_contradiction else Code.INVALID_VALUE
    raise InvalidField(f"repeat.{fault.member}", f"{fault.rule}{got}", code)


async def times_of(repeat: Repeat, after_ms: int, count: int) -> list[str]:
    """Return the first times after another, fewer if the series ends before. A rare time takes a millisecond: others go
    on in between."""
    return await _first(times_after(repeat, after_ms), count if repeat.times is UNSET else min(count, repeat.times))


async def _first(times: Iterator[int], count: int) -> list[str]:
    found: list[str] = []
    for at_ms in islice(times, count):
        found.append(rfc3339(at_ms))
        await asyncio.sleep(0)
    return found


def first_of(repeat: Repeat, request: ScheduleRequest | UpdateRequest, now_ms: int) -> tuple[float, int]:
    """Return the `ttl` that is kept in the record of a series, and its first time as scripts are given it.

    `every` comes first at `ttl` or `at`, or after one interval; cron at its first time from then on, or from now on.
    Raises InvalidField.
    """
    ttl: float = NO_TTL
    after_ms = now_ms
    if request.ttl is not UNSET or request.at is not UNSET:
        ttl, delay_ms = requests.when(request)
        after_ms = due_after(now_ms, delay_ms) - (1 if repeat.every is UNSET else round(repeat.every * 1000))
    check_repeat(repeat, after_ms)
    return ttl, delay_until(next_ms(repeat, after_ms) or 0)


def check_times(repeat: Repeat, progress: Progress) -> None:
    """Raise InvalidField for a changed rule by which a series has made all its occurrences already."""
    if repeat.times is not UNSET and repeat.times <= progress.made:
        raise InvalidField("repeat.times", f"must be more than {progress.made}, which were made, got {repeat.times}")


async def shown(stored: Stored, view: TaskView, calls: ShardCalls) -> Shown:
    """Return what is shown of one task: of a series also its next times, and what became of its last occurrence."""
    repeat = stored.record.options.repeat
    if repeat is UNSET or not isinstance(view.info, Info) or view.info.series is UNSET:
        return Shown(view)
    series = view.info.series
    if stored.state == "dead" or rule_fault(repeat):  # foreign hands wrote such a rule
        series.next = []
    else:
        left = NEXT_SHOWN if repeat.times is UNSET else min(NEXT_SHOWN, repeat.times - series.made)
        due_ms = stored.record.due
        series.next = await _first(chain([due_ms], times_after(repeat, due_ms)), max(0, left))
    repetition = stored.record.repetition
    if isinstance(repetition, Progress) and repetition.last:
        series.last = await _last(repetition.last, calls)
    return Shown(view)


async def shown_ended(key: str, summary: Summary, calls: ShardCalls) -> Shown:
    """Return what is shown of a task that has ended: of a series also what became of its last occurrence."""
    view, progress = ended_view(key, summary), summary.progress
    if progress is not None and progress.last and isinstance(view.info, Info) and view.info.series is not UNSET:
        view.info.series.last = await _last(progress.last, calls)
    return Shown(view)


async def _last(key: str, calls: ShardCalls) -> LastOccurrence:
    """Return what became of an occurrence. It stands in the shard of its series."""
    task = await calls.read.submit(key)
    if isinstance(task, int):
        task = await calls.views.task(key)
    if task is None:
        ended = await calls.recall.submit(key)
        return LastOccurrence(key, "finished" if ended is None else ended.state)
    info = view_of(task).info
    return LastOccurrence(key, task.state, info.last_failure if isinstance(info, Info) else UNSET)
