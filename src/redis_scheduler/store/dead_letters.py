"""What is read of the dead letters: pages of them, and how many there are of each kind."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from redis_scheduler.store.answer_shape import NUMBER, SCANNED, sized
from redis_scheduler.store.cursor import Position, decode_cursor, from_time
from redis_scheduler.store.filters import ANY, Filters, host_of
from redis_scheduler.store.keys import text_of
from redis_scheduler.store.stored import Stored, score_ms
from redis_scheduler.store.views import USUAL, Page, Reading, Views
from redis_scheduler.store.walk import STEP_BYTES, Walk
from redis_scheduler.task.failure import error_of, read_attempts

LETTERS_MOST = 50_000
"""So many dead letters are looked at, at most, to group them: the newest."""

LOOK_S = 1.0
"""So long is looked at them, at most."""

FAILING_MOST = 200
"""So many tasks that failed are looked at to say which hosts fail: some of them."""

GROUPS_MOST = 1_000
"""So many groups are answered, at most: the largest."""


@dataclass(slots=True)
class Group:
    """Dead letters of one host and one error: how many, and the newest: its key, and when it died in Redis' ms."""

    host: str
    error: str
    count: int
    newest: str
    died_ms: int


@dataclass(slots=True)
class Groups:
    """The largest groups, the letters in the others, how many were looked at, and how many there are; whether all that
    could be wanted were looked at."""

    groups: list[Group]
    others: int
    looked_at: int
    dead: int
    is_complete: bool


class DeadLetters(Views):
    """Reads only. Every method raises StoreUnavailable when Redis does not answer."""

    async def dead_page(
        self,
        limit: int,
        cursor: str | None,
        filters: Filters = ANY,
        reading: Reading = USUAL,
    ) -> Page:
        """Return the dead letters that the filters want, the newest first.

        The cost grows with the page. They are filtered while reading, so a page of one type may be short. Raises
        InvalidRequest for a cursor that is not one of ours.
        """
        return await self._gathered(self.walk_dead(cursor, filters), limit, filters, reading, is_dead=True)

    def walk_dead(self, cursor: str | None, filters: Filters) -> AsyncIterator[list[Position]]:
        """Walk the dead letters, the newest first, behind the place of a cursor. Raises as `dead_page` does."""
        position = decode_cursor(cursor, {"dead"}) or from_time("dead", filters.died_before_ms)
        return self._sorted(self.client.keys.dead, position, is_down=True)

    async def groups(self, filters: Filters = ANY, look_s: float = LOOK_S) -> Groups:
        """Count the newest dead letters that the filters want by host and error: of those that can be looked at within
        `look_s`."""
        dead = await self.client.command("ZCARD", self.client.keys.dead, read=NUMBER)
        until_s, looked_at, found = time.monotonic() + look_s, 0, dict[tuple[str, str], Group]()
        is_complete = False
        async for chunk in self._sorted(self.client.keys.dead, from_time("dead", filters.died_before_ms), is_down=True):
            letters = [(key, score_ms(at.encode()) or 0) for _, at, key in chunk if filters.takes_key(key)]
            looked_at += len(chunk) - len(letters)
            if letters:
                looked_at += await self._group(letters, filters, found, until_s)
            if looked_at >= LETTERS_MOST or time.monotonic() > until_s:
                break
        else:
            is_complete = True
        by_size = sorted(found.values(), key=lambda group: -group.count)
        others = sum(group.count for group in by_size[GROUPS_MOST:])
        is_complete = is_complete or looked_at >= dead
        return Groups(by_size[:GROUPS_MOST], others, looked_at, max(dead, looked_at), is_complete)

    async def failing(self) -> list[Group]:
        """Count tasks whose last attempt failed by host and error, the dead among them: of some of them, if there are
        many; the largest group first."""
        failures = self.client.keys.failures
        # The user in REDIS_URL may not be allowed to ask.
        page = await self.client.optional("HSCAN", failures, "0", "COUNT", FAILING_MOST, read=SCANNED)
        _, pairs = page or (b"0", [])
        found = dict[tuple[str, str], Group]()
        letters = [(text_of(key), 0) for key in pairs[: 2 * FAILING_MOST : 2]]
        if letters:
            await self._group(letters, ANY, found, time.monotonic() + LOOK_S)
        return sorted(found.values(), key=lambda group: -group.count)

    async def _group(
        self,
        letters: Sequence[tuple[str, int]],
        filters: Filters,
        found: dict[tuple[str, str], Group],
        until_s: float,
    ) -> int:
        """Add letters to their groups; return how many were looked at by then, one at least."""
        task_keys = [key for key, _ in letters]
        failures = await self.client.command(
            "HMGET", self.client.keys.failures, *task_keys, read=sized(list[bytes | None], len(task_keys))
        )
        walk = Walk(self.client)
        _, heads = await walk.heads([key.encode() for key in task_keys], STEP_BYTES)
        for number, ((key, died_ms), head, kept) in enumerate(zip(letters, heads, failures, strict=True)):
            # A large record is read alone.
            if number and time.monotonic() > until_s:
                return number
            record = await walk.record(head)
            attempts, failure = read_attempts(kept)
            if self.client.keys.vault is not None:
                failure = self.client.keys.vault.open_failure(key, failure)
            if record is None or not filters.takes(
                Stored(key, head.beginning, record, attempts, failure, "dead", None, died_ms)
            ):
                continue
            host, error = host_of(record), error_of(failure)
            if (group := found.get((host, error))) is None:
                found[host, error] = Group(host, error, 1, key, died_ms)
            else:
                group.count += 1
        return len(letters)
