"""The audit: whether every task stands in exactly one place, nothing is left of tasks that are gone, and the ledger
balances.

It walks through all keys in bounded steps, and a script looks at what it meets, 100 suspects at one moment. So it
examines a live service, and never takes a task that moves for a fault. process/doctor.py calls it, and each test on
Redis ends with it.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, NamedTuple

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.answer_shape import NUMBER, TEXTS, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.keys import GROUP, Keys, text_of
from redis_scheduler.store.ledger import ENDED, ENTERED
from redis_scheduler.store.script import Argument, Script
from redis_scheduler.store.views import behind
from redis_scheduler.task.record import UNREADABLE, Record, read_record

LOOK_LIMIT = 100
"""Suspects of one call: 0.3 ms of Redis, or 1 to 2 ms if it repairs all of them."""

SAMPLE_LIMIT = 10
"""A start looks at so many in each place."""

SAMPLE_BYTES = 262_144
"""A start reads so much of records in all: a quarter of a millisecond of Redis."""

STEP_BYTES = 1_048_576
"""One step of the walk looks through about so much: a millisecond of Redis."""

HEAD_BYTES = 65_536
"""A record without its data is read up to here: more than the longest webhook needs. A longer one cannot be read."""

ANY_BYTES = 2**53
"""Room for a record of whatever size."""

_TEXT = of(bytes | None)
_ENTRIES = of(list[tuple[bytes, Any]])
_SCANNED = of(tuple[bytes, list[bytes]])


def _rows(answer: Any) -> list[list[Any]]:
    return [[of(bytes)(entry_id), *rest] for entry_id, *rest in answer]


_MARK = re.compile(rb"[0-9a-f]+:[0-9a-f]+ ")

_AUDIT, _HEADS = Script("audit"), Script("heads")
_BALANCE = Script("balance", {"sign": "row[0]", "name": "row[1]"})


class _Fault(NamedTuple):
    """A kind of fault: what it is found at, what is wrong and what that means, and what a repair does (empty:
    nothing)."""

    subject: str
    wrong: str
    repair: str


FAULTS = {
    "nowhere": _Fault(
        "task", "has a record but stands nowhere: it would never be delivered", "put back into `due` at its due time"
    ),
    "no entry": _Fault(
        "task",
        "is queued as entry {where}, which is not its own or is gone: it would never be delivered",
        "queued anew",
    ),
    "several places": _Fault(
        "task",
        "stands in {where} at once: it would be delivered more than once, or after its end",
        "left in the most imminent of them",
    ),
    "no record": _Fault("task", "stands in {where} without a record: nobody knows its webhook any more", "removed"),
    "stray failure": _Fault("task", "has a failure but no record: a leftover of a task that is gone", "removed"),
    "stray entry": _Fault("entry", "is in the queue but not that of task {where}: nobody would deliver it", "removed"),
    "forgotten": _Fault(
        "entry",
        "is that of task {where}, but the group is past it and it is pending for nobody: it would never be delivered",
        "queued anew",
    ),
    "stray pending": _Fault(
        "entry", "is pending for {where} but not in the queue: each sweep would look at it", "acknowledged"
    ),
    "not listed": _Fault(
        "task", "is missing in the index of its type {where}: no list by type shows it", "put into the index"
    ),
    "wrongly listed": _Fault(
        "task", "is in the index of type {where}, but is none of its tasks still to be delivered", "taken out of it"
    ),
    "empty type": _Fault("type", "is named but has no task", "removed"),
    "no number": _Fault(
        "counter", "is not a number: what should be counted fails", "set to 0, and the ledger closed by what is `lost`"
    ),
    "foreign key": _Fault(
        "key", "holds what this service did not write: a foreign program has one of its names; move one of the two", ""
    ),
    "unreadable record": _Fault(
        "task",
        "has a record that cannot be read: it cannot be delivered, nor repaired; delete it (DELETE /schedule/<key>, or "
        "HDEL {tasks} <key>) and repair again",
        "",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault: its kind (of FAULTS), the key, entry id or name it is found at, and one line that explains it."""

    kind: str
    subject: str
    text: str


class _Suspect(NamedTuple):
    """One thing that the script looks at: see its header."""

    what: str
    subject: bytes | str
    due_ms: int | str = ""
    type: str | None = None


class _Batch:
    """How many to read at once: more of small ones, so that Redis looks through about STEP_BYTES."""

    def __init__(self) -> None:
        self.limit = 1
        self._count = self._bytes = 0

    def note(self, count: int, size_bytes: int) -> None:
        """Learn from how many came back, and their size."""
        self._count += count
        self._bytes += size_bytes
        fitting = STEP_BYTES * (self._count + 1) // (self._bytes + 1)
        self.limit = max(1, min(2 * self.limit, LOOK_LIMIT, fitting))


