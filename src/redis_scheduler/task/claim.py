"""What a worker holds: an entry of the queue, the claim of a task in it, and how a claim ends without success.

Entries and claims come from the store; slots, delivery and the retry rules go by them.
"""

from dataclasses import dataclass

from redis_scheduler.task.record import Record


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the queue that was claimed. `claims`: how often since the task's last outcome, this one included."""

    id: str
    key: str
    claims: int = 1


@dataclass(slots=True)
class Claim:
    """A task that this consumer may deliver. `claims`: how often it was claimed since its last outcome, this included.

    Where its record is UNREADABLE it may only be buried.
    """

    id: str
    key: str
    record: Record
    attempts: int
    claims: int = 1


@dataclass(slots=True)
class Failed:
    """A claim that ends without success: what is kept of it, and what it asks for.

    `counts`: an attempt failed; else none was made: its workers were lost, its record is unreadable, or no slot was free.
    """

    claim: Claim
    failure: bytes
    delay_ms: int = 0
    counts: bool = True
