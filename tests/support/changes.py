"""What a PATCH makes of a task, without a service."""

from redis_scheduler.api.changes import change_of
from redis_scheduler.api.requests import update_request
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import Change
from redis_scheduler.task.options import changed


def change_by(stored: Stored, body: bytes) -> Change:
    """Return the change of a task that a body asks for."""
    wanted = update_request(body)
    return change_of(stored, wanted, changed(stored.record.options, wanted))
