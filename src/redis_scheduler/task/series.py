"""What a series does when it comes due: its occurrences, its next time, and what its record says then. Pure."""

from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from redis_scheduler.task.claim import Claim
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.listing import Listing, listing_of
from redis_scheduler.task.options import options_of
from redis_scheduler.task.record import tail_of
from redis_scheduler.task.repeat import Occurrence, Progress
from redis_scheduler.task.summary import ended_tail
from redis_scheduler.task.times import Due, due_now

EARLY_MS = 1_000
"""A series that was queued so long before its time was told to run by a version before, which left no mark."""


@dataclass(slots=True)
class Made:
    """An occurrence: a task of its own, with a new key. `due_ms`: the intended time; `tail`: its record without it;
    `listed`: the names that it is listed under."""

    key: str
    due_ms: int
    tail: bytes
    listed: Listing


@dataclass(slots=True)
class Next:
    """How a series goes on: its next time (None: it ends), and its record without that; what is kept of one that ends
    (summary.py)."""

    due_ms: int | None
    tail: bytes
    result: bytes = b""


@dataclass(slots=True)
class Firing:
    """What the claim of a series comes to: the occurrences that it makes, and how it goes on.

    `unless`: the key of a task; while that is unfinished, none is made, and the series goes on as `otherwise`. Empty:
    they are made in any case.
    """

    claim: Claim
    made: list[Made]
    after: Next
    unless: str
    otherwise: Next


def _queued_ms(claim: Claim) -> int:
    """Return Redis' time at which a task was queued, which its entry's id begins with: a clock that was set back since
    makes no series early. It would fire for this time once more."""
    return int(claim.id.partition("-")[0])


def firing(claim: Claim, now_ms: int, most_bytes: int) -> Firing:
    """Return what follows from the claim of a series by Redis' time.

    One that was told to run makes an occurrence more, and keeps its time, however near or long past that is. Else its
    occurrences have about so many bytes, one at least: a series that missed more comes again at once for the rest.
    """
    record, repeat = claim.record, claim.record.options.repeat
    if repeat is UNSET:
        raise ValueError("no series")
    before = record.repetition if isinstance(record.repetition, Progress) else Progress()
    is_told_to_run = claim.is_told_to_run or max(now_ms, _queued_ms(claim)) < record.due - EARLY_MS
    due = Due([now_ms], 0, record.due) if is_told_to_run else due_now(repeat, record.due, now_ms)
    left = len(due.made) if repeat.times is UNSET else max(0, repeat.times - before.made)
    options = options_of(msgspec.structs.replace(record.options, repeat=UNSET))
    most, next_ms = 1, due.next_ms
    if len(due.made) > 1:
        most = max(1, most_bytes // (len(tail_of(record, options, Occurrence(claim.key, before.made + 1))) + 1))
        next_ms = due.made[most] if len(due.made) > most else next_ms
    listed = listing_of(record.type, options, record.token)
    made = [
        Made(new_task_key(claim.shard), at_ms, tail_of(record, options, Occurrence(claim.key, number)), listed)
        for number, at_ms in enumerate(due.made[: min(left, most)], before.made + 1)
    ]

    def following(count: int, skipped: int, last: str) -> Next:
        ends = repeat.times is not UNSET and count >= repeat.times
        progress, due_ms = Progress(count, skipped, last), None if ends else next_ms
        result = ended_tail(record, progress, due.made[-1] if due.made else record.due) if due_ms is None else b""
        return Next(due_ms, tail_of(record, record.options, progress), result)

    skipped = before.skipped + due.skipped
    after = following(before.made + len(made), skipped, made[-1].key if made else before.last)
    if not made or not before.last or repeat.overlap == "allow":
        return Firing(claim, made, after, "", after)
    return Firing(claim, made, after, before.last, following(before.made, skipped + len(made), before.last))
