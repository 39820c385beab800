"""The handlers of the routes to tasks: each checks its input, makes one batched call to Redis, and answers."""

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import reading, requests
from redis_scheduler.api.answers import answer, replay
from redis_scheduler.api.bodies import (
    Cancelled,
    Previewed,
    Scheduled,
    Shown,
    Statistics,
    Updated,
    UpdateRequest,
    encode_answer,
)
from redis_scheduler.api.callers import (
    Caller,
    caller_of,
    may_see_all,
    may_see_hosts,
    refuse_other_options,
    refuse_other_way,
    refuse_without,
    visible,
)
from redis_scheduler.api.changes import change_of
from redis_scheduler.api.content import content_of
from redis_scheduler.api.filters import filters_of
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.idempotency import HEADER, Once, stored_by
from redis_scheduler.api.moved import moved, series_queued
from redis_scheduler.api.pages import COPIES
from redis_scheduler.api.places import Place
from redis_scheduler.api.preconditions import Preconditions, etag_of, etag_of_new, preconditions
from redis_scheduler.api.repeats import check_repeat, shown, shown_ended, times_of
from redis_scheduler.api.scheduling import new_task, stored_before
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.shards import Shards
from redis_scheduler.api.shown import view_of
from redis_scheduler.api.stats import of_shard, statistics
from redis_scheduler.api.trace import traceparent
from redis_scheduler.api.waits import WAITS_FOR_WORKER
from redis_scheduler.errors import RequestRefused, TaskNotFound
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.ledger import total
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.token import Right
from redis_scheduler.store.tokens import Share
from redis_scheduler.store.written import CancelAnswer, Change, ReplayAnswer, Standing, UpdateAnswer
from redis_scheduler.task.due import due_after
from redis_scheduler.task.options import NONE, changed
from redis_scheduler.task.record import DEFAULT_TYPE

FOUND = {CancelAnswer.CANCELLED: "cancelled", CancelAnswer.IN_DELIVERY: "in delivery"}


