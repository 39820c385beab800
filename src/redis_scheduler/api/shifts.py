"""The handler of POST /schedules/shift: many tasks come earlier, or later.

Unlike what many.py does, a shift that is sent again would move its tasks again. So it is an operation: how far it is
stands in Redis, and each step is written together with that. A request goes on from there, whatever became of the
answers before.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.acknowledgements import AcknowledgementsApi
from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Shifted
from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.api.filters import filters_of
from redis_scheduler.api.steps import PAUSED, STEP_BYTES, STEP_S, STEP_TASKS, WORK_S, is_dry_run
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.logs import Events
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import Operation, ShiftStep
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.timing import TEN_YEARS_S

logger = Events(__name__)

STATES = ("scheduled", PAUSED)
"""Those in which the first attempt may be yet to come."""

_BY = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,3})?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ShiftsApi(AcknowledgementsApi):
    """What AcknowledgementsApi does, and shifts."""

    async def shift_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/shift?by=: move the due times of all tasks that the filters want, and whose first attempt is
        yet to come, by so many seconds."""
        by_ms, filters, is_dry = _by_ms(given), _filters(given), is_dry_run(given)
        mark = blake2b(f"{by_ms} {filters}".encode(), digest_size=8).hexdigest()
        operation_id, operation = (
            ("", Operation(mark, given.get("cursor"))) if is_dry else await self._begun(given, mark)
        )
        touched_before, until_s = operation.touched, time.monotonic() + WORK_S
        while operation.steps == 0 or operation.cursor is not None:
            async with self._one_bulk.held():
                operation = await self._step(operation_id, operation, filters, by_ms)
            if time.monotonic() > until_s:
                break
        if operation.touched > touched_before and operation_id:
            client = request.client.host if request.client else None
            count = operation.touched - touched_before
            logger.warning("many", verb="shifted", tasks=count, all=filters == ANY, client=client)
        onward = operation.cursor if is_dry else operation.cursor and operation_id
        done = Shifted("shifted", operation.touched, operation.looked_at, onward, is_dry)
        if operation_id:
            done.operation = operation_id
        return answer(done)

    async def _begun(self, given: Mapping[str, str], mark: str) -> tuple[str, Operation]:
        """Return the id of the operation that a request begins or goes on with, and how far that is."""
        field = "cursor" if "cursor" in given else "operation"
        operation_id = given.get(field)
        if operation_id is None:
            return new_task_key(), Operation(mark)
        if _ID.fullmatch(operation_id) is None:
            raise InvalidField(field, f"must be 1 to 64 letters, digits, _ or -, got {quoted(operation_id)}")
        operation = await self._only.writes.operation(operation_id)
        if operation is None:
            if field == "cursor":
                raise InvalidField("cursor", "must be the `next` of an earlier answer, not a day old, as it was")
            operation = Operation(mark)
        return operation_id, _as_asked(operation, mark, field)

    async def _step(self, operation_id: str, operation: Operation, filters: Filters, by_ms: int) -> Operation:
        """Take one step; return how far the operation is, also if others took it. Without an id only count."""
        # What is moved goes where the walk has been, so that it is not met again.
        page = await self._only.views.planned(STEP_TASKS, operation.cursor, filters, by_ms > 0, STEP_S, STEP_BYTES)
        tasks = [task for task in page.tasks if _may_be_moved(task, by_ms)]
        if operation_id:
            step = ShiftStep(operation.steps + 1, page.looked_at, operation.mark, page.next, by_ms)
            found = await self._only.writes.shift(operation_id, step, tasks)
            if found is None:
                raise InvalidField("operation", "is not known any more: other hands removed what is kept of it")
            return _as_asked(found, operation.mark, "operation")
        return replace(
            operation,
            cursor=page.next,
            steps=operation.steps + 1,
            touched=operation.touched + len(tasks),
            looked_at=operation.looked_at + page.looked_at,
        )


def _may_be_moved(task: Stored, by_ms: int) -> bool:
    if task.state not in STATES or task.attempts or task.expires_ms not in (None, task.record.due):
        return False
    # After an earlier time a calendar would have the old one again.
    repeat = task.record.options.repeat
    return by_ms > 0 or repeat is UNSET or repeat.cron is UNSET


def _as_asked(operation: Operation, mark: str, field: str) -> Operation:
    if operation.mark != mark:
        raise InvalidField(field, "is of an operation with another `by`, or other filters", Code.CONTRADICTION)
    return operation


def _filters(given: Mapping[str, str]) -> Filters:
    filters = filters_of(given)
    if filters.states and not set(filters.states) <= set(STATES):
        problem = f"must be {' or '.join(STATES)}: others have begun already, got {quoted(given['state'])}"
        raise InvalidField("state", problem, Code.CONTRADICTION)
    if "operation" in given and is_dry_run(given):
        raise InvalidField("operation", "must not be given beside dry_run, which begins none", Code.CONTRADICTION)
    if "operation" in given and given.get("cursor", given["operation"]) != given["operation"]:
        raise InvalidField("operation", "is another than that of the cursor", Code.CONTRADICTION)
    return filters


def _by_ms(given: Mapping[str, str]) -> int:
    text = given.get("by")
    rule = f"must be a number of seconds from -{TEN_YEARS_S} to {TEN_YEARS_S} (ten years), and not 0"
    if text is None:
        raise InvalidField("by", f"is missing; it {rule}", Code.MISSING_FIELD)
    by_ms = round(float(text) * 1000) if _BY.fullmatch(text) else 0
    if not 0 < abs(by_ms) <= TEN_YEARS_S * 1000:
        raise InvalidField("by", f"{rule}, got {quoted(text)}")
    return by_ms
