"""Why a task is not delivered yet, in one sentence: what it waits for."""

import msgspec
from msgspec import UNSET

from redis_scheduler.logs import rfc3339
from redis_scheduler.store.limiting import limit_of
from redis_scheduler.store.stored import BEFORE_MOST, Stored
from redis_scheduler.task.record import SEAL, UNREADABLE, newer_error

HELD_UP = ("scheduled", "deferred", "queued", "waiting", "held")
"""The states in which a task does not go on while all is paused."""

WAITS_FOR_WORKER = (*HELD_UP, "in delivery")
"""The states in which a task does not go on while no worker lives. (Of one in delivery the worker is gone then.)"""

ERROR_LENGTH = 200
"""The sentence repeats so many characters of an error."""


class _Failure(msgspec.Struct):
    error: str


_decode = msgspec.json.Decoder(_Failure).decode


def waits_for(stored: Stored) -> str | None:
    """Return what a task waits for; None if it is dead. While no worker lives in its shard, or all is paused, the
    sentence begins with that, unless the task would not be delivered anyway; with the pause not of one in delivery."""
    return what_stops(stored, _waits_for(stored))


def what_stops(stored: Stored, waits: str | None) -> str | None:
    """Return what a task waits for by itself behind what stops it before: no worker lives, or all is paused."""
    if stored.unserved and stored.state in WAITS_FOR_WORKER:
        then = f"then {waits}"
        if stored.state == "in delivery":
            then = f"that of its attempt {stored.attempts + 1} is gone"
        waits = f"`redis-scheduler worker`: {stored.unserved}; {then}"
    if stored.all_paused_since_ms is None or stored.state not in HELD_UP:
        return waits
    return f"`redis-scheduler resume-all`: all is paused since {rfc3339(stored.all_paused_since_ms)}; then {waits}"


def _waits_for(stored: Stored) -> str | None:
    record, at = stored.record, "" if stored.expires_ms is None else f", {rfc3339(stored.expires_ms)}"
    match stored.state:
        case "dead":
            return None
        case "paused":
            return "a resume: it is paused"
        case "lost":
            return "`redis-scheduler doctor --repair`: other hands removed its place"
        case _ if record.unknown is not None:
            return f"{'another' if record.unknown == SEAL else 'a newer'} worker: it was {newer_error(record.unknown)}"
        case "awaiting":
            return f"an acknowledgement of its attempt {stored.attempts + 1}, until{at[1:]}"
        case "queued" | "in delivery" if stored.mark:
            return "a worker that writes what its acknowledgement came to"
        case "held" if stored.is_in_turn:
            return "its turn: the queue is full, and tokens take turns"
        case "held":
            return f"its turn: {_held_by(stored)}"
        case "in delivery":
            return f"{_in_line(stored)}the answer to its attempt {stored.attempts + 1}"
        case "queued":
            return f"a free slot of a worker{_behind(stored)}{_retry(stored)}"
        case "waiting" | "deferred":
            # What a worker gave back waits without a failure.
            return f"its retry{at}{_retry(stored)}" if stored.attempts else "a free slot of a worker"
    if record is not UNREADABLE and stored.expires_ms is not None and stored.expires_ms > record.due:
        if record.options.repeat is not UNSET:
            return f"a worker that can read its repeat: it comes again{at}"
        return f"a free slot for its host, which is slow: it comes again{at}"
    return its_time(at)


def _held_by(stored: Stored) -> str:
    """Return what holds a task: the pause of its host or limit key, its breaker, or its limit."""
    name, limit = limit_of(stored.record), stored.limit
    if limit is not None and limit.said is not None and limit.said.is_paused:
        return f"{name} is paused: PUT /hosts/{name}"
    if limit is None or limit.breaker is None:
        return f"the limit of {name} lets no more begin: GET /hosts/{name}"
    breaker, since = limit.breaker, rfc3339(limit.breaker.since_ms)
    if breaker.state == "open":
        return (
            f"the breaker of {name} is open since {since}, and the next probe may begin at {rfc3339(breaker.next_ms)}"
        )
    return f"the breaker of {name} was open since {since} and closes: in step {breaker.step} of ten few may begin"


def its_time(at: str) -> str:
    """Return what most tasks wait for. `at`: that time, behind a comma."""
    return f"its time{at}"


def _behind(stored: Stored) -> str:
    """Return how many tasks are before it in the queue; empty for none. How many slots its host has is each worker's to
    say: they stand in no place."""
    if not stored.before:
        return ""
    return f", behind {stored.before:,}{' or more' if stored.before == BEFORE_MOST else ''} in the queue"


def _in_line(stored: Stored) -> str:
    """Return the slot that a claimed task may wait for, where some stand in their worker's line, as that said last:
    it runs, or stands among them. Empty where none do."""
    seen = stored.owner_said
    if seen is None or not seen.said.hosts[0].waiting:
        return ""
    told = seen.said.hosts[0]
    line = f"{told.waiting:,} in its line for {told.host}, behind {told.running:,} that run, at {rfc3339(seen.at_ms)}"
    return f"a free slot of the worker {seen.name} ({line}), or "


def _retry(stored: Stored) -> str:
    """Return after which error it is tried again; empty for a first attempt."""
    if not stored.attempts:
        return ""
    try:
        error = f": {_decode(stored.failure or b'').error[:ERROR_LENGTH]}"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        error = ""
    return f", after attempt {stored.attempts} failed{error}"
