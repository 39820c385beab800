"""What a worker holds: an entry of the queue, the claim of a task in it, and how a claim ends without success.

Entries and claims come from the store; slots, delivery and the retry rules go by them.
"""

from dataclasses import dataclass

from redis_scheduler.task.record import Record


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the queue that was claimed. `tries`: how often since the task's last outcome, with this time."""

    id: str
    key: str
    tries: int = 1


@dataclass(slots=True, eq=False)
class Claim:
    """A task that this consumer may deliver. A claim is equal to itself alone: entries of two shards may have one id.

    `attempts`: how many have failed. `tries`: how often it was claimed since its last outcome, with this time. If its
    record is UNREADABLE it may only be buried. `shard`: the number of its shard. `previous_status`: of the
    answer to the last failed attempt, if there was one. `result`: what is kept of it once it is settled (summary.py);
    empty: nothing. `failure`: what is kept of its failed attempts (attempts.py). `mark`: what is known of
    an acknowledgement (acknowledgement.py). `is_told_to_run`: whether a client told a series to run (series.py).
    """

    id: str
    key: str
    record: Record
    attempts: int
    tries: int = 1
    shard: int = 0
    previous_status: int | None = None
    result: bytes = b""
    mark: str = ""
    failure: bytes | None = None
    is_told_to_run: bool = False


@dataclass(slots=True)
class Unsettled:
    """A claim whose task is not settled: what is kept of it, and when its task comes again.

    `last_failure`: as the task keeps it; empty keeps the one before. `counts`: whether an attempt failed. None was made
    if its workers were lost, its record is unreadable, or no slot was free.
    """

    claim: Claim
    last_failure: bytes
    delay_ms: int = 0
    counts: bool = True
