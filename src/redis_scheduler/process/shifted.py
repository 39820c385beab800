"""The points in time within a task's options, moved as the task is: when callbacks start, and until when it repeats."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import UNSET

from redis_scheduler.api.diagnosis import within
from redis_scheduler.logs import rfc3339
from redis_scheduler.task.due import at_ms, last_ms
from redis_scheduler.task.options import CALLBACKS, Options

Of = TypeVar("Of", bound=Options)

MoveTime = Callable[[str, str], int]
"""Returns the time of a member, moved, from its name and text. Raises InvalidField."""


def shifted(task: Of, shift_ms: int, moved: MoveTime) -> Of:
    """Return the same with all points in time of its options moved. Raises InvalidField for one that no clock has."""
    if not shift_ms:
        return task
    changes: dict[str, object] = {}
    if task.repeat is not UNSET and task.repeat.until is not UNSET:
        until = task.repeat.until
        with within("repeat"):
            moved_ms = moved("until", until)
        # A fraction of a ms counts as none in `until`: an occurrence may come at its end, and not behind it.
        moved_ms -= at_ms(until) - last_ms(until)
        changes["repeat"] = msgspec.structs.replace(task.repeat, until=rfc3339(moved_ms))
    for name in CALLBACKS:
        callback = getattr(task, name)
        if callback is not UNSET:
            with within(name):
                if callback.at is not UNSET:
                    callback = msgspec.structs.replace(callback, at=rfc3339(moved("at", callback.at)))
                changes[name] = shifted(callback, shift_ms, moved)
    return msgspec.structs.replace(task, **changes) if changes else task
