"""Keeps a token with types to tasks of these: others are not there for it.

The endpoint asks for each request, by what its parameters are. So a new route serves such a token only where it says
how it keeps to types. What a path names by its key the handler looks at, as it is read and as it is written
(callers.py: visible; shards.py: _guarded).
"""

from typing import Any

from redis_scheduler.api.callers import Caller, refuse_other_type
from redis_scheduler.api.filters import TYPES
from redis_scheduler.api.routes import Route
from redis_scheduler.errors import Code, RequestRefused

TASK_PATHS = ("/schedule/{key}", "/dead/{key}")
"""Paths of tasks begin so."""


def kept_to_types(route: Route[Any], caller: Caller, given: dict[str, str]) -> dict[str, str]:
    """Return the parameters with what the caller may see. Raises a 403 for a type that is not the caller's."""
    if route.has_no_type:
        return given
    if not caller.types:
        refuse_other_type(caller, given["type"])
        return given
    if not route.path.startswith(TASK_PATHS) and "type" not in (route.parameters or ()):
        error = f"{route.method} {route.path} is for tasks of all types, and the token {caller.id} has some"
        raise RequestRefused(Code.OTHER_TYPE, error, "Authorization")
    if "type" in given:
        refuse_other_type(caller, given["type"])
    return {**given, TYPES: "\n".join(sorted(caller.types))}
