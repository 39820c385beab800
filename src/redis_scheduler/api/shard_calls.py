"""What the API asks of one shard, and the batches in which its requests do."""

import msgspec
from msgspec import UNSET

from redis_scheduler.api.batcher import Batcher
from redis_scheduler.errors import Code, InvalidField, RequestRefused
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.workers import Workers
from redis_scheduler.store.writes import Change, ReplayAnswer, UpdateAnswer, Writes
from redis_scheduler.task.content import Content, format_needed
from redis_scheduler.task.options import FORMATS, NONE, RULES, Options
from redis_scheduler.task.timing import Timing


class ShardCalls:
    """The writes and views of a shard. Requests submit to its batches: of these one call of each kind is under way."""

    def __init__(self, client: RedisClient, name: str, timing: Timing, timeout_most_s: float) -> None:
        self.writes = Writes(client, name, timing)
        self.views = DeadLetters(client, timing)
        self._workers = Workers(client)
        self._timeout_most_s = timeout_most_s
        limit = timing.batch_limit
        self.schedule = Batcher(self.writes.schedule, limit, lambda task: len(task.tail))
        self.cancel = Batcher(self.writes.cancel, limit, lambda task: len(task[2]) if len(task) == 3 else 0)
        self.update = Batcher(self._update, limit, lambda change: len(change.tail) + len(change.expected))
        self.replay = Batcher(self._replay, limit, lambda change: len(change.tail) + len(change.expected))
        self.discard = Batcher(self.writes.discard, limit)
        self.pause = Batcher(self.writes.pause, limit)
        self.resume = Batcher(self.writes.resume, limit)
        self.run = Batcher(self.writes.run, limit)
        self.read = Batcher(self.views.tasks, limit)

    async def traced(self, options: Options, traceparent: str) -> Options:
        """Return checked options with the trace that the request is part of, unless they name one. A task that has no
        other goes without while a live worker is too old for options: nobody asked for this one."""
        if options.traceparent is not UNSET:
            return options
        if options is NONE and await self._workers.too_old(FORMATS["traceparent"]):
            return options
        return msgspec.structs.replace(options, traceparent=traceparent)

    async def check_options(self, options: Options, content: Content = "data") -> None:
        """Raise 400 for a time-out above MAX_TIMEOUT, and 409 while a live worker is too old for such a task."""
        if options is NONE and content == "data":
            return
        if options.timeout and options.timeout > self._timeout_most_s:
            given = f"({self._timeout_most_s:g}), got {options.timeout}"
            raise InvalidField("timeout", f"{RULES['timeout']} {given}")
        needed = format_needed(options, content)
        if name := await self._workers.too_old(needed):
            raise RequestRefused(
                Code.OLDER_WORKER,
                f"The task has options that the worker {name} is too old for (they need record format {needed}): stop "
                "it or upgrade it, and try again",
            )

    async def _update(self, changes: list[Change]) -> list[tuple[int, UpdateAnswer]]:
        now_ms, answers = await self.writes.update(changes)
        return [(now_ms, found) for found in answers]

    async def _replay(self, changes: list[Change]) -> list[tuple[int, ReplayAnswer]]:
        now_ms, answers = await self.writes.replay(changes)
        return [(now_ms, found) for found in answers]
