"""The handler of PUT /schedule/{key}: tasks under keys that their callers make."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import reading, requests
from redis_scheduler.api.answers import answer, replay
from redis_scheduler.api.batch_requests import batch_request, refuse_own_keys
from redis_scheduler.api.bodies import BatchScheduled, PutDone, ScheduledTask
from redis_scheduler.api.callers import Caller, caller_of, refuse_without, taken_key, visible
from redis_scheduler.api.dead_letters import DeadLettersApi
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.idempotency import HEADER, Once
from redis_scheduler.api.preconditions import NO_PRECONDITIONS, Preconditions, etag_of_new, preconditions
from redis_scheduler.api.scheduling import new_task, new_tasks, places_before, schedule_all, stored_before
from redis_scheduler.api.trace import traceparent
from redis_scheduler.errors import RequestRefused
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.token import Right
from redis_scheduler.store.tokens import NO_SHARE, Share, sum_of
from redis_scheduler.store.written import Put, PutAnswer
from redis_scheduler.task.due import due_after
from redis_scheduler.task.key import has_made_form
from redis_scheduler.task.summary import Summary

FOUND = {
    PutAnswer.REPLACED: "updated",
    PutAnswer.REPLACED_IN_DELIVERY: "in delivery",
    PutAnswer.REVIVED: "dead",
}


class OwnKeysApi(DeadLettersApi):
    """What DeadLettersApi does, and PUT."""

    async def put(self, request: Request, given: Mapping[str, str]) -> Response:
        """PUT /schedule/{key}?type=: schedule a task under an own key, or replace the one that has it."""
        key, demands, caller = requests.own_key(request), preconditions(request), caller_of(request)
        type_name, headers = requests.type_name(given), headers_of(request.scope)
        body = await reading.read_body(request, self._max_body)
        wanted = requests.schedule_request(body)
        if reading.may_be_deep(body):
            await reading.check_nesting(body)
        task = await new_task(wanted, type_name, self._places, traceparent(headers), caller, own_key=key)

        rated = [1]

        async def put(stored: Stored | None) -> tuple[PutDone, int] | None:
            if caller is None or not caller.is_limited:
                return await self._put(stored, task, demands, caller)
            demands.check(stored)
            share = self._share_of_put(stored, task, caller)
            write = partial(self._put, stored, task, demands, caller)
            return await self._quotas.within(caller, share, write, rated.pop() if rated else 0)

        made, due_ms = await self._changed(request, key, put)
        return answer(made, etag_of_new(key, due_ms, task.tail))

    async def schedule_batch(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules?type=: schedule many tasks; all are checked before the first is written."""
        type_name = requests.type_name(given)
        headers, caller = headers_of(request.scope), caller_of(request)
        body = await reading.read_body(request, self._max_body)
        items = await batch_request(body)
        once = await self._idempotency.of(request, given, body) if HEADER in headers else None
        if once is not None:
            refuse_own_keys(items)

        asked: dict[str, Share] = {}
        """What was asked for a task under an own key, of a caller with limits."""

        async def put(task: NewTask) -> int:
            async def write(stored: Stored | None) -> tuple[PutDone, int] | None:
                made = partial(self._put, stored, task, NO_PRECONDITIONS, caller)
                if caller is None or task.key not in asked:
                    return await made()
                # What it was to replace may have ended since.
                share = self._share_of_put(stored, task, caller).beyond(asked[task.key])
                return await (made() if share == NO_SHARE else self._quotas.within(caller, share, made))

            _, due_ms = await self._changed(request, task.key, write)
            return due_ms

        async def write() -> tuple[list[ScheduledTask], bool]:
            return await schedule_all(tasks, self._places, self._call_limit, once, put)

        try:
            tasks = await new_tasks(items, type_name, self._places, traceparent(headers), caller)
            if caller is None or not caller.is_limited:
                placed, is_replay = await write()
            else:
                share = await self._share_of_all(tasks, once, caller, asked)
                placed, is_replay = await self._quotas.within(caller, share, write, len(tasks))
        except RequestRefused:
            # What is served now does not matter to a request that was served before.
            if once is None or (stored := await stored_before(once, len(items), self._places)) is None:
                raise
            return replay(BatchScheduled([task.key for task in stored], stored))
        return (replay if is_replay else answer)(BatchScheduled([task.key for task in placed], placed))

    def _share_of_put(self, stored: Stored | int | None, task: NewTask, caller: Caller) -> Share:
        """Return what a caller has more waiting by a task under an own key: less what it replaces, if that is its
        own. One that was too large to be read is taken for another's."""
        share = self._places.first.share_of(task.key, task.tail, task.listed)
        if not isinstance(stored, Stored) or stored.record.token != caller.id or stored.state == "dead":
            return share
        return self._places.first.share_beyond(stored, share, task)

    async def _share_of_all(
        self, tasks: Sequence[NewTask], once: Once | None, caller: Caller, asked: dict[str, Share]
    ) -> Share:
        """Return what a caller has more waiting by a batch: of one that was sent before, by what is not written yet.
        `asked` gets the part of each own key."""
        if once is not None:
            there = await places_before(once, len(tasks), self._places)
            tasks = [task for task, one in zip(tasks, there, strict=True) if one is None]
        own = [task.key for task in tasks if not has_made_form(task.key)]
        found = await asyncio.gather(*map(self._places.find, own))
        stored = {key: task for key, (_, task) in zip(own, found, strict=True)}
        shares = [self._share_of_put(stored.get(task.key), task, caller) for task in tasks]
        asked |= {task.key: share for task, share in zip(tasks, shares, strict=True) if task.key in stored}
        return sum_of(shares)

    async def _put(
        self, stored: Stored | None, task: NewTask, demands: Preconditions, caller: Caller | None
    ) -> tuple[PutDone, int] | None:
        """Enter a task, or replace one that is as demanded; None where another process was first. Raises a 412, and a
        403 for a key of a task, also one that has ended, of a type that is not the caller's; or of a dead one that the
        caller may not bring back."""
        calls = await self._places.own(task.key) if stored is None else self._places.of(stored)
        found: Stored | Summary | None = stored
        if caller is not None and caller.types and stored is None and calls.keeps_results:
            found = await (await self._places.of_key(task.key)).recall.submit(task.key)
        if found is not None and visible(caller, found) is None:
            raise taken_key(task.key)
        demands.check(stored)
        put = Put(task, b"", None) if stored is None else Put(task, stored.raw, stored.listed)
        put.may_revive = caller is None or bool(caller.rights & Right.REPLAY)
        now_ms, done = await calls.put.submit(put)
        if done is PutAnswer.CHANGED:
            return None
        if done is PutAnswer.STAYS_DEAD:
            refuse_without(caller, Right.REPLAY)
        due_ms, is_new = due_after(now_ms, task.ttl_ms), done is PutAnswer.CREATED
        made = PutDone(task.key, task.key, rfc3339(due_ms), is_new)
        if not is_new:
            made.found = FOUND[done]
        return made, due_ms
