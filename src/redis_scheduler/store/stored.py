"""A task as it stands, from the answer of `read.lua`.

A state is where the key stands: in `due` scheduled or deferred, in `entries` queued, in delivery or waiting, in
`paused` paused, in `awaiting` awaiting, in `held` held, in `dead` dead.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from redis_scheduler.store.answer_shape import A_NUMBER, A_TEXT, NOTHING, all_paused_since_ms, columns
from redis_scheduler.store.keys import WAITING
from redis_scheduler.task.acknowledgement import entry_of_mark
from redis_scheduler.task.failure import is_told_to_run, read_attempts, read_mark
from redis_scheduler.task.listing import Listing, listing_of
from redis_scheduler.task.record import UNREADABLE, Record, read_record
from redis_scheduler.task.timing import LAST_MS

if TYPE_CHECKING:
    from redis_scheduler.store.limiting import HostState
    from redis_scheduler.store.processes import ProcessSeen
    from redis_scheduler.store.vault import Vault

BEFORE_MOST = 1_000
"""So many tasks before another are counted."""


class Stored(msgspec.Struct):
    """A task as it stands: its record (and the bytes of it), where it stands, when it next fires (None: never), when it
    died."""

    key: str
    raw: bytes
    record: Record
    attempts: int
    failure: bytes | None
    state: str
    expires_ms: int | None
    died_ms: int | None = None
    entry: str | None = None
    """The entry that the task is in, or that its attempt was in whose acknowledgement is awaited."""
    mark: str = ""
    """What is known of an acknowledgement: as that of a claim."""
    is_told_to_run: bool = False
    """Whether a client told a series to run, which has not made that occurrence yet."""
    is_in_turn: bool = False
    """Whether it is held in the line of its token, and not by a limit."""
    left_ms: int = 0
    """What was left of a delay when the task was paused."""
    before: int = 0
    """How many tasks are before it in the queue, where that was asked (views.py); BEFORE_MOST are that or more."""
    limit: "HostState | None" = None
    """How the limit stands that holds the task, where that was asked."""
    unserved: str = ""
    """That no worker lives in its shard, where that was asked; empty: one does, or it is not known."""
    owner: str = ""
    """The worker that has it in delivery."""
    owner_said: "ProcessSeen | None" = None
    """What its owner has said last of its host, where that was asked."""
    all_paused_since_ms: int | None = None
    """Since when nothing of the deployment is promoted or claimed; None: it is."""
    shard: int = 0
    """The number of the shard that it was read in."""

    @property
    def listed(self) -> Listing:
        """The names that it is listed under."""
        return listing_of(self.record.type, self.record.options, self.record.token)


_TEXT, _NUMBER = A_TEXT | NOTHING, A_NUMBER | NOTHING
_TASK = (_TEXT | _NUMBER, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _NUMBER, _TEXT, _TEXT, _TEXT)


def tasks_read(
    task_keys: Sequence[str], record_bytes: int, window_ms: int, vault: "Vault | None", answer: Any
) -> list[Stored | int | None]:
    """Read the tasks of the first keys, as many as were read, at least one; of those larger than `record_bytes` the
    size."""
    now_ms, since, *rest = answer
    # By hand, as answer_shape.numbers: this is read for each task that is asked for.
    if now_ms.__class__ is not int:
        raise ValueError("Expected a time")
    since_ms = None if since is None else all_paused_since_ms(since)
    rows = list(zip(*columns(rest, _TASK), strict=True))
    if not 1 <= len(rows) <= len(task_keys):
        raise ValueError(f"Expected 1 to {len(task_keys)} tasks")
    tasks: list[Stored | int | None] = []
    for key, row in zip(task_keys, rows, strict=False):
        record = row[0]
        if isinstance(record, int) and record <= record_bytes:
            raise ValueError("Expected the record")
        if isinstance(record, bytes):
            _, failure, due_ms, _, entry, *_ = row
            if due_ms is not None and failure is entry is None:  # as most are: `_stored` would take half as long again
                opened = read_record(record) if vault is None else vault.read_record(key, record)
                stored = Stored(key, record, opened, 0, None, "scheduled", score_ms(due_ms))
            else:
                stored = _stored(now_ms, window_ms, vault, key, *row)
            stored.all_paused_since_ms = since_ms
            tasks.append(stored)
        else:
            tasks.append(record)
    return tasks


def score_ms(score: bytes) -> int | None:
    """Return the time of a score; None if foreign hands set it to something else."""
    time_ms = float(score)
    return int(time_ms) if 0 <= time_ms <= LAST_MS else None


def _stored(
    now_ms: int,
    window_ms: int,
    vault: "Vault | None",
    key: str,
    raw: bytes,
    failure: bytes | None,
    due_ms: bytes | None,
    died_ms: bytes | None,
    entry: bytes | None,
    owner: bytes | None,
    idle_ms: int | None,
    paused: bytes | None,
    awaited_ms: bytes | None,
    held: bytes | None,
) -> Stored:
    record = read_record(raw) if vault is None else vault.read_record(key, raw)
    attempts, last_failure = read_attempts(failure)
    if vault is not None:
        last_failure = vault.open_failure(key, last_failure)
    expires_ms = None if record is UNREADABLE else record.due
    if due_ms is not None:
        state, expires_ms = "deferred" if attempts else "scheduled", score_ms(due_ms)
    elif died_ms is not None:
        state, expires_ms = "dead", None
    elif paused is not None:
        state, expires_ms = "paused", None
    elif awaited_ms is not None:
        state, expires_ms = "awaiting", score_ms(awaited_ms)
    elif held is not None:
        state, expires_ms = "held", None
    elif entry is None:
        state, expires_ms = "lost", None
    elif owner is None:
        state = "queued"
    elif owner == WAITING.encode():
        state, expires_ms = "waiting", now_ms + max(0, window_ms - (idle_ms or 0))
    else:
        state = "in delivery"
    died = score_ms(died_ms) if died_ms is not None and state == "dead" else None
    mark = read_mark(failure)
    entry_id = entry_of_mark(mark) or (entry.decode(errors="replace") if entry else None)
    stored = Stored(key, raw, record, attempts, last_failure, state, expires_ms, died, entry_id, mark)
    stored.is_told_to_run = is_told_to_run(failure)
    if state == "in delivery" and owner is not None:
        stored.owner = owner.decode(errors="replace")
    stored.is_in_turn = state == "held" and held is not None and held.startswith(b"-")
    if state == "paused" and paused is not None and paused.startswith(b"-"):
        stored.left_ms = score_ms(paused[1:]) or 0
    return stored
