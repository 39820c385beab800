"""Room for new tasks in Redis: in its memory, of which some is kept for the tasks that are there, and for their names.

Redis itself refuses what grows once its memory is full, and a delivery or a retry grows as little as nothing; so a
reserve that no new task takes lets what was acknowledged go on. Before new tasks are refused, what is kept of tasks
that have ended gives way.

Redis is asked beside a write: at most once a second, and when half of what was left may have been taken since. So a
service that schedules nothing asks nothing, and a request waits for the answer only where there may be no room.
"""

import asyncio
from collections.abc import Sequence

from redis_scheduler.api.callers import Caller
from redis_scheduler.errors import Code, RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.answer_shape import NUMBER, numbers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.memory import UNKNOWN, WARN_SHARE, Memory, memory_of, refuse_beyond
from redis_scheduler.store.retention import Retention
from redis_scheduler.store.token import Right, Token
from redis_scheduler.task.label import LABELS_MOST
from redis_scheduler.task.listing import SERIES, TOKEN_MARK, Listing

logger = Events(__name__)

LOOK_S = 1.0
"""Between two looks at Redis, while there are writes."""

COMING_MOST = 1_000
"""Names that are let in between two looks, at most."""

NAMES_OF_TASK = 1 + LABELS_MOST
"""A task has a type, and so many labels at most."""

UNLIMITED_LOOK_S = 10.0
"""The same while Redis has no limit."""

TASK_BYTES = 210
"""What a task takes of Redis besides its record (PERFORMANCE.md)."""

CALM = 0.75
"""The log warns of the memory again once it was below this share of it."""

STEP_S = 0.01
"""Between two steps in which something gives way: others' calls come first."""

STEPS = 1_000
"""Of one look: a batch of dead letters each, or a sixteenth of the summaries."""


class NameRoom:
    """Whether one shard has room for further names of types and labels: each takes memory of its own while a task has
    it.

    Redis is asked once a second while tasks with names come; and for each of these while there may be no room. Requests
    of several processes at once may pass `most` together, by what is under way.
    """

    def __init__(self, client: RedisClient, most: int) -> None:
        self._client = client
        self._most = most
        self._count = 0
        """Names that there are, or more: what was let in since Redis was asked may have been there."""
        self._coming: dict[str, float] = {}
        """What was let in of late, and may not be written yet: until when that counts."""
        self._look_at = 0.0

    async def admit(self, listed: Listing, before: Listing = None, caller: Caller | None = None) -> None:
        """Return if a task may have these names, where it had others `before`. Raises RequestRefused, and
        StoreUnavailable. A caller whose tasks may have more than half of all names leaves the other half to others."""
        if listed is None or listed == before:
            return
        names = set(_names(listed)) - set(_names(before))
        is_bounded = caller is None or bool(caller.rights & Right.ADMIN) or self._has_few(caller.token)
        most = self._most if is_bounded else self._most // 2
        now = asyncio.get_running_loop().time()
        if now < self._look_at and self._count + len(names) <= most and len(self._coming) < COMING_MOST:
            self._count += len(names)
            self._coming |= dict.fromkeys(names, now + LOOK_S)
            return
        there = await self._client.command("SCARD", self._client.keys.types, read=NUMBER)
        self._coming = {name: until for name, until in self._coming.items() if until > now}
        new = names
        if there + len(self._coming.keys() | names) > most:
            unknown = await self._unknown(self._coming.keys() | names)
            self._coming = {name: until for name, until in self._coming.items() if name in unknown}
            new = names & unknown
            if new and there + len(unknown) > most:
                allowed = (
                    f"which is {most}"
                    if is_bounded
                    else f"{most} to a token without --tasks, or with many, half of all"
                )
                raise RequestRefused(Code.LABELS_FULL, f"{_NAMES_FULL}, {allowed}: {_NAMES_REMEDY}")
        self._coming |= dict.fromkeys(new, now + LOOK_S)
        self._count, self._look_at = there + len(self._coming), now + LOOK_S

    def _has_few(self, token: Token) -> bool:
        """Whether the tasks that a token may have waiting have no more than half of all names."""
        return 0 < token.tasks * NAMES_OF_TASK <= self._most // 2

    async def _unknown(self, names: set[str]) -> set[str]:
        """Return which of these names Redis does not know: none, if the user in REDIS_URL may not ask it."""
        asked = list(names)
        key = self._client.keys.types
        known = await self._client.optional("SMISMEMBER", key, *asked, read=numbers(len(asked)))
        return {name for name, is_known in zip(asked, known or (), strict=known is not None) if not is_known}


