"""What is kept of a task for a while after its end."""

import msgspec

from redis_scheduler.task.record import Record
from redis_scheduler.task.repeat import Progress


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a task ended (`state`) and when, in Redis' ms; after how many attempts, and with which status.

    `due`: the intended time, in Redis' ms; of a series that of its last occurrence, or of the next one, if it was
    cancelled. `elapsed_ms`: how long the last attempt took. `progress`: what a series had done. `started`: the key of
    the task that this end started.
    """

    state: str
    attempts: int
    due: int
    elapsed_ms: int = 0
    status: int | None = None
    type: str | None = None
    ended: int = 0
    progress: Progress | None = None
    started: str = ""

    @property
    def late_ms(self) -> int:
        """How long after the intended time the last attempt began, or the task expired without one."""
        return max(0, self.ended - self.elapsed_ms - self.due)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Summary).decode


def summary_tail(
    state: str, record: Record, attempts: int, elapsed_ms: int = 0, status: int | None = None, started: str = ""
) -> bytes:
    """Return a summary without the time of the end, which the script puts in front: it knows Redis' clock."""
    return b"," + _encode(Summary(state, attempts, record.due, elapsed_ms, status, record.type, started=started))[1:]


def cancelled_tail(record: Record, attempts: int) -> bytes:
    """Return the summary of a task, or a series, that is cancelled, without the time of that."""
    progress = record.repetition if isinstance(record.repetition, Progress) else None
    return b"," + _encode(Summary("cancelled", attempts, record.due, type=record.type, progress=progress))[1:]


def ended_tail(record: Record, progress: Progress, due_ms: int) -> bytes:
    """Return the summary of a series whose last time was `due_ms`, without the time of its end."""
    return b"," + _encode(Summary("ended", 0, due_ms, type=record.type, progress=progress))[1:]


def read_summary(kept: bytes) -> Summary | None:
    """Return a summary from what is kept; None if other hands wrote it."""
    try:
        return _decode(kept)
    except ValueError:
        return None
