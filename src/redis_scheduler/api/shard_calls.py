"""What the API asks of one shard, and the batches in which its requests do."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import UNSET

from redis_scheduler.api.batcher import Answer, Batcher
from redis_scheduler.api.diagnosis import within
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.room import NameRoom, Room
from redis_scheduler.api.waits import WAITS_FOR_WORKER
from redis_scheduler.errors import Code, InvalidField, RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.host import host_of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.limiting import Limiting, limit_of
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.processes import said_of_host
from redis_scheduler.store.retention import Retention
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.tokens import NO_SHARE, Share, sum_of
from redis_scheduler.store.workers import Workers
from redis_scheduler.store.writes import Writes
from redis_scheduler.store.written import (
    IDEMPOTENCY_ID_BYTES,
    Cancellation,
    Change,
    OnceAnswer,
    OnceTask,
    Put,
    PutAnswer,
    ReplayAnswer,
    Standing,
    StoredTask,
    UpdateAnswer,
)
from redis_scheduler.task.content import Content, format_needed
from redis_scheduler.task.due import due_after
from redis_scheduler.task.listing import Listing, is_series, listing_bytes
from redis_scheduler.task.options import CALLBACKS, FORMATS, NONE, Options
from redis_scheduler.task.policy import contradiction_with
from redis_scheduler.task.summary import cancelled_tail
from redis_scheduler.task.timing import Timing

DUE_BYTES = 20
"""What stands in a record before its tail, until the year 2286."""

SAID_WITHIN_S = 0.2
"""The first shard has so long to tell what a worker said."""


class ShardCalls:
    """The writes and views of a shard. Requests submit to its batches: of these one call of each kind is under way."""

    def __init__(
        self,
        client: RedisClient,
        name: str,
        timing: Timing,
        limits: Limits,
        clients: Sequence[RedisClient],
        warned: set[str],
    ) -> None:
        """`clients`: those of all shards, whose number may grow. `warned`: see `Room`."""
        self.writes = Writes(client, name, timing, limits.kept)
        self.retention = Retention(client, limits.kept, timing)
        self.keeps_results = limits.kept.result_ttl_ms > 0
        self.views = DeadLetters(client, timing)
        self.limiting = Limiting(client, timing)
        self.workers = Workers(client)
        self._limits = limits
        self._clients = clients
        limit = timing.batch_limit
        self._room = Room(client, limits.memory_reserve, self.retention, clients, warned)
        self.names = NameRoom(client, limits.labels_most)
        self.once = Batcher(self._schedule_once, limit, lambda once: task_size(once.task))
        self.stored_once = Batcher(self._stored_once, limit)
        self.cancel = Batcher(self.writes.cancel, limit, _cancelled_size)
        self.update = Batcher(self._update, limit, _changed_size)
        self.replay = Batcher(self._replay, limit, _changed_size)
        self.put = Batcher(
            self._put, limit, lambda put: task_size(put.task) + len(put.expected) + listing_bytes(put.old_listed)
        )
        self.discard = _guarded(self.writes.discard, limit)
        self.pause = _guarded(self.writes.pause, limit)
        self.resume = _guarded(self.writes.resume, limit)
        self.run = Batcher(self._run, limit, lambda task: len(task[2]))
        self.acknowledge = Batcher(self.writes.acknowledge, limit)
        self.read = Batcher(self.views.tasks, limit)
        self.recall = Batcher(self.views.summaries, limit)

    def cancellation(self, stored: Stored, expected: bytes) -> Cancellation:
        """Return what takes a task out, unless another record is expected, and keeps how it ended."""
        result = cancelled_tail(stored.record, stored.attempts) if self.keeps_results else b""
        return stored.key, stored.listed, expected, result

    async def learn_why(self, stored: Stored, is_alone: bool, sees_hosts: bool) -> None:
        """Learn of a task that is not delivered yet whether a worker lives, how many are before it in the queue, how
        the limit stands that holds it, or what the worker that has it said of its host. `is_alone`: whether there is no
        other shard; `sees_hosts`: whether the caller may know what runs for a host."""
        if stored.state in WAITS_FOR_WORKER:
            is_any = self.workers.is_any
            if is_any is None:
                # Without an answer to this the task is shown all the same.
                with contextlib.suppress(StoreUnavailable, StoreFull):
                    is_any = await self.workers.found_any()
            if is_any is False:
                stored.unserved = "no worker runs" if is_alone else f"no worker serves shard {self.number}"
        if stored.state == "queued":
            await self.views.count_before(stored)
        elif stored.state == "held" and not stored.is_in_turn:
            [stored.limit] = await self.limiting.states([limit_of(stored.record)])
        elif sees_hosts and stored.owner and stored.record.origin and not stored.unserved:
            # Processes say it in the first shard; without its answer the task is shown all the same.
            with contextlib.suppress(StoreUnavailable, StoreFull, TimeoutError):
                async with asyncio.timeout(SAID_WITHIN_S):
                    stored.owner_said = await said_of_host(
                        self._clients[0], stored.owner, host_of(stored.record.origin)
                    )

    def share_of(self, key: str, tail: bytes, listed: Listing) -> Share:
        """Return what its token has more waiting by a task."""
        vault = self.writes.client.keys.vault
        return Share(1, DUE_BYTES + len(tail if vault is None else vault.seal_tail(key, tail, listed)))

    def share_of_change(self, stored: Stored, change: Change, replays: bool) -> Share:
        """Return what the token of a task has more waiting by a change of it: all of one that comes back, or that it
        takes over; nothing of one that stays dead; an occurrence of a series that comes sooner."""
        share = self.share_of(change.key, change.tail, change.listed)
        if stored.state == "dead":
            return share if replays else NO_SHARE
        if change.token != stored.record.token:
            return share
        return self.share_beyond(stored, share, change)

    def share_beyond(self, stored: Stored, share: Share, wanted: Change | NewTask) -> Share:
        """Return what a token has more waiting by a task of this share in the place of another of its own; an
        occurrence, too, where a series comes sooner."""
        more = Share(0, share.bytes - len(stored.raw))
        return sum_of((more, share)) if comes_sooner(stored, wanted) else more

    async def traced(self, options: Options, traceparent: str) -> Options:
        """Return checked options with the trace that the request is part of, unless they name one. A task that has no
        other goes without while a live worker is too old for options: nobody asked for this one."""
        if options.traceparent is not UNSET:
            return options
        if options is NONE and await self.workers.too_old(FORMATS["traceparent"]):
            return options
        return msgspec.structs.replace(options, traceparent=traceparent)

    def check_policy(self, options: Options, before: Options = NONE) -> None:
        """Raise InvalidField if options have no effect beside the service's; but not for what was so `before` a
        change."""
        if options is before:
            return
        found = contradiction_with(self._limits.policy, options)
        if found is not None and found != contradiction_with(self._limits.policy, before):
            raise InvalidField(*found, Code.CONTRADICTION)
        for name in CALLBACKS:
            if callback := getattr(options, name):
                with within(name):
                    self.check_policy(callback, getattr(before, name) or NONE)

    async def check_options(self, options: Options, content: Content = "data", token: str | None = None) -> None:
        """Raise 400 for a time-out above MAX_TIMEOUT, and 409 while a live worker is too old for such a task."""
        if options is NONE and content == "data" and token is None:
            return
        self._check_timeout(options)
        needed = format_needed(options, content, token)
        if name := await self.workers.too_old(needed):
            raise RequestRefused(
                Code.OLDER_WORKER,
                f"The task has options{'' if token is None else ', or a token,'} that the worker {name} is too old for "
                f"(they need record format {needed}): stop it or upgrade it, and try again",
            )

    def _check_timeout(self, options: Options) -> None:
        if options.timeout and options.timeout > self._limits.timeout_most_s:
            rule = f"must be at most MAX_TIMEOUT, which is {self._limits.timeout_most_s:g}"
            raise InvalidField("timeout", f"{rule}, got {options.timeout}")
        for name in CALLBACKS:
            if callback := getattr(options, name):
                with within(name):
                    self._check_timeout(callback)

    @property
    def number(self) -> int:
        """The number of the shard."""
        return self.writes.client.keys.shard

    @property
    def is_away(self) -> bool:
        """Whether the last call found its Redis away."""
        return self.writes.client.outage.is_away

    def away(self) -> StoreUnavailable:
        """Return the error of a call that is not even made, since the Redis is away."""
        error = StoreUnavailable()
        error.shard = self.number
        return error

    async def write_new(self, tasks: list[NewTask]) -> list[int]:
        """Schedule new tasks; return when each is due. Await one call at a time."""
        await self._room.admit(len(tasks), sum(len(task.tail) for task in tasks))
        return await self.writes.schedule(tasks)

    async def _schedule_once(self, tasks: list[OnceTask]) -> list[StoredTask | OnceAnswer]:
        limits = self._limits
        kept_ms = round(limits.idempotency_ttl_s * 1000)
        await self._room.admit(len(tasks), sum(len(one.task.tail) for one in tasks))
        return await self.writes.schedule_once(tasks, kept_ms, limits.idempotency_bytes // IDEMPOTENCY_ID_BYTES)

    async def _stored_once(self, tasks: list[OnceTask]) -> list[StoredTask | OnceAnswer]:
        """Return what is stored for each id; FULL where nothing is, since there is room for no further one."""
        return await self.writes.schedule_once(tasks, kept_ms=0, most=0)

    async def _update(self, changes: list[Change]) -> list[tuple[int, UpdateAnswer]]:
        await self._room.admit(0, sum(len(change.tail) for change in changes))
        now_ms, answers = await self.writes.update(changes)
        return [(now_ms, found) for found in answers]

    async def _replay(self, changes: list[Change]) -> list[tuple[int, ReplayAnswer]]:
        now_ms, answers = await self.writes.replay(changes)
        return [(now_ms, found) for found in answers]

    async def _run(self, tasks: list[tuple[str, int, bytes, bool]]) -> list[Standing]:
        keys, delays_ms, expected, are_series = zip(*tasks, strict=True)
        return await self.writes.run(keys, delays_ms, expected, [int(each) for each in are_series])

    async def _put(self, puts: list[Put]) -> list[tuple[int, PutAnswer]]:
        await self._room.admit(len(puts), sum(len(put.task.tail) for put in puts))
        now_ms, answers = await self.writes.put(puts)
        return [(now_ms, found) for found in answers]


def comes_sooner(stored: Stored, wanted: Change | NewTask) -> bool:
    """Whether what is to be in the place of a task is a series that comes before that would: it then makes an
    occurrence that its rule alone would not make. A dead task would not come."""
    if wanted.ttl_ms is None or stored.state == "dead" or not is_series(wanted.listed):
        return False
    # The first time of a series is a point in time (repeats.py: first_of).
    return due_after(0, wanted.ttl_ms) < stored.record.due


def task_size(task: NewTask) -> int:
    """Return about how many bytes of a call a task takes."""
    return len(task.tail) + listing_bytes(task.listed)


def _changed_size(change: Change) -> int:
    return len(change.tail) + len(change.expected) + listing_bytes(change.listed) + listing_bytes(change.old_listed)


def _guarded(
    write: Callable[[list[str], list[bytes]], Awaitable[list[Answer]]], limit: int
) -> Batcher[tuple[str, bytes], Answer]:
    """Return the batches of a write, whose items are keys with the records that the tasks must have (empty: any)."""

    async def call(tasks: list[tuple[str, bytes]]) -> list[Answer]:
        return await write([key for key, _ in tasks], [expected for _, expected in tasks])

    return Batcher(call, limit, lambda task: len(task[1]))


def _cancelled_size(task: Cancellation) -> int:
    expected = len(task[2]) if len(task) > 2 else 0
    return expected if task[1] is None else expected + listing_bytes(task[1])