_NAMES_FULL = "As many types and labels have tasks as LABELS_MOST allows"
_NAMES_REMEDY = "use one that is there, or wait until the last task of another has ended"


def _names(listed: Listing) -> list[str]:
    """Return the names of types and labels, without that of series, and that of a token."""
    names = (listed,) if isinstance(listed, str) else listed or ()
    return [name for name in names if not name.startswith((SERIES, TOKEN_MARK))]


class Room:
    """Whether one shard has room for new tasks.

    `reserve`: the share of Redis' memory that nothing new may take; 0 turns all of this off. `retention` drops what
    gives way. `clients`: those of all shards, of which some may be on the same server and take of its memory, too.
    `warned`: the servers that the log has warned of, for all of these together.
    """

    def __init__(
        self,
        client: RedisClient,
        reserve: float,
        retention: Retention,
        clients: Sequence[RedisClient],
        warned: set[str],
    ) -> None:
        self._client = client
        self._reserve = reserve
        self._retention = retention
        self._clients = clients
        self._sharing = 1
        """So many shards share what is left: each counts only what it takes itself."""
        self._memory: Memory = UNKNOWN
        self._taken_bytes = 0
        """By this process, since Redis was asked."""
        self._look_at = 0.0
        self._warned = warned
        self._looking: asyncio.Task[None] | None = None
        self._giving_way: asyncio.Task[None] | None = None

    async def admit(self, count: int, record_bytes: int) -> None:
        """Return if there is room for so many tasks, whose records have so many bytes; else raise StoreFull.

        Await it before each write that brings something new.
        """
        if not self._reserve:
            return
        taken_bytes = self._taken_bytes + record_bytes + TASK_BYTES * count
        left_bytes = (self._memory.most_bytes * (1 - self._reserve) - self._memory.used_bytes) / self._sharing
        is_limited = self._memory.most_bytes > 0
        if asyncio.get_running_loop().time() >= self._look_at or (is_limited and taken_bytes * 2 > left_bytes):
            self._looking = self._looking or asyncio.create_task(self._look(), name="room")
            if is_limited and taken_bytes > left_bytes:
                await asyncio.shield(self._looking)
                taken_bytes = 0
        refuse_beyond(self._memory, self._reserve)
        self._taken_bytes = taken_bytes

    async def _look(self) -> None:
        self._taken_bytes = 0
        self._sharing = max(1, sum(one.url == self._client.url for one in self._clients))
        try:
            self._memory = await memory_of(self._client) or UNKNOWN
            self._tell()
            if self._memory.share > 1 - 2 * self._reserve and self._giving_way is None:
                self._giving_way = asyncio.create_task(self._give_way(), name="room-give-way")
        except (StoreUnavailable, StoreFull):
            pass  # the write, which meets the same, says so
        finally:
            wait_s = LOOK_S if self._memory.most_bytes else UNLIMITED_LOOK_S
            self._look_at = asyncio.get_running_loop().time() + wait_s
            self._looking = None

    async def _give_way(self) -> None:
        letters = results = 0
        try:
            for _ in range(STEPS):
                trim = await self._retention.give_way()
                letters, results = letters + trim.dropped, results + trim.results_dropped
                self._memory = await memory_of(self._client) or UNKNOWN
                has_dropped = trim.dropped or trim.results_dropped
                if not has_dropped or self._memory.share <= 1 - 2 * self._reserve:
                    break
                await asyncio.sleep(STEP_S)
        except (StoreUnavailable, StoreFull):
            pass
        finally:
            self._giving_way = None
        if letters or results:
            fields = {"dead_letters": letters, "results": results, "used": round(self._memory.share, 3)}
            logger.warning("gave-way", **fields)

    def _tell(self) -> None:
        memory, server, shard = self._memory, self._client.server, self._client.outage.shard
        fields = {"used_bytes": memory.used_bytes, "most_bytes": memory.most_bytes, "used": round(memory.share, 3)}
        fields |= {} if shard is None else {"shard": shard}
        if memory.share > WARN_SHARE and server not in self._warned:
            self._warned.add(server)
            logger.warning("redis-memory", **fields)
        elif memory.share < CALM and server in self._warned:
            self._warned.discard(server)
            logger.info("redis-memory-well", **fields)
