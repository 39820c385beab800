"""What is answered to a request to pause, resume or run a task."""

from collections.abc import Sequence

from starlette.responses import Response

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Found
from redis_scheduler.errors import Code, RequestRefused, TaskNotFound
from redis_scheduler.store.written import Standing


def series_queued() -> RequestRefused:
    """Return the 409 for a series that was told to run before, and has not yet."""
    error = (
        "The series was told to run before: it makes that occurrence first (if it is paused, resume it), and none for "
        "this; run it again then"
    )
    return RequestRefused(Code.SERIES_QUEUED, error)


def moved(
    key: str,
    verb: str,
    found: Standing,
    refused: Sequence[Standing] = (Standing.DEAD, Standing.IN_DELIVERY, Standing.AWAITING),
) -> Response:
    """Answer where the task stood that was to be paused, resumed or run; by 409 where it cannot be."""
    if found is Standing.NOT_FOUND:
        raise TaskNotFound
    if found in refused:
        if found is Standing.DEAD:
            raise RequestRefused(
                Code.TASK_DEAD, f"A dead task cannot be {verb}: POST /dead/{key}/replay brings it back"
            )
        raise RequestRefused(Code.IN_DELIVERY, f"A task that is {found.state} cannot be {verb}: wait for its outcome")
    return answer(Found(key, key, found.state))
