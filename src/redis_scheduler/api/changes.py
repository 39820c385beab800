"""What a PATCH, or a replay, makes of a task."""

from msgspec import UNSET

from redis_scheduler.api import requests
from redis_scheduler.api.bodies import UpdateRequest
from redis_scheduler.api.callers import Caller
from redis_scheduler.api.content import changed_content, check_method
from redis_scheduler.api.repeats import check_times, first_of
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.store.limiting import limit_named, limit_of
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import Change
from redis_scheduler.task.given import shown
from redis_scheduler.task.listing import listing_of
from redis_scheduler.task.options import Options
from redis_scheduler.task.record import UNREADABLE, newer_error, record_tail
from redis_scheduler.task.repeat import Occurrence, Progress
from redis_scheduler.task.webhook import parts_of


def changeable(stored: Stored) -> Stored:
    """Return a task unless its record is one that this version cannot change. Raises RequestRefused."""
    if stored.record is UNREADABLE:
        raise InvalidRequest(Code.UNREADABLE_RECORD, "The task's record cannot be read: it can only be deleted")
    if stored.record.unknown is not None:
        error = f"The task was {newer_error(stored.record.unknown)}; it can only be deleted"
        raise RequestRefused(Code.NEWER_RECORD, error)
    return stored


def change_of(
    stored: Stored, wanted: UpdateRequest, options: Options, now_ms: int = 0, caller: Caller | None = None
) -> Change:
    """Return the change of a task that a body asks for. Raises RequestRefused for one that cannot be changed.

    `options`: those that the task then has. `now_ms`: Redis' clock, where a series is concerned. A token with rights
    takes a task of API_AUTH over by saying where it, or what its end starts, leads: else a receiver of its own would
    get what those of API_AUTH get.
    """
    record = changeable(stored).record
    ttl: float = record.ttl
    delay_ms: int | None = None
    is_moved = wanted.ttl is not UNSET or wanted.at is not UNSET
    repetition = record.repetition
    if options.repeat is UNSET:
        repetition = None if isinstance(repetition, Progress) else repetition
        if is_moved:
            ttl, delay_ms = requests.when(wanted)
    elif isinstance(repetition, Occurrence):
        problem = f"must not be given to an occurrence: its series, {repetition.series}, makes the next, got "
        raise InvalidField("repeat", problem + shown(options.repeat), Code.CONTRADICTION)
    elif is_moved or wanted.repeat is not UNSET:
        ttl, delay_ms = first_of(options.repeat, wanted, now_ms)
        if isinstance(repetition, Progress):
            check_times(options.repeat, repetition)
    old_listed = listing_of(record.type, record.options, record.token)
    token = record.token
    if token is None and caller is not None and (wanted.webhook or wanted.on_success or wanted.on_failure):
        token = caller.id
    is_listed_as_before = options is record.options and token == record.token
    listed = old_listed if is_listed_as_before else listing_of(record.type, options, token)
    webhook = record.webhook if wanted.webhook is UNSET else wanted.webhook
    content, data = changed_content(record, wanted)
    requests.check_options(options, record.options)
    check_method(options, data)
    tail = record_tail(webhook, ttl, record.type, data, options, content, repetition, token)
    other_limit = (wanted.webhook is not UNSET or options is not record.options) and (
        limit_named(options, parts_of(webhook)[0]) != limit_of(record)
    )
    return Change(stored.key, stored.raw, tail, delay_ms, record.due, listed, old_listed, other_limit, token)
