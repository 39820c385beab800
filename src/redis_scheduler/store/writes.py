"""What the API writes to Redis: each verb one method and one Lua script of the same name.

Each writer numbers its batches of a verb, so that a resend is not applied twice. So await one call of each verb at a
time.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.answer_shape import TEXTS, each_of, of, time_ms
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, WAITING, text_of
from redis_scheduler.store.new_task import AS_ROW, NewTask
from redis_scheduler.store.script import Call, Script
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import (
    AcknowledgeAnswer,
    Acknowledgement,
    CancelAnswer,
    Cancellation,
    Change,
    DiscardAnswer,
    OnceAnswer,
    OnceTask,
    Operation,
    Put,
    PutAnswer,
    ReplayAnswer,
    ShiftStep,
    Standing,
    Step,
    StoredTask,
    UpdateAnswer,
    read_operation,
)
from redis_scheduler.task.due import due_after
from redis_scheduler.task.kept import NO_RESULTS, Kept
from redis_scheduler.task.timing import DEFAULT, LAST_MS, Timing

T = TypeVar("T")
M = TypeVar("M", bound=Enum)


SCHEDULE = Script("schedule", AS_ROW)
SCHEDULE_ONCE = Script(
    "schedule_once",
    {
        "key": "row.task.key",
        "delay_ms": "row.task.ttl_ms",
        "tail": "row.task.tail",
        "type_number": "row.task.listed",
    },
)
_CANCELLED_ROW = {
    "key": "row[0]",
    "type_number": "row[1]",
    "expected": "row[2] if len(row) > 2 else b''",
    "result": "row[3] if len(row) > 3 else b''",
}
CANCEL = Script("cancel", _CANCELLED_ROW)
UPDATE = Script(
    "update",
    {"delay_ms": "'' if row.ttl_ms is None else row.ttl_ms", "has_other_limit": "1 if row.has_other_limit else 0"},
)
REPLAY = Script("replay", {"delay_ms": "row.ttl_ms or 0"})
PUT = Script(
    "put",
    {
        "key": "row.task.key",
        "tail": "row.task.tail",
        "delay_ms": "row.task.ttl_ms",
        "type_number": "row.task.listed",
        "may_revive": "1 if row.may_revive else 0",
    },
)
PURGE = Script("purge")
ACKNOWLEDGE = Script("acknowledge")
SHIFT = Script("shift", {"key": "row[0].key", "expected": "row[1]", "type_number": "row[0].listed"})
DISCARD, PAUSE, RESUME = (
    Script(verb, {"key": "row[0]", "expected": "row[1]"}) for verb in ("discard", "pause", "resume")
)
RUN = Script("run", {"key": "row[0]", "expected": "row[1]", "delay_ms": "row[2]", "is_series": "row[3]"})


COUNTED = {CANCEL: "CD", PAUSE: "SFQWHL", RESUME: "P", RUN: "SFQWPL", REPLAY: "U", DISCARD: "C"}
"""The verbs that may be steps of operations, and of which answers a task counts as touched."""

PURGED_TYPES = 1_000
"""Indexes that a purge deletes at once: about two milliseconds of Redis."""

OPERATION_S = 86_400
"""How far an operation is stays known for so long after its last step."""

UNNAMED_S = 600
"""The same where one step was all, and only an answer that was lost would have named it."""


class Writes:
    """What the API writes. Every method raises StoreUnavailable, after which nobody knows whether it was applied, or
    StoreFull.
    """

    def __init__(self, client: RedisClient, name: str, timing: Timing = DEFAULT, kept: Kept = NO_RESULTS) -> None:
        self.client = client
        self._timing = timing
        self.name = name
        """The writer's id: new for every process, so that it is never taken for one before."""
        self._batch_numbers: dict[str, int] = {}
        place = {"group": GROUP, "waiting": WAITING}
        window = {"window_ms": timing.window_ms}
        results = {"result_ttl_ms": kept.result_ttl_ms, "result_bytes": kept.result_bytes}
        self._more: dict[Script, dict[str, Any]] = {CANCEL: place | results, PAUSE: place | window, RUN: place | window}
        self._more |= {RESUME: place, REPLAY: {}, DISCARD: {}}

    def _numbered(self, script: Script) -> dict[str, Any]:
        """Return the arguments by which a script knows a resend: whose batch of this verb it is, and which."""
        verb = script.name
        number = self._batch_numbers[verb] = self._batch_numbers.get(verb, 0) + 1
        keys, timing = self.client.keys, self._timing
        return {"writer": keys.writer(self.name, verb), "batch": number, "expiry_s": timing.writer_expiry_s}

    @property
    def _fitting(self) -> dict[str, Any]:
        """Return the arguments by which a script knows whether what is due now fits into the queue."""
        return {"group": GROUP, "queued_most": self._timing.queued_most}

    async def _write(self, call: Call, read: Callable[[bytes], T]) -> T:
        answer = await self.client.run(call, lambda answer: None if answer == b"stale" else read(answer))
        if answer is None:
            raise StoreUnavailable("This batch came to Redis after a later one, and was not applied")
        return answer

    async def schedule(self, tasks: Sequence[NewTask]) -> list[int]:
        """Schedule new tasks; return when each is due, in Redis' ms."""
        now_ms = await self._write(
            SCHEDULE.bind(self.client.keys, tasks, **self._fitting, **self._numbered(SCHEDULE)), time_ms
        )
        return [due_after(now_ms, task.ttl_ms) for task in tasks]

    async def schedule_once(self, tasks: Sequence[OnceTask], kept_ms: int, most: int) -> list[StoredTask | OnceAnswer]:
        """Schedule new tasks, each once for its id; return what is stored for each id. Ids are kept for `kept_ms`,
        `most` of them."""
        call = SCHEDULE_ONCE.bind(self.client.keys, tasks, kept_ms=kept_ms, most=most, **self._fitting)
        return await self.client.run(call, lambda answer: _stored_of(answer, len(tasks)))

    async def cancel(self, tasks: Sequence[Cancellation]) -> list[CancelAnswer]:
        """Take tasks out; return what was found of each."""
        return await self._write(self._bound(CANCEL, tasks), lambda answer: each_of(CancelAnswer, answer, len(tasks)))

    async def update(self, changes: Sequence[Change]) -> tuple[int, list[UpdateAnswer]]:
        """Replace records; return Redis' ms, and what was done with each."""
        return await self._write(
            UPDATE.bind(
                self.client.keys,
                changes,
                group=GROUP,
                waiting=WAITING,
                window_ms=self._timing.window_ms,
                **self._numbered(UPDATE),
            ),
            lambda answer: _time_and_each(UpdateAnswer, answer, len(changes)),
        )

    async def replay(self, changes: Sequence[Change]) -> tuple[int, list[ReplayAnswer]]:
        """Bring dead letters back with a new delay; return Redis' ms, and what was done with each."""
        return await self._write(
            self._bound(REPLAY, changes),
            lambda answer: _time_and_each(ReplayAnswer, answer, len(changes)),
        )

    async def discard(self, task_keys: Sequence[str], expected: Sequence[bytes] = ()) -> list[DiscardAnswer]:
        """Delete dead letters; return what was found of each. `expected`, also below: the record that each must have;
        empty: any."""
        rows = _rows(task_keys, expected)
        return await self._write(self._bound(DISCARD, rows), lambda answer: each_of(DiscardAnswer, answer, len(rows)))

    async def pause(self, task_keys: Sequence[str], expected: Sequence[bytes] = ()) -> list[Standing]:
        """Pause tasks, but those in delivery and the dead; return where each stood."""
        return await self._move(PAUSE, _rows(task_keys, expected))

    async def resume(self, task_keys: Sequence[str], expected: Sequence[bytes] = ()) -> list[Standing]:
        """Let paused tasks come again; return where each stood."""
        return await self._move(RESUME, _rows(task_keys, expected))

    async def run(
        self,
        task_keys: Sequence[str],
        delays_ms: Sequence[int] = (),
        expected: Sequence[bytes] = (),
        are_series: Sequence[int] = (),
    ) -> list[Standing]:
        """Make tasks due now, or after a delay (below zero: task/due.py) if they are not due before, but those in
        delivery and the dead; return where each stood. `are_series`: 1 for each that makes an occurrence more by that,
        and keeps its time."""
        nothing = [0] * len(task_keys)
        return await self._move(RUN, _rows(task_keys, expected, delays_ms or nothing, are_series or nothing))

    async def acknowledge(self, said: Sequence[Acknowledgement]) -> list[AcknowledgeAnswer]:
        """Note what receivers say of attempts that they took on."""
        return await self._write(
            ACKNOWLEDGE.bind(self.client.keys, said, group=GROUP, waiting=WAITING, **self._numbered(ACKNOWLEDGE)),
            lambda answer: each_of(AcknowledgeAnswer, answer, len(said)),
        )

    async def _move(self, script: Script, tasks: Sequence[tuple[Any, ...]]) -> list[Standing]:
        return await self._write(self._bound(script, tasks), lambda answer: each_of(Standing, answer, len(tasks)))

    def _bound(self, script: Script, rows: Sequence[Any]) -> Call:
        return script.bind(self.client.keys, rows, note="", **self._more[script], **self._numbered(script))

    async def put(self, puts: Sequence[Put]) -> tuple[int, list[PutAnswer]]:
        """Enter or replace tasks under own keys; return Redis' ms, and what was done with each."""
        return await self._write(
            PUT.bind(self.client.keys, puts, group=GROUP, waiting=WAITING, **self._numbered(PUT)),
            lambda answer: _time_and_each(PutAnswer, answer, len(puts)),
        )

    async def operation(self, operation_id: str) -> Operation | None:
        """Return how far an operation is; None if it is not known, or no more."""
        answer = await self.client.command("GET", self.client.keys.operation(operation_id), read=of(bytes | None))
        return None if answer is None else read_operation(answer)

    async def shift(
        self,
        operation_id: str,
        step: ShiftStep,
        tasks: Sequence[Stored],
        is_guarded: bool = False,
    ) -> Operation | None:
        """Move the due times of those tasks whose first attempt is yet to come; return how far the operation is then.
        If this is not its next step, nothing is moved. Give 256 KiB of records or so. `is_guarded`: whether only
        what still has its record is moved."""
        return await self.client.run(
            SHIFT.bind(
                self.client.keys,
                [(task, task.raw if is_guarded else b"") for task in tasks],
                operation=self.client.keys.operation(operation_id),
                step=step.number,
                looked_at=step.looked_at,
                mark=step.mark,
                cursor=step.cursor or "-",
                by_ms=step.by_ms,
                last_ms=LAST_MS,
                expiry_s=OPERATION_S,
            ),
            read_operation,
        )

    async def step(self, script: Script, rows: Sequence[Any], step: Step) -> Operation | None:
        """Do to tasks what a script of COUNTED does, as a step of an operation; return how far the operation is then.
        If this is not its next step, nothing is done. `rows`: as the script has them, 256 KiB or so."""
        keys, after = self.client.keys, step.after
        cursor = after.cursor or "-"
        call = script.bind(
            keys,
            rows,
            writer=keys.operation(step.operation_id),
            batch=after.steps,
            expiry_s=OPERATION_S if step.is_named else UNNAMED_S,
            note=f"{COUNTED[script]} {after.touched} {after.looked_at} {after.mark} {cursor}",
            **self._more[script],
        )
        found = await self.client.run(call, lambda answer: read_operation(b"%d %b" % (after.steps, of(bytes)(answer))))
        # Stale: others have gone on behind this step, or Redis has lost one before it.
        return found or await self.operation(step.operation_id)

    async def purge(self) -> int:
        """Delete every task; return how many. Retention.clean takes out what is left of them in many indexes."""
        names = await self.client.command("SRANDMEMBER", self.client.keys.types, PURGED_TYPES, read=TEXTS)
        return await self._write(
            PURGE.bind(
                self.client.keys,
                group=GROUP,
                types=[text_of(name) for name in names],
                **self._numbered(PURGE),
            ),
            _deleted,
        )


def _rows(task_keys: Sequence[str], expected: Sequence[bytes], *columns: Sequence[int]) -> list[tuple[Any, ...]]:
    return list(zip(task_keys, expected or [b""] * len(task_keys), *columns, strict=True))


def _stored_of(answer: Any, count: int) -> list[StoredTask | OnceAnswer]:
    texts = TEXTS(answer)
    if len(texts) != count:
        raise ValueError(f"Expected an answer for each of {count}")
    found: list[StoredTask | OnceAnswer] = []
    for text in texts:
        key, is_stored, due_ms = text.partition(b" ")
        found.append(StoredTask(key.decode("ascii"), time_ms(due_ms)) if is_stored else OnceAnswer(text))
    return found


def _time_and_each(kind: type[M], answer: bytes, count: int) -> tuple[int, list[M]]:
    now_ms, found = answer.split(b" ")
    return time_ms(now_ms), each_of(kind, found, count)


def _deleted(answer: bytes) -> int:
    deleted, _left = answer.split(b" ")
    return int(deleted)
