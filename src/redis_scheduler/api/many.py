"""The handlers of the routes that do one thing to many tasks: those that the filters of the query want.

No request works for long: it stops after WORK_S, and says where the next one goes on. What was done to a task once is
nothing the second time, so a request that was not answered may be sent again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import ManyDone, UpdateRequest
from redis_scheduler.api.changes import change_of, changeable
from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS, filters_of
from redis_scheduler.api.pace import Pace, pace_of
from redis_scheduler.api.shifts import ShiftsApi
from redis_scheduler.api.steps import PAUSED, STEP_BYTES, STEP_S, STEP_TASKS, WORK_S, is_dry_run
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.store.filters import ANY, LISTED, Filters
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Page
from redis_scheduler.store.written import CancelAnswer, DiscardAnswer, ReplayAnswer, Standing

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
            return await self._taken_out(task) in (CancelAnswer.CANCELLED, CancelAnswer.IN_DELIVERY)

        return await self._each(request, given, "cancelled", cancel, LISTED)

    async def pause_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/pause: keep all tasks back that the filters want, but those in delivery."""

        async def pause(task: Stored) -> bool:
            return await self._calls_of(task.key).pause.submit(task.key) in _MOVED

        return await self._each(request, given, "paused", pause, MOVABLE)

    async def resume_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/resume: let all paused tasks come again that the filters want."""

        async def resume(task: Stored) -> bool:
            return await self._calls_of(task.key).resume.submit(task.key) is Standing.PAUSED

        return await self._each(request, given, "resumed", resume, (PAUSED,))

    async def run_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/run: make all tasks due now that the filters want, but those in delivery, and series."""
        # A series would be met again behind the occurrence that it makes, and make another each time.
        pace, cursor = pace_of(given, await self._only.views.now_ms())

        async def run(task: Stored) -> bool:
            # Below 0 it is a point in time (task/due.py).
            found = await self._calls_of(task.key).run.submit((task.key, -pace.next_ms(task)))
            return found in (*_MOVED, Standing.PAUSED)

        return await self._each(request, given, "run", run, (*MOVABLE, PAUSED), pace, cursor, _is_once)

    async def replay_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/replay: bring all dead letters back that the filters want and that can come back, as they are."""
        now_ms = await self._only.views.now_ms()
        pace, cursor = pace_of(given, now_ms)

        async def replay(task: Stored) -> bool:
            try:
                changeable(task)
                wanted = UpdateRequest(at=rfc3339(pace.next_ms(task))) if "rate" in given else UpdateRequest(ttl=0)
                change = change_of(task, wanted, now_ms)
                await self._check_change(task, wanted)
            except RequestRefused:
                return False  # as POST /dead/{key}/replay says of it
            _, found = await self._calls_of(task.key).replay.submit(change)
            return found is ReplayAnswer.REPLAYED

        return await self._each(request, given, "replayed", replay, (DEAD,), pace, cursor)

    async def discard_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /dead/delete: delete all dead letters that the filters want."""
        if not any(name in given for name in DEAD_FILTERS):
            problem = f"The query names no filter: give one of {', '.join(DEAD_FILTERS)}"
            raise InvalidRequest(Code.INVALID_QUERY, problem)

        async def discard(task: Stored) -> bool:
            return await self._calls_of(task.key).discard.submit(task.key) is DiscardAnswer.DELETED

        return await self._each(request, given, "deleted", discard, (DEAD,))

    async def _page(self, cursor: str | None, filters: Filters, is_dead: bool) -> Page:
        """Return the tasks of a step."""
        views = self._only.views
        if is_dead:
            return await views.dead_page(STEP_TASKS, cursor, filters, STEP_S, STEP_BYTES)
        return await views.page(STEP_TASKS, cursor, filters, STEP_S)

    async def _each(
        self,
        request: Request,
        given: Mapping[str, str],
        verb: str,
        touch: Callable[[Stored], Awaitable[bool]],
        states: tuple[str, ...],
        pace: Pace | None = None,
        cursor: str | None = None,
        may: Callable[[Stored], bool] = lambda _: True,
    ) -> Response:
        """Do it to each task in turn that is wanted, and is in a state in which it can be done, until the time is over;
        with `dry_run` only count."""
        filters, is_dry = filters_of(given), is_dry_run(given)
        if filters.states and not set(filters.states) <= set(states):
            problem = f"must be {' or '.join(states)}: others cannot be {verb}, got {quoted(given['state'])}"
            raise InvalidField("state", problem, Code.CONTRADICTION)
        is_all, filters = filters == ANY, replace(filters, states=filters.states or states)
        cursor = given.get("cursor") if pace is None else cursor
        touched, looked_at, until_s = 0, 0, time.monotonic() + WORK_S
        while True:
            # Requests of this kind take turns step by step, so that none waits until another ends.
            async with self._one_bulk.held():
                page = await self._page(cursor, filters, DEAD in states)
                looked_at, cursor = looked_at + page.looked_at, page.next
                wanted = [task for task in page.tasks if may(task)]
                done = [True] * len(wanted) if is_dry else await asyncio.gather(*map(touch, wanted))
                touched += sum(done)
            if cursor is None or time.monotonic() > until_s:
                break
        if touched and not is_dry:
            client = request.client.host if request.client else None
            logger.warning("many", verb=verb, tasks=touched, all=is_all, client=client)
        return answer(ManyDone(verb, touched, looked_at, pace.onward(cursor) if pace else cursor, is_dry))


def _is_once(task: Stored) -> bool:
    return task.record.options.repeat is UNSET
