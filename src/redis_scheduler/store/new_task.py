"""A task that is to be scheduled: by the API, or as the follow-up of a task that ends."""

from dataclasses import dataclass

from redis_scheduler.task.listing import Listing


@dataclass(slots=True)
class NewTask:
    """A task to schedule: its new key, delay (below zero: task/due.py), record less the due time, and the names that it
    is listed under."""

    key: str
    ttl_ms: int
    tail: bytes
    listed: Listing


AS_ROW = {"delay_ms": "row.ttl_ms"}
"""Where a script finds the columns of a task to schedule."""

AS_FOLLOW_UP = {
    "item": "row[0] + 1",
    "key": "row[1].key",
    "delay_ms": "row[1].ttl_ms",
    "tail": "row[1].tail",
    "type_number": "row[1].listed",
}
"""Where a script finds the columns of a follow-up: a pair of the index of the claim that it follows, and a task."""
