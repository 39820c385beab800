"""Keeps a token with types to tasks of these: others are not there for it.

The endpoint asks for each request, by what its path and its parameters are. So a new route serves such a token only
where it says how it keeps to types.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from redis_scheduler.api.callers import Caller, refuse_other_type, refuse_taken_key
from redis_scheduler.api.filters import TYPES
from redis_scheduler.api.routes import Route
from redis_scheduler.errors import Code, LetterNotFound, RequestRefused, TaskNotFound
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.summary import Summary

TASK_PATHS = ("/schedule/{key}", "/dead/{key}")
"""Paths of tasks begin so."""

Find = Callable[[Request, str], Awaitable[Stored | Summary | None]]
"""Reads the task with a key, as it stands or as it ended."""


async def keep_to_types(
    route: Route[Any], caller: Caller, request: Request, given: dict[str, str], find: Find
) -> dict[str, str]:
    """Return the parameters with what the caller may see. Raises a 403 for a type that is not the caller's, and a 404,
    as for what is not there, for a task of such a type. (Between this look and what follows another client may put a
    task of another type in its place.)"""
    if route.has_no_type:
        return given
    has_task = route.path.startswith(TASK_PATHS)
    if not has_task and "type" not in (route.parameters or ()):
        error = f"{route.method} {route.path} is for tasks of all types, and the token {caller.id} has some"
        raise RequestRefused(Code.OTHER_TYPE, error, "Authorization")
    if "type" in given:
        refuse_other_type(caller, given["type"])
    if has_task and (found := await find(request, request.path_params["key"])) is not None:
        type_name = found.type if isinstance(found, Summary) else found.record.type
        if route.method == "PUT":
            refuse_taken_key(caller, type_name)
        elif not caller.sees(type_name):
            raise LetterNotFound if route.path.startswith("/dead/") else TaskNotFound
    return {**given, TYPES: "\n".join(sorted(caller.types))}
