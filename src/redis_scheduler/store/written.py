"""What the writes of the API are given, and what each of them answers: plain values."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.listing import Listing


@dataclass(slots=True)
class Change:
    """A record to replace: what it must be now, what it becomes, and the new delay (None keeps the due time; below
    zero: task/due.py)."""

    key: str
    expected: bytes
    tail: bytes
    ttl_ms: int | None
    due_ms: int
    listed: Listing
    old_listed: Listing
    """The names that it is to be listed under (`listed`), and those that it is listed under now."""
    has_other_limit: bool = False
    """Whether it is to be under another limit than now (limiting.py: limit_of)."""
    token: str | None = None
    """The id of the token whose task it is to be; None: of API_AUTH."""


Cancellation = tuple[str, Listing] | tuple[str, Listing, bytes] | tuple[str, Listing, bytes, bytes]
"""A task to take out: its key, the names that it is listed under, and the record that it must have, if only then."""


IDEMPOTENCY_ID_BYTES = 340
"""What an id takes of Redis: hash and sorted set, with what they need themselves, at their largest."""


@dataclass(slots=True)
class OnceTask:
    """A task to schedule once: the id of the idempotency key that it has, and a digest of what the client sent."""

    id: str
    mac: str
    task: NewTask
    ids_listed: str | None = None
    """IDS_MARK and the id of the token that asks; None: API_AUTH."""


class StoredTask(NamedTuple):
    """The task that is stored for an idempotency id: this one, or that of an earlier request."""

    key: str
    due_ms: int


class OnceAnswer(Enum):
    """Why a task was not scheduled for its idempotency id."""

    OTHER_CONTENT = b"X"
    """An earlier request with the id had another content."""
    FULL = b"F"
    """As many ids are kept as may be."""
    TOKEN_FULL = b"T"
    """As many ids of this token are kept as may be."""


@dataclass(slots=True)
class Put:
    """A task to enter under an own key, or to replace what has this key: its record (empty if there is none), and
    the names that it is listed under."""

    task: NewTask
    expected: bytes
    old_listed: Listing
    may_revive: bool = True
    """Whether a dead task is replaced, too."""


class PutAnswer(Enum):
    """What a put did. It replaces no task that was changed meanwhile."""

    CREATED = "N"
    REPLACED = "U"
    REPLACED_IN_DELIVERY = "D"
    REVIVED = "X"
    STAYS_DEAD = "S"
    CHANGED = "C"


class CancelAnswer(Enum):
    """What a cancellation found. An attempt that is under way may still arrive. What has another record than demanded
    stays."""

    CANCELLED = "C"
    IN_DELIVERY = "D"
    CHANGED = "X"
    NOT_FOUND = "N"


class Standing(Enum):
    """Where a task stood that was to be paused, resumed or run. The names are those of the states."""

    SCHEDULED = "S"
    DEFERRED = "F"
    QUEUED = "Q"
    WAITING = "W"
    IN_DELIVERY = "D"
    PAUSED = "P"
    AWAITING = "A"
    HELD = "H"
    DEAD = "X"
    LOST = "L"
    CHANGED = "C"
    """Somewhere, but with another record than expected."""
    NOT_FOUND = "N"
    TOLD = "R"
    """A series that was told to run before, and has not made that occurrence."""

    @property
    def state(self) -> str:
        """The state as GET names it."""
        return self.name.lower().replace("_", " ")


@dataclass(slots=True)
class Acknowledgement:
    """What a receiver says of an attempt that it took on: `sign` is `+` (done), `-` (failed) or empty (it goes on, and
    may do so for `within_ms` from now). `id`: of the entry of the attempt; `attempts`: failed before it."""

    key: str
    id: str
    attempts: int
    sign: str
    within_ms: int


class AcknowledgeAnswer(Enum):
    """Whether an acknowledgement was noted; OTHER: of another attempt, or something else was said before.
    ALL_PAUSED: nothing was noted, since no worker may write the end."""

    NOTED = "A"
    OTHER = "O"
    NOT_FOUND = "N"
    ALL_PAUSED = "P"


@dataclass(frozen=True, slots=True)
class Operation:
    """How far an operation is: something that is done to many tasks, step by step, and each step once. `mark`: what it
    does; `cursor`: where the next step begins (None: it is done); `touched`, `looked_at`: tasks so far."""

    mark: str
    cursor: str | None = None
    steps: int = 0
    touched: int = 0
    looked_at: int = 0


_OPERATION = re.compile(r"([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15}) (\S{1,99}) (\S+)")


def read_operation(answer: bytes) -> Operation | None:
    """Read how far an operation is; None for nothing, and for what foreign hands wrote."""
    found = _OPERATION.fullmatch(answer.decode(errors="replace"))
    if found is None:
        return None
    steps, touched, looked_at, mark, cursor = found.groups()
    return Operation(mark, None if cursor == "-" else cursor, int(steps), int(touched), int(looked_at))


@dataclass(frozen=True, slots=True)
class ShiftStep:
    """A step of an operation that moves due times by so much: its number, how many tasks it has looked at, what the
    operation does (`mark`), and where the next step begins (None: this is the last)."""

    number: int
    looked_at: int
    mark: str
    cursor: str | None
    by_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an operation that does a verb to tasks: how far it is behind it (`after`), but for what the step
    touches. `is_named`: whether a client may know the operation by its id."""

    operation_id: str
    after: Operation
    is_named: bool = True


class UpdateAnswer(Enum):
    """What an update did. It changes no task that was changed meanwhile, or that is dead if a delay was asked for."""

    UPDATED = "U"
    UPDATED_IN_DELIVERY = "D"
    CHANGED = "C"
    NOT_FOUND = "N"
    DEAD = "X"


class ReplayAnswer(Enum):
    """What a replay did. It finds only dead tasks."""

    REPLAYED = "U"
    CHANGED = "C"
    NOT_FOUND = "N"


class DiscardAnswer(Enum):
    """What a discard did. It finds only dead tasks. What has another record than expected stays."""

    DELETED = "C"
    CHANGED = "X"
    NOT_FOUND = "N"
