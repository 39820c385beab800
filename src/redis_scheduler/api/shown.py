"""What is shown of a task."""

from msgspec import UNSET, Raw, UnsetType

from redis_scheduler.api.view import NULL, AttemptView, Info, PlainInfo, SeriesView, TaskView, breaker_view, raw_or_null
from redis_scheduler.api.waits import its_time, waits_for, what_stops
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.stored import Stored
from redis_scheduler.task.attempts import Attempt, read_failed
from redis_scheduler.task.due import NO_TTL
from redis_scheduler.task.failure import FOREIGN_FAILURE, LastFailure, encode_failure
from redis_scheduler.task.json_text import FOREIGN_DATA_ERROR, is_json
from redis_scheduler.task.options import NONE, with_options
from redis_scheduler.task.record import DEFAULT_TYPE, UNREADABLE, UNREADABLE_ERROR, Record, newer_error
from redis_scheduler.task.repeat import Occurrence, Progress
from redis_scheduler.task.summary import Summary


def ended_view(key: str, summary: Summary) -> TaskView:
    """Return what is shown of a task that has ended."""
    info = Info(
        key=key,
        ttl=None,
        retry=summary.attempts,
        webhook=UNSET,
        expires=None,
        state=summary.state,
        due=rfc3339(summary.due) if summary.due else None,
        type=summary.type or DEFAULT_TYPE,
        ended=rfc3339(summary.ended),
        last_status=UNSET if summary.status is None else summary.status,
        late_ms=summary.late_ms if summary.state in ("delivered", "expired") else UNSET,
        series=SeriesView(summary.progress.made, summary.progress.skipped) if summary.progress else UNSET,
        started=summary.started or UNSET,
    )
    return TaskView(info, NULL)


def _attempt_view(attempt: Attempt, to_admin: bool) -> AttemptView:
    return AttemptView(
        attempt.error,
        attempt.elapsed_ms,
        UNSET if attempt.status is None else attempt.status,
        rfc3339(attempt.due) if attempt.due else UNSET,
        rfc3339(attempt.began) if attempt.began else UNSET,
        attempt.worker,
        attempt.lookup_ms,
        attempt.connect_ms,
        attempt.first_byte_ms,
        attempt.answer,
        attempt.answer_base64,
        attempt.detail if to_admin else "",
    )


def _plain_view(stored: Stored, explains: bool, to_admin: bool) -> TaskView | None:
    """Return what is shown of a task that is scheduled, if that is nothing that few have; else None."""
    record, data, expires_ms = stored.record, stored.record.data, stored.expires_ms
    is_plain = (
        record.origin
        and expires_ms == record.due
        and record.content == "data"
        and record.repetition is None
        and record.ttl != NO_TTL
        and not record.again
        and (record.token is None or not to_admin)
        and stored.failure is None
        and (data is None or is_json(data))
    )
    if not is_plain:
        return None
    due = rfc3339(record.due)
    waits = what_stops(stored, its_time(f", {due}")) if explains else None
    info = PlainInfo(
        stored.key,
        record.ttl,
        stored.attempts,
        record.webhook,
        due,
        stored.state,
        due,
        record.type or DEFAULT_TYPE,
        data is not None,
        waits or UNSET,
    )
    return TaskView(info, raw_or_null(data))


def view_of(stored: Stored, explains: bool = False, to_admin: bool = False) -> TaskView:
    """Return what is shown of a task; with `explains` also what it waits for, and its failed attempts; `to_admin` with
    the addresses that they were about, and whose task it is."""
    record, is_unreadable = stored.record, stored.record is UNREADABLE
    if record.options is NONE and stored.state == "scheduled":
        plain = _plain_view(stored, explains, to_admin)
        if plain is not None:
            return plain
    error = UNREADABLE_ERROR if is_unreadable else record.unknown and newer_error(record.unknown)
    data = record.data
    if data is not None and not is_json(data):
        error, data = error or FOREIGN_DATA_ERROR, None
    failure: Raw | UnsetType = UNSET
    failed = read_failed(stored.failure)
    if failed:
        last = failed[-1]
        failure = Raw(encode_failure(LastFailure(last.error, last.elapsed_ms, last.status)))
    elif stored.failure is not None:
        failure = Raw(stored.failure) if is_json(stored.failure) else FOREIGN_FAILURE
    due, expires_ms = rfc3339(record.due), stored.expires_ms
    info = Info(
        key=stored.key,
        ttl=None if record.ttl == NO_TTL else record.ttl,
        retry=stored.attempts,
        webhook=record.webhook,
        expires=due if expires_ms == record.due else None if expires_ms is None else rfc3339(expires_ms),
        state=stored.state,
        due=None if is_unreadable else due,
        type=record.type or DEFAULT_TYPE,
        token=record.token if record.token is not None and to_admin else UNSET,
        at=due if record.ttl == NO_TTL else UNSET,
        has_data=UNSET if is_unreadable else record.data is not None and record.content == "data",
        series=_series_of(record),
        occurrence=record.repetition if isinstance(record.repetition, Occurrence) else UNSET,
        again=record.again or UNSET,
        last_failure=failure,
        attempts=[_attempt_view(one, to_admin) for one in failed] if explains and failed else UNSET,
        waits_for=(waits_for(stored) if explains else None) or UNSET,
        breaker=breaker_view(stored.limit.breaker) if stored.limit is not None and stored.limit.breaker else UNSET,
        started=(failed[-1].started if explains and failed else "") or UNSET,
        error=UNSET if error is None else error,
    )
    if record.options is not NONE:
        info = with_options(info, record.options)
    if record.content == "data":
        return TaskView(info, raw_or_null(data))
    return TaskView(info, NULL, **{record.content: raw_or_null(data)})


def _series_of(record: Record) -> SeriesView | UnsetType:
    if record.options is NONE or record.options.repeat is UNSET or record.unknown is not None:
        return UNSET
    progress = record.repetition if isinstance(record.repetition, Progress) else Progress()
    return SeriesView(progress.made, progress.skipped)
