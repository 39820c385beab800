"""The walk of an audit: through all keys, in bounded steps, each of which brings suspects for the script to look at."""

from collections.abc import AsyncIterator, Sequence
from itertools import starmap
from typing import Any, NamedTuple

from redis_scheduler.errors import StoreRefused
from redis_scheduler.store.answer_shape import SCANNED, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.cursor import behind
from redis_scheduler.store.keys import GROUP, text_of
from redis_scheduler.store.ledger import BESIDE, ENDED, ENTERED
from redis_scheduler.store.script import Script
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing, listing_of
from redis_scheduler.task.record import SEAL, UNREADABLE, Record, read_record

LOOK_LIMIT = 100
"""Suspects of one call: 0.3 ms of Redis, or 1 to 2 ms if it repairs all of them."""

STEP_BYTES = 1_048_576
"""One step of the walk looks through about so much: a millisecond of Redis."""

HEAD_BYTES = 65_536
"""A record without its data is read up to here: more than the longest webhook needs. A longer one cannot be read."""

ANY_BYTES = 2**53
"""Room for a record of whatever size."""

_SUM = b".bytes"
"""Where the sum of what a token has waiting stands."""

_TEXT = of(bytes | None)


def _rows(answer: Any) -> list[list[Any]]:
    return [[of(bytes)(entry_id), *rest] for entry_id, *rest in answer]


_HEADS = Script("heads")


class Suspect(NamedTuple):
    """One thing that the script looks at: see its header."""

    what: str
    subject: bytes | str
    due_ms: int | str = ""
    listed: Listing = None
    head: bytes = b""


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


class _RecordHead(NamedTuple):
    """The part of a task's record before its data: None if there is no record, or no room for it."""

    key: bytes
    text: bytes | None
    size_bytes: int

    @property
    def beginning(self) -> bytes:
        """How the record begins: with all of the head."""
        return (self.text or b"")[:-1]

    @property
    def is_unread(self) -> bool:
        """Whether there is a record, but there was no room for it."""
        return self.text is None and self.size_bytes > 0


def _heads_read(answer: Any) -> tuple[bytes, list[_RecordHead]]:
    next_cursor, *columns = answer
    rows = list(zip(columns[::3], columns[1::3], columns[2::3], strict=True))
    return of(bytes)(next_cursor), list(starmap(_RecordHead, of(list[tuple[bytes, bytes | None, int]])(rows)))


