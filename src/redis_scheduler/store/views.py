"""What is read from Redis: tasks by key, pages of the list, the ledger's counts. Nothing here writes."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redis_scheduler.store.answer_shape import (
    NUMBER,
    of,
    redis_ms,
    sized,
    text_pairs,
)
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.cursor import (
    PLACES,
    Position,
    behind,
    decode_cursor,
    encode_cursor,
    from_time,
    place_of,
    positions,
)
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.ledger import Ledger, read_ledger
from redis_scheduler.store.script import Script
from redis_scheduler.store.series import are_series_listed
from redis_scheduler.store.stored import BEFORE_MOST, Stored, tasks_read
from redis_scheduler.task.label import LABEL_MARK
from redis_scheduler.task.listing import SERIES
from redis_scheduler.task.summary import Summary, read_summary
from redis_scheduler.task.timing import DEFAULT, Timing

PAGE_LIMIT = 10_000
"""Tasks in one answer, at most."""

PAGE_BYTES = 4 * 1_048_576
"""The bytes of a page, unless others are asked for."""

LOOK_S = 0.8
"""For so long a page with filters looks for tasks, unless it is asked to look for longer or shorter."""

INFO_BYTES = 200
"""An answer says no more of a task besides its record and its last failure."""

CHUNK_LIMIT = 200
"""Tasks of one call: about a millisecond of Redis."""

READ_BYTES = 1_048_576
"""One call of the script reads about so much: a millisecond of Redis."""

LARGE_BYTES = 65_536
"""A larger record is read alone, once there is room: so much waits in a connection whose client does not read."""

RECORD_BYTES = 2**31
"""More than a record can have: Redis takes no value of over 512 MB unless it is told to."""


_READ, _PAGE, _RECALL = map(Script, ("read", "page", "recall"))


class Reading(NamedTuple):
    """How a page is read."""

    look_s: float = LOOK_S
    """With filters it looks for tasks for so long, and then says where to go on."""
    most_bytes: int = PAGE_BYTES
    """It ends before the task that would make its answer larger than this, unless that is the first."""
    rest: Callable[[], Awaitable[None]] | None = None
    """What it waits for before it looks further."""
    take: Callable[[Stored], object] | None = None
    """Is given each task as it is read; the page has none then."""


USUAL = Reading()
"""How it is read where nothing else is asked for."""


@dataclass(slots=True)
class Page:
    """A page of the list, and the cursor of the next, None when there are no more."""

    tasks: list[Stored]
    next: str | None
    looked_at: int = 0


class Views:
    """Reads only. Every method raises StoreUnavailable when Redis does not answer."""

    def __init__(self, client: RedisClient, timing: Timing = DEFAULT) -> None:
        self.client = client
        self._window_ms = timing.window_ms

    async def now_ms(self) -> int:
        """Return Redis' clock."""
        now_ms: int = await self.client.command("TIME", read=redis_ms)
        return now_ms

    async def tasks(self, task_keys: Sequence[str]) -> list[Stored | int | None]:
        """Return the task of each key, None if there is none; of large ones the size."""
        found: list[Stored | int | None] = []
        while len(found) < len(task_keys):
            found += await self._read(task_keys[len(found) :], LARGE_BYTES)
        return found

    async def task(self, key: str) -> Stored | None:
        """Return the task of a key, however large."""
        [found] = await self.read_whole([key])
        return found

    async def count_before(self, stored: Stored) -> None:
        """Learn how many tasks are before one that is queued: those behind the last that a worker has claimed."""
        if stored.state != "queued" or _ENTRY_ID.fullmatch(stored.entry or "") is None:
            return
        queue = self.client.keys.queue
        # A group that is lost keeps nobody from looking at a task.
        pending = await self.client.optional("XPENDING", queue, GROUP, read=_SUMMARY)
        start = "-" if pending is None or pending[2] is None else f"({pending[2].decode()}"
        before = ("XRANGE", queue, start, f"({stored.entry}", "COUNT", BEFORE_MOST)
        stored.before = len(await self.client.optional(*before, read=_ENTRIES) or [])

    async def summary(self, key: str) -> Summary | None:
        """Return what is kept of a task that has ended; None if nothing is."""
        return (await self.summaries([key]))[0]

    async def summaries(self, task_keys: Sequence[str]) -> list[Summary | None]:
        """Return what is kept of each task that has ended; None where nothing is. Give 200 at most."""
        call = _RECALL.bind(self.client.keys, task_keys=task_keys)
        kept = await self.client.run(call, sized(list[bytes | None], len(task_keys)))
        return [None if one is None else read_summary(one) for one in kept]

    async def read_at(self, places: Sequence[Position], read_bytes: int) -> list[Stored | None]:
        """Return the tasks of the first places, as many as one call reads."""
        return await self.read_whole([place[2] for place in places], read_bytes)

    async def read_whole(self, task_keys: Sequence[str], read_bytes: int = READ_BYTES) -> list[Stored | None]:
        """Return the tasks of the first keys, as many as one call reads, however large they are."""
        return [found for found in await self._read(task_keys, RECORD_BYTES, read_bytes) if not isinstance(found, int)]

    async def _read(
        self, task_keys: Sequence[str], record_bytes: int, read_bytes: int = READ_BYTES
    ) -> list[Stored | int | None]:
        """Return the tasks of the first keys, as many as one call reads, at least one; of larger ones the size."""
        found = await self.client.run(
            _READ.bind(self.client.keys, group=GROUP, room=read_bytes, most=record_bytes, task_keys=task_keys),
            lambda answer: tasks_read(task_keys, record_bytes, self._window_ms, self.client.keys.vault, answer),
        )
        if shard := self.client.keys.shard:
            for stored in found:
                if isinstance(stored, Stored):
                    stored.shard = shard
        return found

    async def page(self, limit: int, cursor: str | None, filters: Filters = ANY, reading: Reading = USUAL) -> Page:
        """Return tasks still to be delivered that the filters want: queued and waiting first, then by due time, then
        what is paused, and what awaits an acknowledgement; of one type or label, and series, by due time.

        The cost grows with the page, not with the number of tasks. A page may end early: see Reading. A task that moves
        while pages are read may be missed or met twice. Only tasks of the default type are filtered while reading, so a
        page of them may be short. Raises InvalidField for a cursor that is not one of ours.
        """
        name = await self._index(cursor, filters)
        walk = self.walk_listed(name, cursor, filters)
        return await self._gathered(walk, limit, filters, reading)

    def walk_listed(self, name: str | None, cursor: str | None, filters: Filters) -> AsyncIterator[list[Position]]:
        """Walk what `page` shows, behind the place of a cursor: by the index of this name, if there is one. Raises as
        `page` does."""
        if name is not None:
            return self._indexed(name, cursor)
        return self.walk_all(decode_cursor(cursor, set(PLACES)), filters)

    def cursor_of(self, position: Position) -> str:
        """Return the cursor of a place."""
        return encode_cursor(position)

    async def planned(self, limit: int, cursor: str | None, filters: Filters, is_down: bool, reading: Reading) -> Page:
        """Return tasks that are not due yet, and paused ones, as `page` does: the first due first, or the last one if
        `is_down`. A task that the caller moves past those already met is not met again, even if it is paused or resumed
        meanwhile."""
        if (name := await self._index(cursor, filters)) is not None:
            walk = self._indexed(name, cursor, is_down)
        else:
            walk = self._planned(decode_cursor(cursor, {"due"}), filters, is_down)
        return await self._gathered(walk, limit, filters, reading)

    async def _index(self, cursor: str | None, filters: Filters) -> str | None:
        """Return the name of an index that has all wanted tasks; None: there is none. A list goes on as it began."""
        if not filters.repeats:
            return filters.index(False)
        return filters.index(place_of(cursor) == "series" if cursor else await self._are_series_listed())

    async def _are_series_listed(self) -> bool:
        return await are_series_listed(self.client)

    def _indexed(self, name: str, cursor: str | None, is_down: bool = False) -> AsyncIterator[list[Position]]:
        """Walk an index from where the cursor says."""
        place = "series" if name == SERIES else "label" if name.startswith(LABEL_MARK) else "type"
        return self._sorted(self.client.keys.type_index(name), decode_cursor(cursor, {place}) or (place,), is_down)

    async def _planned(self, position: Position, filters: Filters, is_down: bool) -> AsyncIterator[list[Position]]:
        first_ms, last_ms = filters.due_after_ms, filters.due_before_ms
        if is_down:
            first_ms, last_ms = last_ms, first_ms
        if not position:
            position = from_time("due", first_ms)
        places = [getattr(self.client.keys, place) for place in ("due", "paused") if filters.takes_place(place)]
        while chunks := [chunk for place in places if (chunk := await self._chunk(place, position, is_down))]:
            # Only up to the nearest end: what is behind it may be of another place.
            ends = [_order(chunk[-1]) for chunk in chunks]
            met = {one[-1]: one for chunk in chunks for one in chunk}
            ordered = sorted(met.values(), key=_order, reverse=is_down)
            chunk = [one for one in ordered if (_order(one) >= max(ends) if is_down else _order(one) <= min(ends))]
            yield chunk
            position = chunk[-1]
            reached_ms = float(position[1])
            if last_ms is not None and (reached_ms < last_ms if is_down else reached_ms >= last_ms):
                break

    async def _chunk(self, index: str, position: Position, is_down: bool) -> list[Position]:
        """Return what is next in a sorted set, behind a position."""
        async for chunk in self._sorted(index, position, is_down):
            if chunk:
                return chunk
        return []

    async def _gathered(
        self, walk: AsyncIterator[list[Position]], limit: int, filters: Filters, reading: Reading, is_dead: bool = False
    ) -> Page:
        """Return the tasks that a walk meets and the filters want, the dead or the others."""
        page: list[Stored] = []
        take = reading.take or page.append
        seen, behind, size = 0, 0, 0
        counts_all, until_s = not filters.may_skip_many(is_dead), time.monotonic() + reading.look_s
        last: Position = ()
        async for met in walk:
            if last and not counts_all and time.monotonic() > until_s:
                return Page(page, self.cursor_of(last), behind)
            chunk = [position for position in met if filters.takes_key(position[2])]
            while chunk:
                if seen == limit or (last and not counts_all and time.monotonic() > until_s):
                    return Page(page, self.cursor_of(last), behind + _count_to(last, met))
                if last and reading.rest is not None:
                    await reading.rest()
                read_bytes = min(READ_BYTES, reading.most_bytes - size)
                tasks = await self.read_at(chunk[: limit - seen], read_bytes)
                for position, task in zip(chunk, tasks, strict=False):
                    is_wanted = task is not None and (task.state == "dead") is is_dead and filters.takes(task)
                    if task and is_wanted:
                        before, size = size, size + len(task.raw) + len(task.failure or b"") + INFO_BYTES
                        if before and size > reading.most_bytes:
                            return Page(page, self.cursor_of(last), behind + _count_to(last, met))
                        take(task)
                    seen, last = seen + (counts_all or is_wanted), position
                chunk = chunk[len(tasks) :]
            behind, last = behind + len(met), met[-1] if met else last
        return Page(page, None, behind)

    async def walk_all(self, position: Position, filters: Filters = ANY) -> AsyncIterator[list[Position]]:
        """Walk the queue and the other PLACES in their order, where the filters may find anything."""
        if (not position or position[0] == "queue") and filters.takes_place("queue"):
            start = behind(position[1].partition("@")[0]) if position else "-"
            while start and (
                entries := await self.client.command(
                    "XRANGE", self.client.keys.queue, start, "+", "COUNT", CHUNK_LIMIT, read=_ENTRIES
                )
            ):
                yield positions("queue", ((at, fields[1]) for at, fields in entries))
                start = behind(entries[-1][0].decode())
        if not position or position[0] == "queue":
            position = from_time("due", filters.due_after_ms or None)
        for place in filter(filters.takes_place, PLACES[PLACES.index(position[0]) :]):
            onward: Position = position if place == position[0] else (place,)
            end_ms = filters.due_before_ms if place == "due" else None
            async for chunk in self._sorted(getattr(self.client.keys, place), onward):
                yield chunk
                if end_ms is not None and float(chunk[-1][1]) >= end_ms:
                    break

    async def _sorted(self, index: str, position: Position, is_down: bool = False) -> AsyncIterator[list[Position]]:
        """Walk a sorted set, from the least score or down from the greatest, behind a position or from the start."""
        place = position[0]
        score: str | bytes
        member: str | bytes
        _, score, member = position if len(position) == 3 else (place, "", "")
        wanted = {"index": index, "limit": CHUNK_LIMIT, "is_down": int(is_down)}
        while answer := await self.client.run(
            _PAGE.bind(self.client.keys, score=score, member=member, **wanted), text_pairs
        ):
            yield positions(place, ((at, key) for key, at in answer))
            member, score = answer[-1]

    async def ledger(self) -> Ledger:
        """Count every task where it stands, at one moment."""
        return await read_ledger(self.client)

    async def listed(self, types: Sequence[str]) -> list[int]:
        """Return how many tasks of each type are to be delivered."""
        keys = self.client.keys
        return [await self.client.optional("ZCARD", keys.type_index(name), read=NUMBER) or 0 for name in types]

    async def idempotency_ids(self) -> int:
        """Return how many idempotency ids are kept, with those that have ended."""
        return await self.client.optional("ZCARD", self.client.keys.idempotency_ends, read=NUMBER) or 0


def _count_to(last: Position, met: Sequence[Position]) -> int:
    """Return how many there are up to the last one that was looked at; none where that is of what was met before."""
    return met.index(last) + 1 if last in met else 0


def _order(position: Position) -> tuple[float, bytes]:
    """Return the place in a walk by time."""
    return float(position[1]), position[2].encode()


_SUMMARY = of(tuple[int, bytes | None, bytes | None, list[tuple[bytes, bytes]] | None])
_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_ENTRIES = of(list[tuple[bytes, list[bytes]]])
