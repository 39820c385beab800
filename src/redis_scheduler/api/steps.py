"""The steps in which one thing is done to many tasks: how long and how large they are."""

from collections.abc import Mapping

from redis_scheduler.api.diagnosis import quoted
from redis_scheduler.errors import InvalidField

WORK_S = 0.4
"""A request begins no new step after so long."""

STEP_S = 0.1
"""A step looks for tasks for so long."""

STEP_TASKS = 50
"""Tasks of one step, one call of the script: a third of a millisecond of Redis, and a millisecond or two of this
process, for which other requests wait."""

STEP_BYTES = 1_048_576
"""A step of what is written anew ends before the task that would make it larger, unless that is the first."""

PAUSED = "paused"


def is_dry_run(given: Mapping[str, str]) -> bool:
    """Whether a request is to count only. Raises InvalidField."""
    text = given.get("dry_run", "false")
    if text not in ("true", "false"):
        raise InvalidField("dry_run", f"must be true or false, got {quoted(text)}")
    return text == "true"