class Api(Shards):
    """The handlers of the routes that need the token. Each gets a request and its query parameters, which the endpoint
    has checked."""

    async def schedule(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedule?type=: schedule a task."""
        type_name = requests.type_name(given)
        headers = headers_of(request.scope)
        body = await reading.read_body(request, self._max_body)
        wanted = requests.schedule_request(body)
        if reading.may_be_deep(body):
            await reading.check_nesting(body)
        once = await self._idempotency.of(request, given, body) if HEADER in headers else None
        caller = caller_of(request)
        try:
            task = await new_task(wanted, type_name, self._places, traceparent(headers), caller)
            if caller is not None and caller.is_limited:
                share = self._places.first.share_of(task.key, task.tail, task.listed)
                return await self._quotas.within(caller, share, lambda: self._scheduled(task, once), rated=1)
        except RequestRefused:
            # What is served now does not matter to a request that was served before.
            if once is None or (stored := await stored_before(once, 1, self._places)) is None:
                raise
            return replay(Scheduled(stored[0].key, stored[0].key, stored[0].due))
        return await self._scheduled(task, once)

    async def _scheduled(self, task: NewTask, once: Once | None) -> Response:
        if once is not None:
            return await self._schedule_once(once, task)
        due_ms = await self._places.schedule.submit(task)
        return answer(Scheduled(task.key, task.key, rfc3339(due_ms)))

    async def _schedule_once(self, once: Once, task: NewTask) -> Response:
        wanted = once.task(task)
        stored = stored_by(await self._places.once(wanted), once)
        found = Scheduled(stored.key, stored.key, rfc3339(stored.due_ms))
        return answer(found) if stored.key == task.key else replay(found)

    async def get(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /schedule/{key}: one task, in any state; of one that has ended, what is kept of it."""
        key = requests.task_key(request)
        calls, _ = place = await self._places.find(key)
        try:
            return await self._shown(request, key, place, _found)
        except TaskNotFound:
            summary = await calls.recall.submit(key) if calls.keeps_results else None
            if (summary := visible(caller_of(request), summary)) is None:
                raise
            return answer(await shown_ended(key, summary, calls))

    async def _shown(
        self, request: Request, key: str, place: Place, found: Callable[[Stored | None], Stored]
    ) -> Response:
        """Show a task, which `found` gets as it stands, and may refuse."""
        (calls, stored), caller = place, caller_of(request)
        if isinstance(stored, int):
            read = partial(self._read_large, key, calls, caller, found)
            return await self._large_answer(request, COPIES * stored, read)
        task = found(visible(caller, stored))
        if task.state in WAITS_FOR_WORKER:  # of others there is no more to learn
            await calls.learn_why(task, self._places.generations.is_single, may_see_hosts(caller))
        view = view_of(task, True, may_see_all(caller))
        if task.record.options is NONE:  # so it is no series: `shown` would show the same
            return answer(Shown(view), etag_of(task))
        return answer(await shown(task, view, calls), etag_of(task))

    async def _read_large(
        self, key: str, calls: ShardCalls, caller: Caller | None, found: Callable[[Stored | None], Stored]
    ) -> tuple[bytes, str]:
        """Return what is shown of a large task, and its ETag."""
        task = found(visible(caller, await calls.views.task(key)))
        await calls.learn_why(task, self._places.generations.is_single, may_see_hosts(caller))
        return encode_answer(await shown(task, view_of(task, True, may_see_all(caller)), calls)), etag_of(task)

    async def list(self, request: Request, given: Mapping[str, str]) -> Response:
        """GET /schedules?type=&limit=&cursor=, and filters: tasks still to be delivered."""
        limit, wanted, views = requests.page_limit(given), filters_of(given), await self._listed(given)
        read = partial(views.page, limit, given.get("cursor"), wanted)
        return await self._answer_page(request, read, wanted.types is None and wanted.may_skip_many(False))

    async def update(self, request: Request, _given: Mapping[str, str]) -> Response:
        """PATCH /schedule/{key}: replace what is given. Where others change the task first it is read again, and 409 in
        the end."""
        key, demands, caller = requests.task_key(request), preconditions(request), caller_of(request)
        body = await reading.read_body(request, self._max_body)
        wanted = requests.update_request(body)
        refuse_other_options(caller, wanted)
        if reading.may_be_deep(body):
            await reading.check_nesting(body)
        return await self._changed(request, key, lambda stored: self._updated(stored, wanted, demands, caller))

    async def _change_of(self, stored: Stored, wanted: UpdateRequest, caller: Caller | None) -> Change:
        """Return the change that a body asks for. Raises RequestRefused for what caller or task may not have; what the
        task has already it may keep."""
        calls, before = self._places.of(stored), stored.record.options
        refuse_other_way(caller, before, wanted)
        options = changed(before, wanted)
        now_ms = await calls.views.now_ms() if wanted.repeat or before.repeat else 0
        change = change_of(stored, wanted, options, now_ms, caller)
        if options is not before or wanted.body is not UNSET or wanted.body_base64 is not UNSET:
            calls.check_policy(options, before)
            await calls.check_options(changed(NONE, wanted), content_of(wanted)[0])
        if change.listed != change.old_listed:
            await calls.names.admit(change.listed, change.old_listed, caller)
        return change

    async def _updated(
        self, stored: Stored | None, wanted: UpdateRequest, demands: Preconditions, caller: Caller | None
    ) -> Response | None:
        """Change a task that is as demanded; None where another process was first. Raises TaskNotFound, a 412, or a 403
        where it would bring a dead task back, and the caller may not."""
        stored = _found(visible(caller, stored))
        demands.check(stored)
        calls, change = self._places.of(stored), await self._change_of(stored, wanted, caller)
        async with await self._within_its_token(caller, stored, change, change.ttl_ms is not None):
            now_ms, found = await calls.update.submit(change)
            if found is UpdateAnswer.DEAD:
                refuse_without(caller, Right.REPLAY)
                await self._quotas.rated(caller, 1)
                now_ms, replayed = await calls.replay.submit(change)
                # A task that is no longer dead counts as changed: somebody else brought it back.
                found = UpdateAnswer.UPDATED if replayed is ReplayAnswer.REPLAYED else UpdateAnswer.CHANGED
        if found is UpdateAnswer.NOT_FOUND:
            raise TaskNotFound
        if found is not UpdateAnswer.CHANGED:
            due_ms = stored.record.due if change.ttl_ms is None else due_after(now_ms, change.ttl_ms)
            state = "in delivery" if found is UpdateAnswer.UPDATED_IN_DELIVERY else "updated"
            made = Updated(stored.key, stored.key, rfc3339(due_ms), state)
            return answer(made, etag_of_new(stored.key, due_ms, change.tail))
        return None

    async def cancel(self, request: Request, _given: Mapping[str, str]) -> Response:
        """DELETE /schedule/{key}: take a task out, and say what was found."""
        key = requests.task_key(request)
        cancelled = partial(self._cancelled, caller_of(request), preconditions(request))
        _, stored = await self._places.find(key)
        # Most often nobody changes it meanwhile: then it does not wait for those who do.
        if isinstance(stored, int) or (done := await cancelled(stored)) is None:
            return await self._changed(request, key, cancelled)
        return done

    async def _cancelled(self, caller: Caller | None, demands: Preconditions, stored: Stored | None) -> Response | None:
        """Take a task out that is as demanded; None where another process was first: it may be listed under other names
        by now. Raises TaskNotFound, or a 412."""
        stored = _found(visible(caller, stored))
        demands.check(stored)
        calls = self._places.of(stored)
        found = await calls.cancel.submit(calls.cancellation(stored, stored.raw))
        if found is CancelAnswer.NOT_FOUND:
            raise TaskNotFound
        return None if found is CancelAnswer.CHANGED else answer(Cancelled(FOUND[found], stored.key))

    async def pause(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/pause: keep a task back until it is resumed."""
        key = requests.task_key(request)
        calls = await self._places.of_key(key)
        found = await self._guarded(request, key, lambda expected: calls.pause.submit((key, expected)))
        return moved(key, "paused", found)

    async def resume(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/resume: let a paused task come again."""
        key = requests.task_key(request)
        calls = await self._places.of_key(key)
        found = await self._guarded(request, key, lambda expected: calls.resume.submit((key, expected)))
        return moved(key, "resumed", found, refused=(Standing.DEAD,))

    async def run(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/run: make a task due now."""
        key, caller = requests.task_key(request), caller_of(request)
        calls, stored = await self._places.find(key)
        async with self._whole(request, key, stored) as whole:
            is_series = _is_series(whole)
        if is_series:
            found = await self._changed(request, key, lambda seen: self._told(visible(caller, seen), caller))
        else:
            found = await self._guarded(request, key, lambda expected: calls.run.submit((key, 0, expected, False)))
        return moved(key, "run", found)

    async def _told(self, stored: Stored | None, caller: Caller | None) -> Standing | None:
        """Tell a series to make an occurrence more, which counts as a task; None where others changed it first. Raises
        TaskNotFound, a 409, or what a limit of a token says."""
        stored = _found(stored)
        wanted = (stored.key, 0, stored.raw, _is_series(stored))
        calls, share = self._places.of(stored), Share(1, len(stored.raw))
        await self._quotas.rated(caller, 1)
        async with await self._quotas.of_its_token(caller, stored.record.token, share):
            found = await calls.run.submit(wanted)
        if found is Standing.TOLD:
            raise series_queued()
        return None if found is Standing.CHANGED else found

    async def preview(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /repeat/preview: the next times of a rule; nothing is written."""
        wanted = requests.preview_request(await reading.read_body(request, self._max_body))
        now_ms = await self._places.ask_new(lambda calls: calls.views.now_ms())
        check_repeat(wanted.repeat, now_ms)
        return answer(Previewed(await times_of(wanted.repeat, now_ms, wanted.n)))

    async def stats(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /stats: the ledger and the machine; for a token with types how many tasks there are of these."""
        if (caller := caller_of(request)) is not None and caller.types:
            names = sorted(caller.types - {DEFAULT_TYPE})
            counts = [
                sum(found)
                for found in zip(*[await one.views.listed(names) for one in await self._places.all()], strict=True)
            ]
            types = dict(zip(names, counts, strict=True))
            return answer(Statistics({"running_schedules": sum(counts), "types": types}))
        shards = await self._places.all()
        ledgers = [await calls.views.ledger() for calls in shards]
        ids = sum([await calls.views.idempotency_ids() for calls in shards])
        found = statistics(total(ledgers), ids, min([await calls.workers.count() for calls in shards]))
        if len(shards) > 1:
            rows = zip(ledgers, shards, strict=True)
            found["shards"] = [of_shard(calls.number, ledger, await calls.workers.seen_ms()) for ledger, calls in rows]
        return answer(Statistics(found))


def _is_series(stored: Stored | None) -> bool:
    return stored is not None and stored.record.options.repeat is not UNSET


def _found(stored: Stored | None) -> Stored:
    if stored is None:
        raise TaskNotFound
    return stored
