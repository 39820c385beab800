"""What is done to many tasks, as an operation: step by step, over as many requests as it takes.

How far it is stands in Redis, so a request goes on from there, whatever became of the answers before. Between its steps
it leaves this process to the requests of others.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.acknowledgements import AcknowledgementsApi
from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import ManyDone
from redis_scheduler.api.callers import caller_of
from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.api.filters import filters_of
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.steps import STEP_S, WORK_S, is_dry_run
from redis_scheduler.errors import Code, InvalidField, RequestRefused
from redis_scheduler.logs import Events
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.written import Operation
from redis_scheduler.task.key import new_task_key

logger = Events(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OperationsApi(AcknowledgementsApi):
    """What AcknowledgementsApi does, and how an operation goes on."""

    async def _operated(
        self,
        request: Request,
        given: Mapping[str, str],
        verb: str,
        filters: Filters,
        what: str,
        take: Callable[[str, Operation], Awaitable[Operation]],
    ) -> Response:
        """Take steps until all is done, or the time is over; answer how far it is. `what` is done besides the verb to
        what the filters want. `take` makes one step of the operation with an id, and returns how far that is then; with
        `dry_run` there is no id, and it only counts. An operation is there only for the token that began it."""
        mark = blake2b(f"{verb} {what} {filters}".encode(), digest_size=8).hexdigest()
        is_dry = is_dry_run(given)
        caller = caller_of(request)
        beginning = "" if caller is None else f"{caller.id}."
        operation_id, operation = (
            ("", Operation(mark, given.get("cursor"))) if is_dry else await self._begun(given, mark, beginning)
        )
        before, until_s = operation, time.monotonic() + WORK_S
        while operation.steps == 0 or operation.cursor is not None:
            began_s = time.thread_time()
            # Requests of this kind take turns step by step, so that none waits until another ends.
            async with self._one_bulk.held():
                try:
                    operation = await take(operation_id and beginning + operation_id, operation)
                except RequestRefused as refused:
                    if refused.code is not Code.TOKEN_RATE or operation is before:
                        raise
                    break  # the next request goes on, as soon as the token may
                # What came meanwhile has as much of this process as the step had, before anybody takes another.
                await asyncio.sleep(min(time.thread_time() - began_s, STEP_S))
            if time.monotonic() > until_s:
                break
        if operation.touched > before.touched and not is_dry:
            client = request.client.host if request.client else None
            count, request_id = operation.touched - before.touched, request_id_of(request.scope)
            logger.warning("many", verb=verb, tasks=count, all=filters == ANY, client=client, request_id=request_id)
        onward = operation.cursor if is_dry else operation.cursor and operation_id
        done = ManyDone(verb, operation.touched, operation.looked_at, onward, is_dry)
        if is_kept(given, operation):
            done.operation = operation_id
        return answer(done)

    async def _begun(self, given: Mapping[str, str], mark: str, beginning: str) -> tuple[str, Operation]:
        """Return the id of the operation that a request begins or goes on with, and how far that is. `beginning`: what
        stands before it in Redis."""
        field = "cursor" if "cursor" in given else "operation"
        operation_id = given.get(field)
        if operation_id is None:
            return new_task_key(), Operation(mark)
        if _ID.fullmatch(operation_id) is None:
            raise InvalidField(field, f"must be 1 to 64 letters, digits, _ or -, got {quoted(operation_id)}")
        operation = await self._only.writes.operation(beginning + operation_id)
        if operation is None:
            if field == "cursor":
                raise InvalidField("cursor", "must be the `next` of an earlier answer, not a day old, as it was")
            operation = Operation(mark)
        return operation_id, as_asked(operation, mark, field)

    async def _noted(self, given: Mapping[str, str], operation_id: str, operation: Operation) -> Operation:
        """Note a step that was taken; return how far the operation is, also if others took the step as well."""
        if not (operation_id and is_kept(given, operation)):
            return operation
        found = await self._only.writes.advance(operation_id, operation)
        return operation if found is None else as_asked(found, operation.mark, "operation")


def is_kept(given: Mapping[str, str], operation: Operation) -> bool:
    """Whether anybody may ask for the operation again: its client knows the id, or there are further steps to take."""
    if is_dry_run(given):
        return False
    return "operation" in given or "cursor" in given or operation.cursor is not None or operation.steps > 1


def stepped(operation: Operation, touched: int, looked_at: int, cursor: str | None) -> Operation:
    """Return how far an operation is after its next step."""
    return replace(
        operation,
        cursor=cursor,
        steps=operation.steps + 1,
        touched=operation.touched + touched,
        looked_at=operation.looked_at + looked_at,
    )


def as_asked(operation: Operation, mark: str, field: str) -> Operation:
    """Return an operation that does what is asked for. Raises InvalidField for another."""
    if operation.mark != mark:
        problem = "is of an operation that does something else, or to others: verb, `by`, `rate` and filters must stay"
        raise InvalidField(field, problem, Code.CONTRADICTION)
    return operation


def wanted_by(given: Mapping[str, str], states: tuple[str, ...], verb: str) -> Filters:
    """Return the filters of a query, none of which wants a state in which it cannot be done. Raises InvalidField."""
    filters = filters_of(given)
    if filters.states and not set(filters.states) <= set(states):
        problem = f"must be {' or '.join(states)}: others cannot be {verb}, got {quoted(given['state'])}"
        raise InvalidField("state", problem, Code.CONTRADICTION)
    if "operation" in given and is_dry_run(given):
        raise InvalidField("operation", "must not be given beside dry_run, which begins none", Code.CONTRADICTION)
    if "operation" in given and given.get("cursor", given["operation"]) != given["operation"]:
        raise InvalidField("operation", "is another than that of the cursor", Code.CONTRADICTION)
    return filters