async def audit(client: RedisClient, repairs: bool = False) -> AsyncIterator[Finding]:
    """Yield each fault once, repaired if `repairs`. It looks at everything that exists during the whole
    audit.

    Without `repairs` it writes nothing, but makes the group if that is missing. No call holds Redis for more than about
    a millisecond, unless records are larger than STEP_BYTES, or brings more than heads of records. If StoreFull or
    StoreUnavailable ends it, the next audit finds what is left.
    """
    walk = _Walk(client)
    found = set()
    async for suspects in walk.suspects():
        for finding in await _faults(client, suspects, repairs):
            if finding not in found:
                found.add(finding)
                yield finding
    if await holds_no_mark(client):
        yield _finding(client.keys, "foreign key", client.keys.token_mark, "", repairs)


async def sample(client: RedisClient) -> list[Finding]:
    """Look at a few of what stands in each place, as a start does, and change nothing; return the faults.

    It takes about a millisecond of Redis: records are read up to SAMPLE_BYTES in all; of larger ones it looks only at
    the place. It leaves out what the user in REDIS_URL may not ask.
    """

    keys = client.keys

    async def some(*command: Argument, read: Callable[[Any], Any] = TEXTS) -> list[Any]:
        return await client.optional(*command, read=read) or []

    suspects = [_Suspect("counter", name) for name in (*ENTERED, "failed", *ENDED)]
    walk = _Walk(client)
    _, heads = await walk.heads(await some("HRANDFIELD", keys.tasks, SAMPLE_LIMIT), SAMPLE_BYTES)
    for head in heads:
        if head.is_unread:
            suspects.append(_Suspect("task", head.key))
        elif (record := await walk.record(head)) is not None:
            # Without its type: only the doctor needs the command that asks for it.
            suspects.append(_task(head.key, record)._replace(type=None))
    for place in (keys.entries, keys.failures):
        suspects += [_Suspect("member", key) for key in await some("HRANDFIELD", place, SAMPLE_LIMIT)]
    for place in (keys.due, keys.dead):
        for first, last in ((0, SAMPLE_LIMIT - 1), (-SAMPLE_LIMIT, -1)):
            suspects += [_Suspect("member", key) for key in await some("ZRANGE", place, first, last)]
    entries = await some("XRANGE", keys.queue, "-", "+", "COUNT", SAMPLE_LIMIT, read=_ENTRIES)
    suspects += [_Suspect("entry", entry_id) for entry_id, _ in entries]
    types = [text_of(name) for name in await some("SRANDMEMBER", keys.types, SAMPLE_LIMIT)]
    suspects += [_Suspect("type", name, type=name) for name in types]
    found = await _faults(client, suspects, repairs=False)
    if await holds_no_mark(client):
        found.append(_finding(keys, "foreign key", keys.token_mark, "", repairs=False))
    return list(dict.fromkeys(found))


async def holds_no_mark(client: RedisClient) -> bool:
    """Whether something else stands in the place of the mark that a start leaves."""
    found = await client.optional("GET", client.keys.token_mark, read=_TEXT)
    return found is not None and _MARK.match(found) is None


async def _faults(client: RedisClient, suspects: Sequence[_Suspect], repairs: bool) -> list[Finding]:
    found = []
    for start in range(0, len(suspects), LOOK_LIMIT):
        part = suspects[start : start + LOOK_LIMIT]
        for number, kind, where in await _look(client, part, repairs):
            subject = client.keys.type_index(where) if kind == "foreign key" else part[number - 1].subject
            found.append(_finding(client.keys, kind, subject, where, repairs))
    return found


async def balance(client: RedisClient) -> int:
    """Close the ledger after an audit that left no fault; return how many were counted as lost (below zero: found
    again)."""
    rows = [*((1, name) for name in ENTERED), *((-1, name) for name in ENDED)]
    missing: int = await client.run(_BALANCE.bind(client.keys, rows), NUMBER)
    return missing


def _look(client: RedisClient, suspects: Sequence[_Suspect], repairs: bool) -> Awaitable[list[tuple[int, str, str]]]:
    return client.run(_AUDIT.bind(client.keys, suspects, group=GROUP, repair=int(repairs)), _faults_found)


def _faults_found(answer: Any) -> list[tuple[int, str, str]]:
    rows = zip(answer[::3], answer[1::3], answer[2::3], strict=True)
    return [(NUMBER(number), kind.decode(), where.decode(errors="replace")) for number, kind, where in rows]


def _finding(keys: Keys, kind: str, subject: bytes | str, where: str, repairs: bool) -> Finding:
    fault = FAULTS[kind]
    name = (subject.encode(errors="surrogateescape") if isinstance(subject, str) else subject).decode(errors="replace")
    repair = fault.repair and f"; {'repaired' if repairs else 'with --repair'}: {fault.repair}"
    # `where` is put in last: it may be foreign text.
    wrong = fault.wrong.replace("{tasks}", keys.tasks).replace("{where}", where)
    return Finding(kind, name, f"{fault.subject} {name} {wrong}{repair}")


class _RecordHead(NamedTuple):
    """The part of a task's record before its data: None if there is no record, or no room for it."""

    key: bytes
    text: bytes | None
    size_bytes: int

    @property
    def is_unread(self) -> bool:
        """Whether there is a record, but there was no room for it."""
        return self.text is None and self.size_bytes > 0