class Walk:
    """One walk through all keys. `has_all_series`: whether the index of series is to have each of them. With `opens` it
    opens sealed records of which nothing else tells whether they are series; `has_unopened`: it could not."""

    def __init__(self, client: RedisClient, has_all_series: bool = True, opens: bool = False) -> None:
        self._client = client
        self._keys = client.keys
        self._records = _Batch()
        self._has_all_series = has_all_series
        self._opens = opens
        self.has_unopened = False

    async def suspects(self) -> AsyncIterator[list[Suspect]]:
        """Yield all that the walk meets, in steps. It meets all that is there throughout, perhaps more than once."""
        yield [Suspect("counter", name) for name in (*ENTERED, *BESIDE, *ENDED)]
        async for heads in self.all_heads():
            met = [await self._read(head) for head in heads]
            if self._opens:
                met = [(head, await self._opened(head, record)) for head, record in met]
            yield [suspect_of(head, record, self._has_all_series) for head, record in met if record is not None]
        for command, place in (("HSCAN", self._keys.idempotency), ("ZSCAN", self._keys.idempotency_ends)):
            async for pairs in self._scan(command, place, _Batch()):
                yield [Suspect("idempotency", one) for one in pairs[::2]]
        for command, place in (
            *(("HSCAN", self._keys.entries), ("ZSCAN", self._keys.due)),
            *(
                ("ZSCAN", self._keys.paused),
                ("ZSCAN", self._keys.awaiting),
                ("ZSCAN", self._keys.held),
                ("ZSCAN", self._keys.dead),
                ("HSCAN", self._keys.failures),
            ),
        ):
            async for pairs in self._scan(command, place, _Batch()):
                yield [Suspect("member", key) for key in pairs[::2]]
        async for ids in self._ids("XRANGE", self._keys.queue):
            yield [Suspect("entry", entry_id) for entry_id in ids]
        async for ids in self._ids("XPENDING", self._keys.queue, GROUP):
            yield [Suspect("pending", entry_id) for entry_id in ids]
        async for names in self._scan("SSCAN", self._keys.types, _Batch()):
            async for suspects in self._indexed([text_of(name) for name in names]):
                yield suspects

    async def all_heads(self, most: int = HEAD_BYTES) -> AsyncIterator[list[_RecordHead]]:
        """Yield the records of all tasks without their data, up to `most` bytes of each, in steps. A task that is there
        throughout is met, perhaps more than once."""
        cursor: bytes | str = "0"
        while cursor != b"0":
            cursor, heads = await self.heads((), 0, cursor, self._records.limit, most)
            yield heads

    async def failures(self) -> AsyncIterator[dict[bytes, bytes]]:
        """Yield what is kept of failed attempts, by task, in steps. What is there throughout is met."""
        async for pairs in self._scan("HSCAN", self._keys.failures, _Batch()):
            yield dict(zip(pairs[::2], pairs[1::2], strict=True))

    async def _scan(self, command: str, name: str, batch: _Batch) -> AsyncIterator[list[bytes]]:
        cursor: bytes | None = None
        while cursor != b"0":
            cursor, answer = await self._client.command(
                command, name, cursor or "0", "COUNT", batch.limit, read=SCANNED
            )
            batch.note(len(answer) // 2, sum(map(len, answer)))
            yield answer

    async def heads(
        self,
        task_keys: Sequence[bytes],
        room: int,
        cursor: bytes | str = "",
        count: int | str = "",
        most: int = HEAD_BYTES,
    ) -> tuple[bytes, list[_RecordHead]]:
        """Read records without their data, up to `most` bytes of each: of the named tasks, up to `room` bytes in all,
        and of the next ones of a scan."""
        next_cursor, heads = await self._client.run(
            _HEADS.bind(self._client.keys, most=most, room=room, cursor=cursor, count=count, task_keys=task_keys),
            _heads_read,
        )
        self._records.note(len(heads), sum(head.size_bytes for head in heads))
        return next_cursor, heads

    async def record(self, head: _RecordHead) -> Record | None:
        """Return a task's record, or None. A record for which there was no room is read alone, and so is a sealed one,
        whose head tells its type, labels and token only."""
        head, record = await self._read(head)
        return await self._opened(head, record)

    async def _opened(self, head: _RecordHead, record: Record | None) -> Record | None:
        vault = self._keys.vault
        if record is None or record.unknown != SEAL:
            return record
        self.has_unopened = self.has_unopened or vault is None
        if vault is None:
            return record
        whole = await self._client.command("HGET", self._keys.tasks, head.key, read=_TEXT)
        found = vault.read_record(text_of(head.key), whole) if whole else None
        self.has_unopened = self.has_unopened or (found is not None and found.unknown == SEAL)
        return found

    async def _read(self, head: _RecordHead) -> tuple[_RecordHead, Record | None]:
        """Return a record, or None, with its head."""
        if head.is_unread:
            _, [head] = await self.heads([head.key], ANY_BYTES)
        if head.text is None:
            return head, None
        record = read_record(head.text)
        # In a newer version's record a member named `data` may stand elsewhere; then the head was cut off there.
        if record is UNREADABLE and (
            whole := await self._client.command("HGET", self._keys.tasks, head.key, read=_TEXT)
        ):
            record = read_record(whole)
        return head, record

    async def _ids(self, command: str, *place: str) -> AsyncIterator[list[bytes]]:
        start = "-"
        count = ("COUNT", LOOK_LIMIT) if command == "XRANGE" else (LOOK_LIMIT,)
        while start and (rows := await self._client.command(command, *place, start, "+", *count, read=_rows)):
            yield [row[0] for row in rows]
            start = behind(rows[-1][0].decode())

    async def records(self, task_keys: Sequence[bytes]) -> list[tuple[bytes, Record | None]]:
        """Read records without their data; None for a task that has none."""
        _, heads = await self.heads(task_keys, STEP_BYTES)
        return [(head.key, (await self._read(head))[1]) for head in heads]

    async def _indexed(self, names: Sequence[str]) -> AsyncIterator[list[Suspect]]:
        """Yield the names of indexes and what stands in them. There may be as many labels as tasks, so members of
        several are looked at together."""
        yield [Suspect("type", name, listed=name) for name in names]
        met: list[tuple[bytes, str]] = []
        for name in names:
            command = "HSCAN" if name.startswith(TOKEN_MARK) else "ZSCAN"
            try:
                async for pairs in self._scan(command, self._keys.type_index(name), _Batch()):
                    met += [(key, name) for key in pairs[::2] if key != _SUM]
                    while len(met) >= self._records.limit:
                        part, met = met[: self._records.limit], met[self._records.limit :]
                        yield await self._listed_suspects(part)
            except StoreRefused as error:
                # A foreign key: the look at the type tells of it.
                if "WRONGTYPE" not in str(error):
                    raise
        if met:
            yield await self._listed_suspects(met)
        for name in names:
            if name.startswith(TOKEN_MARK) and (suspect := await self._sum(name)) is not None:
                yield [suspect]

    async def _sum(self, name: str) -> Suspect | None:
        """Return the sum of what a token has waiting; None if that is nothing."""
        owned = self._keys.type_index(name)
        seen, sizes = await self._client.optional("HGET", owned, _SUM, read=_TEXT), dict[bytes, int]()
        try:
            async for pairs in self._scan("HSCAN", owned, _Batch()):
                sizes.update((key, int(size)) for key, size in zip(pairs[::2], pairs[1::2], strict=True) if key != _SUM)
        except (StoreRefused, ValueError):
            return None  # a foreign key, or what is no number: the looks at its tasks tell of it
        return Suspect("sum", name, str(sum(sizes.values())), name, seen or b"") if sizes else None

    async def _listed_suspects(self, members: Sequence[tuple[bytes, str]]) -> list[Suspect]:
        _, heads = await self.heads([key for key, _ in members], STEP_BYTES)
        return [_listed(*await self._read(head), name) for head, (_, name) in zip(heads, members, strict=True)]


def suspect_of(head: _RecordHead, record: Record, has_all_series: bool) -> Suspect:
    """Return what the script is to look at of a task that has this record. `has_all_series`: see Walk."""
    if record is UNREADABLE:
        return Suspect("unreadable", head.key)
    listed = listing_of(record.type, record.options, record.token)
    if not has_all_series:
        names = (listed,) if isinstance(listed, str) else listed or ()
        listed = tuple(name for name in names if name != SERIES) or None
    return Suspect("task", head.key, record.due, listed, b"" if listed is None else head.beginning)


def _listed(head: _RecordHead, record: Record | None, name: str) -> Suspect:
    # Where its names are not known the script only asks whether the task is there. What a version before the index of
    # series has sealed does not tell whether it is one.
    if record is None or record is UNREADABLE or (name == SERIES and record.unknown == SEAL):
        return Suspect("listed", head.key, listed=name)
    listed = listing_of(record.type, record.options, record.token)
    if name == listed or (isinstance(listed, tuple) and name in listed):
        return Suspect("listed", head.key, listed=name)
    return Suspect("foreign", head.key, listed=name, head=head.beginning)
