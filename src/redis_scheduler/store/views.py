"""What is read from Redis: tasks by key, pages of the list, the ledger's counts. Nothing here writes."""

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from redis_scheduler.store.answer_shape import (
    NUMBER,
    of,
    redis_ms,
    text_pairs,
)
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.cursor import Position, behind, decode_cursor, encode_cursor, from_time, positions
from redis_scheduler.store.filters import ANY, Filters
from redis_scheduler.store.keys import GROUP
from redis_scheduler.store.ledger import Ledger, read_ledger
from redis_scheduler.store.script import Script
from redis_scheduler.store.stored import BEFORE_MOST, Stored, tasks_read
from redis_scheduler.task.summary import Summary, read_summary
from redis_scheduler.task.timing import DEFAULT, Timing

PAGE_LIMIT = 10_000
"""Tasks in one answer, at most."""

PAGE_BYTES = 8 * 1_048_576
"""A page ends before the task that would make its answer larger than this, unless that is the first."""

LOOK_S = 0.8
"""A page with filters looks for tasks for so long, and then says where to go on."""

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
        [found] = await self._read_whole([key])
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
        kept: bytes | None = await self.client.run(_RECALL.bind(self.client.keys, key=key), of(bytes | None))
        return None if kept is None else read_summary(kept)

    async def _read_whole(self, task_keys: Sequence[str]) -> list[Stored | None]:
        return [found for found in await self._read(task_keys, RECORD_BYTES) if not isinstance(found, int)]

    async def _read(self, task_keys: Sequence[str], record_bytes: int) -> list[Stored | int | None]:
        """Return the tasks of the first keys, as many as one call reads, at least one; of larger ones the size."""
        return await self.client.run(
            _READ.bind(self.client.keys, group=GROUP, room=READ_BYTES, most=record_bytes, task_keys=task_keys),
            lambda answer: tasks_read(task_keys, record_bytes, self._window_ms, self.client.keys.vault, answer),
        )

    async def page(self, limit: int, cursor: str | None, filters: Filters = ANY, look_s: float = LOOK_S) -> Page:
        """Return tasks still to be delivered that the filters want: queued and waiting first, then by due time, then
        what is paused, and what awaits an acknowledgement; of one type or label by due time.

        The cost grows with the page, not with the number of tasks. A page may end early, at PAGE_BYTES; with filters
        also after LOOK_S. A task that moves while pages are read may be missed or met twice. Only tasks of the default
        type are filtered while reading, so a page of them may be short. Raises InvalidField for a cursor that is
        not one of ours.
        """
        if (name := filters.index) is not None:
            walk = self._indexed(name, cursor, filters)
        else:
            walk = self._all(decode_cursor(cursor, {"queue", "due", "paused", "awaiting", "held"}), filters)
        return await self._gathered(walk, limit, filters, look_s=look_s)

    async def planned(
        self, limit: int, cursor: str | None, filters: Filters, is_down: bool, look_s: float, most_bytes: int
    ) -> Page:
        """Return tasks that are not due yet, and paused ones, as `page` does: the first due first, or the last one if
        `is_down`. A task that the caller moves past those already met is not met again, even if it is paused or resumed
        meanwhile."""
        if (name := filters.index) is not None:
            walk = self._indexed(name, cursor, filters, is_down)
        else:
            walk = self._planned(decode_cursor(cursor, {"due"}), filters, is_down)
        return await self._gathered(walk, limit, filters, False, look_s, most_bytes)

    def _indexed(
        self, name: str, cursor: str | None, filters: Filters, is_down: bool = False
    ) -> AsyncIterator[list[Position]]:
        """Walk an index from where the cursor says."""
        place = "type" if filters.label is None else "label"
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
        self,
        walk: AsyncIterator[list[Position]],
        limit: int,
        filters: Filters,
        is_dead: bool = False,
        look_s: float = LOOK_S,
        most_bytes: int = PAGE_BYTES,
    ) -> Page:
        """Return the tasks that a walk meets and the filters want, the dead or the others: about so many bytes, one
        task at least."""
        page: list[Stored] = []
        seen, looked_at, size = 0, 0, 0
        counts_all, until_s = not filters.may_skip_many(is_dead), time.monotonic() + look_s
        last: Position = ()
        async for met in walk:
            if last and not counts_all and time.monotonic() > until_s:
                return Page(page, encode_cursor(last), looked_at)
            chunk = [position for position in met if filters.takes_key(position[-1])]
            looked_at += len(met) - len(chunk)
            while chunk:
                if seen == limit or (last and not counts_all and time.monotonic() > until_s):
                    return Page(page, encode_cursor(last), looked_at)
                tasks = await self._read_whole([position[-1] for position in chunk[: limit - seen]])
                for position, task in zip(chunk, tasks, strict=False):
                    is_wanted = task is not None and (task.state == "dead") is is_dead and filters.takes(task)
                    if task and is_wanted:
                        size += len(task.raw) + len(task.failure or b"") + INFO_BYTES
                        if page and size > most_bytes:
                            return Page(page, encode_cursor(last), looked_at)
                        page.append(task)
                    seen, last = seen + (counts_all or is_wanted), position
                    looked_at += 1
                chunk = chunk[len(tasks) :]
            last = met[-1] if met else last
        return Page(page, None, looked_at)

    async def _all(self, position: Position, filters: Filters = ANY) -> AsyncIterator[list[Position]]:
        """Walk the queue, then `due`, `paused`, `awaiting` and `held`: where the filters may find anything."""
        if (not position or position[0] == "queue") and filters.takes_place("queue"):
            start = behind(position[1]) if position else "-"
            while start and (
                entries := await self.client.command(
                    "XRANGE", self.client.keys.queue, start, "+", "COUNT", CHUNK_LIMIT, read=_ENTRIES
                )
            ):
                yield positions("queue", ((at, fields[1]) for at, fields in entries))
                start = behind(entries[-1][0].decode())
        if not position or position[0] == "queue":
            position = from_time("due", filters.due_after_ms or None)
        if position[0] == "due":
            if filters.takes_place("due"):
                async for chunk in self._sorted(self.client.keys.due, position):
                    yield chunk
                    if filters.due_before_ms is not None and float(chunk[-1][1]) >= filters.due_before_ms:
                        break
            position = ("paused",)
        if position[0] == "paused":
            if filters.takes_place("paused"):
                async for chunk in self._sorted(self.client.keys.paused, position):
                    yield chunk
            position = ("awaiting",)
        if position[0] == "awaiting":
            if filters.takes_place("awaiting"):
                async for chunk in self._sorted(self.client.keys.awaiting, position):
                    yield chunk
            position = ("held",)
        if filters.takes_place("held"):
            async for chunk in self._sorted(self.client.keys.held, position):
                yield chunk

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


def _order(position: Position) -> tuple[float, bytes]:
    """Return the place in a walk by time."""
    return float(position[1]), position[2].encode()


_SUMMARY = of(tuple[int, bytes | None, bytes | None, list[tuple[bytes, bytes]] | None])
_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_ENTRIES = of(list[tuple[bytes, list[bytes]]])