def _heads_read(answer: Any) -> tuple[bytes, list[_RecordHead]]:
    next_cursor, *columns = answer
    rows = list(zip(columns[::3], columns[1::3], columns[2::3], strict=True))
    return of(bytes)(next_cursor), list(starmap(_RecordHead, of(list[tuple[bytes, bytes | None, int]])(rows)))


class _Walk:
    """One walk through all keys."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._keys = client.keys
        self._records = _Batch()

    async def suspects(self) -> AsyncIterator[list[_Suspect]]:
        """Yield all that the walk meets, in steps. It meets all that is there throughout, perhaps more than once."""
        yield [_Suspect("counter", name) for name in (*ENTERED, "failed", *ENDED)]
        cursor: bytes | str = "0"
        while True:
            cursor, heads = await self.heads((), 0, cursor, self._records.limit)
            records = [(head.key, await self.record(head)) for head in heads]
            yield [_task(key, record) for key, record in records if record is not None]
            if cursor == b"0":
                break
        for command, place in (
            *(("HSCAN", self._keys.entries), ("ZSCAN", self._keys.due)),
            *(("ZSCAN", self._keys.dead), ("HSCAN", self._keys.failures)),
        ):
            async for pairs in self._scan(command, place, _Batch()):
                yield [_Suspect("member", key) for key in pairs[::2]]
        async for ids in self._ids("XRANGE", self._keys.queue):
            yield [_Suspect("entry", entry_id) for entry_id in ids]
        async for ids in self._ids("XPENDING", self._keys.queue, GROUP):
            yield [_Suspect("pending", entry_id) for entry_id in ids]
        async for names in self._scan("SSCAN", self._keys.types, _Batch()):
            for name in names:
                async for suspects in self._of_type(text_of(name)):
                    yield suspects

    async def _scan(self, command: str, name: str, batch: _Batch) -> AsyncIterator[list[bytes]]:
        cursor: bytes | None = None
        while cursor != b"0":
            cursor, answer = await self._client.command(
                command, name, cursor or "0", "COUNT", batch.limit, read=_SCANNED
            )
            batch.note(len(answer) // 2, sum(map(len, answer)))
            yield answer

    async def heads(
        self, task_keys: Sequence[bytes], room: int, cursor: bytes | str = "", count: int | str = ""
    ) -> tuple[bytes, list[_RecordHead]]:
        """Read records without their data: of the named tasks, up to `room` bytes in all, and of the next ones of a
        scan."""
        next_cursor, heads = await self._client.run(
            _HEADS.bind(self._client.keys, most=HEAD_BYTES, room=room, cursor=cursor, count=count, task_keys=task_keys),
            _heads_read,
        )
        self._records.note(len(heads), sum(head.size_bytes for head in heads))
        return next_cursor, heads

    async def record(self, head: _RecordHead) -> Record | None:
        """Return a task's record, or None. A record for which there was no room is read alone."""
        if head.is_unread:
            _, [head] = await self.heads([head.key], ANY_BYTES)
        if head.text is None:
            return None
        record = read_record(head.text)
        # In a newer version's record a member named `data` may stand elsewhere; then the head was cut off there.
        if record is UNREADABLE and (
            whole := await self._client.command("HGET", self._keys.tasks, head.key, read=_TEXT)
        ):
            record = read_record(whole)
        return record

    async def _ids(self, command: str, *place: str) -> AsyncIterator[list[bytes]]:
        start = "-"
        count = ("COUNT", LOOK_LIMIT) if command == "XRANGE" else (LOOK_LIMIT,)
        while start and (rows := await self._client.command(command, *place, start, "+", *count, read=_rows)):
            yield [row[0] for row in rows]
            start = behind(rows[-1][0].decode())

    async def records(self, task_keys: Sequence[bytes]) -> list[tuple[bytes, Record | None]]:
        """Read records without their data; None for a task that has none."""
        _, heads = await self.heads(task_keys, STEP_BYTES)
        return [(head.key, await self.record(head)) for head in heads]

    async def _of_type(self, name: str) -> AsyncIterator[list[_Suspect]]:
        yield [_Suspect("type", name, type=name)]
        try:
            async for pairs in self._scan("ZSCAN", self._keys.type_index(name), _Batch()):
                members = pairs[::2]
                while members:
                    part, members = members[: self._records.limit], members[self._records.limit :]
                    yield [_listed(key, record, name) for key, record in await self.records(part)]
        except StoreRefused as error:
            # A foreign key: the look at the type tells of it.
            if "WRONGTYPE" not in str(error):
                raise


def _task(key: bytes, record: Record) -> _Suspect:
    if record is UNREADABLE:
        return _Suspect("unreadable", key)
    return _Suspect("task", key, record.due, record.type)


def _listed(key: bytes, record: Record | None, name: str) -> _Suspect:
    # A type never changes. Where it is not known the script only asks whether the task is there.
    is_foreign = record is not None and record is not UNREADABLE and record.type != name
    return _Suspect("foreign" if is_foreign else "listed", key, type=name)
