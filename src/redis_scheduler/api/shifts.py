"""The handler of POST /schedules/shift: many tasks come earlier, or later.

A shift that is sent again would move its tasks again. So each step is written together with how far the operation is.
"""

import re
from collections.abc import Mapping

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.callers import Caller, caller_of
from redis_scheduler.api.filters import TYPES
from redis_scheduler.api.operations import OperationsApi, as_asked, stepped, wanted_by
from redis_scheduler.api.shard_calls import ShardCalls
from redis_scheduler.api.steps import PAUSED, STEP_BYTES, STEP_S, STEP_TASKS
from redis_scheduler.errors import Code, InvalidField
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.views import Reading
from redis_scheduler.store.written import Operation, ShiftStep
from redis_scheduler.task.given import quoted
from redis_scheduler.task.timing import TEN_YEARS_S

STATES = ("scheduled", PAUSED)
"""Those in which the first attempt may be yet to come."""

_BY = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,3})?")


class ShiftsApi(OperationsApi):
    """What OperationsApi does, and shifts."""

    async def shift_many(self, request: Request, given: Mapping[str, str]) -> Response:
        """POST /schedules/shift?by=: move the due times of all tasks that the filters want, and whose first attempt is
        yet to come, by so many seconds."""
        by_ms, caller = _by_ms(given), caller_of(request)
        filters = wanted_by(given, STATES, "shifted", caller)

        async def take(calls: ShardCalls, operation_id: str, operation: Operation) -> Operation:
            # What is moved goes where the walk has been, so that it is not met again.
            reading = Reading(STEP_S, STEP_BYTES, self._rest)
            page = await calls.views.planned(STEP_TASKS, operation.cursor, filters, by_ms > 0, reading)
            tasks = [task for task in page.tasks if _may_be_moved(task, by_ms, caller)]
            after = stepped(operation, len(tasks), page.looked_at, page.next)
            if not operation_id:
                return after
            step = ShiftStep(after.steps, page.looked_at, operation.mark, page.next, by_ms)
            found = await calls.writes.shift(operation_id, step, tasks, TYPES in given)
            if found is None:
                raise not_known(operation_id)
            return as_asked(found, operation.mark, "operation", operation_id)

        return await self._operated(request, given, "shifted", filters, f"by {by_ms}", take)


def not_known(operation_id: str) -> InvalidField:
    """Return the error where nothing is kept of an operation whose step was just taken."""
    problem = f"is not known any more: other hands removed what is kept of it, got {quoted(operation_id)}"
    return InvalidField("operation", problem)


def _may_be_moved(task: Stored, by_ms: int, caller: Caller | None) -> bool:
    if task.state not in STATES or task.attempts or task.expires_ms not in (None, task.record.due):
        return False
    # After an earlier time a calendar would have the old one again, and a token more occurrences than its limits say.
    repeat = task.record.options.repeat
    return by_ms > 0 or repeat is UNSET or (caller is None and repeat.cron is UNSET)


def _by_ms(given: Mapping[str, str]) -> int:
    text = given.get("by")
    range_s = f"from -{TEN_YEARS_S} to {TEN_YEARS_S} (ten years), and not 0"
    rule = f"must be a number of seconds {range_s}, in digits, of which three may be decimals"
    if text is None:
        raise InvalidField("by", f"is missing; it {rule}", Code.MISSING_FIELD)
    by_ms = round(float(text) * 1000) if _BY.fullmatch(text) else 0
    if not 0 < abs(by_ms) <= TEN_YEARS_S * 1000:
        raise InvalidField("by", f"{rule}, got {quoted(text)}")
    return by_ms
