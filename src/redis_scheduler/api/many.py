"""The handlers of the routes that do one thing to many tasks: those that the filters of the query want, or all.

Each step is one call of the script that does it to one task, which notes in the same moment how far the operation is.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Purged, UpdateRequest
from redis_scheduler.api.callers import caller_of
from redis_scheduler.api.changes import change_of, changeable
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS, TYPES
from redis_scheduler.api.operations import as_asked, stepped, wanted_by
from redis_scheduler.api.pace import Pace, rate_of
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.shifts import ShiftsApi, not_known
from redis_scheduler.api.steps import PAUSED, STEP_BYTES, STEP_S, STEP_TASKS, WORK_S
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused, StoreUnavailable
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.store.filters import LISTED
from redis_scheduler.store.script import Script
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Reading
from redis_scheduler.store.writes import CANCEL, DISCARD, PAUSE, REPLAY, RESUME, RUN
from redis_scheduler.store.written import Change, Operation, Step

logger = Events(__name__)

DEAD, MOVABLE = "dead", ("scheduled", "deferred", "queued", "waiting")


class ManyApi(ShiftsApi):
    """What ShiftsApi does, and what may be done with many tasks at once."""

    async def cancel_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/cancel: take out all tasks that the filters want."""
        if not any(name in given for name in FILTERS):
            problem = f"The query names no filter: give one of {', '.join(FILTERS)}; DELETE /schedules deletes all"
            raise InvalidRequest(Code.INVALID_QUERY, problem)

        def row(task: Stored) -> Any:
            return self._places.of(task).cancellation(task, _expected(task, given))

        return await self._each(request, given, "cancelled", CANCEL, row, LISTED)

    async def pause_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/pause: keep all tasks back that the filters want, but those in delivery."""
        return await self._each(request, given, "paused", PAUSE, _guarded(given), MOVABLE)

    async def resume_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/resume: let all paused tasks come again that the filters want."""
        return await self._each(request, given, "resumed", RESUME, _guarded(given), (PAUSED,))

    async def run_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/run: make all tasks due now that the filters want, but those in delivery, and series."""
        # A series would be met again behind the occurrence that it makes, and make another each time.
        if given.get("repeats") == "true":
            raise InvalidField("repeats", "must not be true: series are run one by one, got true", Code.CONTRADICTION)
        pace = Pace(rate_of(given), await self._places.ask_new(lambda calls: calls.views.now_ms()))

        def row(task: Stored) -> Any:
            # Below 0 it is a point in time (task/due.py).
            return task.key, _expected(task, given), -pace.next_ms(task), 0

        return await self._each(request, given, "run", RUN, row, (*MOVABLE, PAUSED), pace, _is_once)

    async def replay_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/replay: bring all dead letters back that the filters want and that can come back, as they are."""
        now_ms = await self._places.ask_new(lambda calls: calls.views.now_ms())
        pace, caller = Pace(rate_of(given), now_ms), caller_of(request)

        @asynccontextmanager
        async def rows(tasks: Sequence[Stored]) -> AsyncIterator[list[Change]]:
            """The changes of those that may come back, while the limits of their tokens have room for all of them."""
            await self._quotas.rated(caller, len(tasks))
            changes: list[Change] = []
            async with AsyncExitStack() as held:
                for task in tasks:
                    with contextlib.suppress(RequestRefused):  # as POST /dead/{key}/replay says of it
                        changeable(task)
                        at_ms = pace.next_ms(task)
                        wanted = UpdateRequest(at=rfc3339(at_ms)) if "rate" in given else UpdateRequest(ttl=0)
                        change = change_of(task, wanted, task.record.options, now_ms)
                        await held.enter_async_context(await self._within_its_token(caller, task, change))
                        changes.append(change)
                yield changes

        return await self._all(request, given, "replayed", REPLAY, rows, (DEAD,), pace)

    async def discard_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/delete: delete all dead letters that the filters want."""
        if not any(name in given for name in DEAD_FILTERS):
            problem = f"The query names no filter: give one of {', '.join(DEAD_FILTERS)}"
            raise InvalidRequest(Code.INVALID_QUERY, problem)
        return await self._each(request, given, "deleted", DISCARD, _guarded(given), (DEAD,))

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
        script: Script,
        row: Callable[[Stored], Any],
        states: tuple[str, ...],
        pace: Pace | None = None,
        may: Callable[[Stored], bool] = lambda _: True,
    ) -> Response:
        """Do what `_all` does, where each task that `may` has a row of the script."""

        @asynccontextmanager
        async def rows(tasks: Sequence[Stored]) -> AsyncIterator[list[Any]]:
            yield [row(task) for task in tasks]

        return await self._all(request, given, verb, script, rows, states, pace, may)

    async def _all(
        self,
        request: Request,
        given: Mapping[str, str],
        verb: str,
        script: Script,
        rows: Callable[[Sequence[Stored]], contextlib.AbstractAsyncContextManager[list[Any]]],
        states: tuple[str, ...],
        pace: Pace | None = None,
        may: Callable[[Stored], bool] = lambda _: True,
    ) -> Response:
        """Do what a script does to all tasks that are wanted, and are in a state in which it can be done; with
        `dry_run` only count. `rows` may refuse the tasks of a step, or some of them."""
        filters = wanted_by(given, states, verb, caller_of(request))
        looked_for = replace(filters, states=filters.states or states)

        async def take(calls: ShardCalls, operation_id: str, operation: Operation) -> Operation:
            cursor = pace.begin(operation.cursor) if pace and operation_id else operation.cursor
            read = calls.views.dead_page if DEAD in states else calls.views.page
            page = await read(STEP_TASKS, cursor, looked_for, Reading(STEP_S, STEP_BYTES, self._rest))
            wanted = [task for task in page.tasks if may(task)]
            if not operation_id:
                return stepped(operation, len(wanted), page.looked_at, page.next)
            async with rows(wanted) as of_wanted:
                after = stepped(operation, 0, page.looked_at, pace.onward(page.next) if pace else page.next)
                is_named = self._is_kept(given, after)
                if not (of_wanted or is_named):
                    return after
                found = await calls.writes.step(script, of_wanted, Step(operation_id, after, is_named))
            if found is None:
                raise not_known(operation_id)
            return as_asked(found, operation.mark, "operation", operation_id)

        return await self._operated(request, given, verb, filters, f"rate {rate_of(given)}", take)


def _guarded(given: Mapping[str, str]) -> Callable[[Stored], Any]:
    """Return what makes the row of a script that needs to know no more than which task it is."""
    return lambda task: (task.key, _expected(task, given))


def _expected(task: Stored, given: Mapping[str, str]) -> bytes:
    """Return the record that a task must still have: for a token with types another could be of another one."""
    return task.raw if TYPES in given else b""


def _is_once(task: Stored) -> bool:
    return task.record.options.repeat is UNSET
