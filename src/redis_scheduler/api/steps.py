"""The steps in which one thing is done to many tasks: how long and how large they are."""

import asyncio
import time
from collections.abc import Mapping

from redis_scheduler.errors import InvalidField
from redis_scheduler.task.given import quoted

WORK_S = 0.4
"""A request begins no new step after so long."""

TURNS_S = 1.0
"""A request waits for its turns until so long after its beginning: with one more step it is answered within 1.2 s."""

STEP_S = 0.1
"""A step looks for tasks for so long."""

STEP_TASKS = 50
"""Tasks of one step, one call of the script: a third of a millisecond of Redis, and a millisecond or two of this
process, for which other requests wait."""

STEP_BYTES = 262_144
"""A step ends before the task that would make its records larger than this, unless that is the first: a shift of three
times as much held Redis for 4.5 ms, one of this for 1.8."""

PAUSED = "paused"


class Rest:
    """Leaves this process to others for as long as it has worked since `begin`, or since the last time: so what came
    meanwhile waits for the work of one call, and not for that of a step."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count work from now on."""
        self._began_s = time.thread_time()

    async def __call__(self) -> None:
        """Wait as long as the work was, at most STEP_S."""
        await asyncio.sleep(min(time.thread_time() - self._began_s, STEP_S))
        self.begin()


def is_dry_run(given: Mapping[str, str]) -> bool:
    """Whether a request is to count only. Raises InvalidField."""
    text = given.get("dry_run", "false")
    if text not in ("true", "false"):
        raise InvalidField("dry_run", f"must be true or false, got {quoted(text)}")
    return text == "true"
