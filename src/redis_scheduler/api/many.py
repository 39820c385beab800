"""The handlers of the routes that do one thing to many tasks: those that the filters of the query want, or all.

What was done to a task once is nothing the second time: so a step that was taken, but not noted, may be taken again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Purged, UpdateRequest
from redis_scheduler.api.callers import caller_of
from redis_scheduler.api.changes import change_of, changeable
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS, TYPES
from redis_scheduler.api.operations import stepped, wanted_by
from redis_scheduler.api.pace import Pace, rate_of
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.shifts import ShiftsApi
from redis_scheduler.api.steps import PAUSED, STEP_BYTES, STEP_S, STEP_TASKS, WORK_S, Rest
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused, StoreUnavailable
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.filters import LISTED, Filters
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Page, Reading
from redis_scheduler.store.written import CancelAnswer, DiscardAnswer, Operation, ReplayAnswer, Standing

logger = Events(__name__)

DEAD, MOVABLE = "dead", ("scheduled", "deferred", "queued", "waiting")
_MOVED = (Standing.SCHEDULED, Standing.DEFERRED, Standing.QUEUED, Standing.WAITING)


class ManyApi(ShiftsApi):
    """What ShiftsApi does, and what may be done with many tasks at once."""

    async def cancel_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/cancel: take out all tasks that the filters want."""
        if not any(name in given for name in FILTERS):
            problem = f"The query names no filter: give one of {', '.join(FILTERS)}; DELETE /schedules deletes all"
            raise InvalidRequest(Code.INVALID_QUERY, problem)

        async def cancel(task: Stored) -> bool:
            return await self._taken_out(task, _expected(task, given)) in (
                CancelAnswer.CANCELLED,
                CancelAnswer.IN_DELIVERY,
            )

        return await self._each(request, given, "cancelled", cancel, LISTED)

    async def pause_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/pause: keep all tasks back that the filters want, but those in delivery."""

        async def pause(task: Stored) -> bool:
            return await self._places.of(task).pause.submit((task.key, _expected(task, given))) in _MOVED

        return await self._each(request, given, "paused", pause, MOVABLE)

    async def resume_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/resume: let all paused tasks come again that the filters want."""

        async def resume(task: Stored) -> bool:
            return await self._places.of(task).resume.submit((task.key, _expected(task, given))) is Standing.PAUSED

        return await self._each(request, given, "resumed", resume, (PAUSED,))

    async def run_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/run: make all tasks due now that the filters want, but those in delivery, and series."""
        # A series would be met again behind the occurrence that it makes, and make another each time.
        if given.get("repeats") == "true":
            raise InvalidField("repeats", "must not be true: series are run one by one", Code.CONTRADICTION)
        pace = Pace(rate_of(given), await self._places.ask_new(lambda calls: calls.views.now_ms()))

        async def run(task: Stored) -> bool:
            # Below 0 it is a point in time (task/due.py).
            wanted = (task.key, -pace.next_ms(task), _expected(task, given), False)
            found = await self._places.of(task).run.submit(wanted)
            return found in (*_MOVED, Standing.PAUSED)

        return await self._each(request, given, "run", run, (*MOVABLE, PAUSED), pace, _is_once)

    async def replay_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/replay: bring all dead letters back that the filters want and that can come back, as they are."""
        now_ms = await self._places.ask_new(lambda calls: calls.views.now_ms())
        pace, caller = Pace(rate_of(given), now_ms), caller_of(request)

        async def replay(task: Stored) -> bool:
            try:
                changeable(task)
                wanted = UpdateRequest(at=rfc3339(pace.next_ms(task))) if "rate" in given else UpdateRequest(ttl=0)
                change = change_of(task, wanted, now_ms)
                await self._check_change(task, wanted)
                submit = partial(self._places.of(task).replay.submit, change)
                _, found = await self._within_its_token(caller, task, change, submit)
            except RequestRefused:
                return False  # as POST /dead/{key}/replay says of it
            return found is ReplayAnswer.REPLAYED

        async def begin(tasks: Sequence[Stored]) -> None:
            await self._quotas.rated(caller, len(tasks))

        return await self._each(request, given, "replayed", replay, (DEAD,), pace, begin=begin)

    async def discard_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/delete: delete all dead letters that the filters want."""
        if not any(name in given for name in DEAD_FILTERS):
            problem = f"The query names no filter: give one of {', '.join(DEAD_FILTERS)}"
            raise InvalidRequest(Code.INVALID_QUERY, problem)

        async def discard(task: Stored) -> bool:
            return (
                await self._places.of(task).discard.submit((task.key, _expected(task, given))) is DiscardAnswer.DELETED
            )

        return await self._each(request, given, "deleted", discard, (DEAD,))

    async def purge(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /purge, DELETE /schedules: delete every task. Of several shards all are purged that are there; a 503
        names one that is not."""
        fields: dict[str, object] = {
            "client": request.client.host if request.client else None,
            "request_id": request_id_of(request.scope),
        }
        async with self._one_purge.held():
            count, error = 0, None
            for shard in await self._places.all():
                try:
                    count += await shard.writes.purge()
                    # What it leaves in indexes are no tasks any more, and a worker takes out the rest.
                    with contextlib.suppress(StoreUnavailable):
                        await shard.retention.clean(WORK_S)
                except StoreUnavailable as found:
                    error = error or found
            if error is not None:
                # It may have been applied: the log must tell why tasks are missing.
                logger.warning("purge-unanswered", tasks_at_least=count, **fields)
                raise error
        logger.warning("purged", tasks=count, **fields)
        return answer(Purged(count))

    async def _each(
        self,
        request: Request,
        given: Mapping[str, str],
        verb: str,
        touch: Callable[[Stored], Awaitable[bool]],
        states: tuple[str, ...],
        pace: Pace | None = None,
        may: Callable[[Stored], bool] = lambda _: True,
        begin: Callable[[Sequence[Stored]], Awaitable[None]] | None = None,
    ) -> Response:
        """Do it to each task in turn that is wanted, and is in a state in which it can be done; with `dry_run` only
        count. `begin` may refuse the tasks of a step."""
        filters = wanted_by(given, states, verb, caller_of(request))
        looked_for = replace(filters, states=filters.states or states)

        async def take(calls: ShardCalls, operation_id: str, operation: Operation) -> Operation:
            cursor = pace.begin(operation.cursor) if pace and operation_id else operation.cursor
            page = await _page(calls.views, cursor, looked_for, DEAD in states, self._rest)
            wanted = [task for task in page.tasks if may(task)]
            if begin is not None and operation_id:
                await begin(wanted)
            done = await asyncio.gather(*map(touch, wanted)) if operation_id else [True] * len(wanted)
            onward = pace.onward(page.next) if pace and operation_id else page.next
            after = stepped(operation, sum(done), page.looked_at, onward)
            return await self._noted(calls, given, operation_id, after)

        return await self._operated(request, given, verb, filters, f"rate {rate_of(given)}", take)


async def _page(views: DeadLetters, cursor: str | None, filters: Filters, is_dead: bool, rest: Rest) -> Page:
    """Return the tasks of a step, in a page of the usual size. One of dead letters is smaller: a replay writes each
    record anew, which takes a second for 4 MiB on a busy machine."""
    if is_dead:
        return await views.dead_page(STEP_TASKS, cursor, filters, Reading(STEP_S, STEP_BYTES, rest))
    return await views.page(STEP_TASKS, cursor, filters, Reading(STEP_S, rest=rest))


def _expected(task: Stored, given: Mapping[str, str]) -> bytes:
    """Return the record that a task must still have: for a token with types another could be of another one."""
    return task.raw if TYPES in given else b""


def _is_once(task: Stored) -> bool:
    return task.record.options.repeat is UNSET
