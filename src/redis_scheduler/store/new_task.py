"""A task that is to be scheduled: by the API, or as the follow-up of a task that ends."""

from collections.abc import Collection
from dataclasses import dataclass

from redis_scheduler.store.script import Column


@dataclass(slots=True)
class NewTask:
    """A task to schedule: its new key, delay, record less the due time, and type (None: the default)."""

    key: str
    ttl_ms: int
    tail: bytes
    type: str | None


def columns_of(tasks: Collection[NewTask]) -> dict[str, Column]:
    """Return the columns by which a script schedules tasks."""
    return {
        "key": [task.key for task in tasks],
        "delay_ms": [task.ttl_ms for task in tasks],
        "tail": [task.tail for task in tasks],
        "type": [task.type for task in tasks],
    }
