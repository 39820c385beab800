"""Where tasks stand: which shard a new one goes to, and in which that of a key is found.

A batch of new tasks goes whole to one shard: to that which this process has given the fewest. (In turn, large batches
and small ones would take turns, too.) One that is away, full, or takes no connection is passed over; a batch of which
anything was sent goes nowhere else, since it may have been written. One that is silent holds up nobody else: while the
call to it takes long, others go to other shards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from redis_scheduler.api.batcher import Batcher
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.shard_calls import ShardCalls, task_size
from redis_scheduler.errors import ShardUnknown, StoreFull, StoreUnavailable
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import OnceAnswer, OnceTask, StoredTask
from redis_scheduler.task.key import SHARDS_MOST, hashed_shard, in_shard, shards_of
from redis_scheduler.task.timing import Timing

BESIDE_S = 0.025
"""A call that takes longer than this, ten times what is usual under load, may have one to another shard beside it."""

BEHIND_BATCHES = 2
"""So many full batches a shard may be behind the one that was given most."""

SILENT_S = 0.2
"""A shard that has not answered for so long is not asked what another can say as well."""


Said = TypeVar("Said")

Place = tuple[ShardCalls, Stored | int | None]
"""The calls of the shard that has the task of a key, or what is kept of it, of the likeliest if none has; and the task,
or of a large one its bytes, None where there is none."""


class Places:
    """The shards of a deployment. `clients`: one of each; there may come more, as `generations` are told of them.
    `refresh`: has these told again."""

    def __init__(
        self,
        clients: Sequence[RedisClient],
        name: str,
        timing: Timing,
        limits: Limits,
        generations: Generations | None = None,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._clients = clients
        self._make = partial(ShardCalls, name=name, timing=timing, limits=limits, clients=clients, warned=set())
        self._calls = list(map(self._make, clients))
        self.generations = generations or Generations.of(len(clients))
        self._refresh = refresh
        self._given = [0] * SHARDS_MOST
        """New tasks that each shard was given."""
        self._under_way = dict[int, asyncio.TimerHandle]()
        """Shards to which a call with new tasks is under way: one, and more while that takes long. Each has the timer
        that fires once its call takes long."""
        self._look_again = asyncio.Event()
        """Set where a batch that found a call under way to each shard may find one free."""
        self._silent = dict[int, asyncio.Task[int]]()
        """Shards that are passed over since they are silent, each with the call after which that is over: then it has
        answered, or is known to be away."""
        self._behind_most = BEHIND_BATCHES * timing.batch_limit
        self.schedule = Batcher(
            self._write_new,
            timing.batch_limit,
            lambda task: len(task.tail) if task.listed is None else task_size(task),
            is_all_away=self._is_all_away,
        )

    async def all(self) -> list[ShardCalls]:
        """Return the calls of every shard that may hold tasks."""
        if self.generations.is_single:
            return self._calls[:1]
        await self._ensure_known()
        return [self.at(number) for number in range(self.count)]

    @property
    def count(self) -> int:
        """How many shards may hold tasks, as far as that is known."""
        return max(self.generations.most, self.generations.used)

    def at(self, shard: int) -> ShardCalls:
        """Return the calls of a shard. Raises ShardUnknown for one that this process cannot reach."""
        if shard >= len(self._calls):
            self._calls += map(self._make, self._clients[len(self._calls) :])
            if shard >= len(self._calls):
                raise ShardUnknown(f"This process does not reach shard {shard}: see REDIS_URL and SHARDS")
        return self._calls[shard]

    @property
    def first(self) -> ShardCalls:
        """The calls of the first shard, which has what the deployment has once."""
        return self._calls[0]

    def of(self, stored: Stored) -> ShardCalls:
        """Return the calls of the shard that a task was read in."""
        return self._calls[stored.shard]

    async def of_key(self, key: str) -> ShardCalls:
        """Return the calls of the shard that has the task of a key, or what is kept of it; of the likeliest if none
        has."""
        if self.generations.is_single:
            return self._calls[0]
        await self._ensure_known()
        places = self._places_of(key)
        return places[0] if len(places) == 1 else (await self.find(key))[0]

    async def find(self, key: str) -> Place:
        """Return where a task stands, and the task, which is read only once by that."""
        if self.generations.is_single:
            return self._calls[0], await self._calls[0].read.submit(key)
        await self._ensure_known()
        places = self._places_of(key)
        found = await self._found(key, places)
        if found is None and len(places) > 1 and self.generations.is_stale:
            await self._read_again()
            places = self._places_of(key)
            found = await self._found(key, places)
        return found or (places[0], None)

    async def _found(self, key: str, places: Sequence[ShardCalls]) -> Place | None:
        for calls in places:
            if (stored := await calls.read.submit(key)) is not None:
                return calls, stored
        if len(places) > 1:
            for calls in places:
                if calls.keeps_results and await calls.recall.submit(key) is not None:
                    return calls, None
        return None

    def _places_of(self, key: str) -> list[ShardCalls]:
        return [self.at(shard) for shard in shards_of(key, self.generations.numbers)]

    async def _ensure_known(self) -> None:
        if not self.generations.known:
            await self._read_again()

    async def _read_again(self) -> None:
        if self._refresh is not None:
            await self._refresh()

    async def _number_to_create(self) -> int:
        if self.generations.is_stale:
            await self._read_again()
        return self.generations.to_create()

    # What is new

    async def ask_new(self, ask: Callable[[ShardCalls], Awaitable[Said]]) -> Said:
        """Ask a shard that new tasks go to for what all would say alike: the next one where one is away, or silent.
        Raises StoreUnavailable, or what `ask` does."""
        *before, last = self._calls[:1] if self.generations.used == 1 else self._in_turn()
        for calls in before:
            try:
                async with asyncio.timeout(SILENT_S):
                    return await ask(calls)
            except (TimeoutError, StoreUnavailable):
                self.note_silent(calls)
        return await ask(last)

    def may_answer(self, calls: ShardCalls) -> bool:
        """Whether a shard is neither away nor passed over since it is silent."""
        return not calls.is_away and calls.number not in self._silent

    def note_silent(self, calls: ShardCalls) -> None:
        """Pass a shard over until it has answered."""
        if calls.number not in self._silent:
            answering = self._silent[calls.number] = asyncio.create_task(calls.views.now_ms(), name="silent-shard")
            answering.add_done_callback(partial(self._note_answer, calls.number))

    def _note_answer(self, number: int, answering: asyncio.Task[int]) -> None:
        del self._silent[number]
        answering.cancelled() or answering.exception()

    async def own(self, key: str) -> ShardCalls:
        """Return the calls of the shard in which a task of an own key is made, where none has it. Raises
        StoreUnavailable while that is not known."""
        return self.at(hashed_shard(key, await self._number_to_create()))

    async def once(self, wanted: OnceTask) -> StoredTask | OnceAnswer:
        """Schedule a task once for its id; return what is stored for it. Raises ShardUnknown where nothing is, and it
        is not known which shard would have the task."""
        try:
            number = await self._number_to_create()
        except ShardUnknown:
            if (stored := await self.stored_once(wanted)) is OnceAnswer.FULL:
                raise
            return stored
        if self.generations.is_single:
            return await self._calls[0].once.submit(wanted)
        first = hashed_shard(wanted.id, number)
        for shard in self._shards_of_id(wanted.id):
            if shard != first:
                found = await self.at(shard).stored_once.submit(wanted)
                if found is not OnceAnswer.FULL:
                    return found
        wanted.task.key = in_shard(wanted.task.key, first)
        return await self.at(first).once.submit(wanted)

    async def stored_once(self, wanted: OnceTask) -> StoredTask | OnceAnswer:
        """Return what is stored for an id; FULL where nothing is."""
        await self._ensure_known()
        found: StoredTask | OnceAnswer = OnceAnswer.FULL
        for shard in self._shards_of_id(wanted.id):
            if (found := await self.at(shard).stored_once.submit(wanted)) is not OnceAnswer.FULL:
                break
        return found

    def _shards_of_id(self, once_id: str) -> list[int]:
        return list(dict.fromkeys(hashed_shard(once_id, number) for number in self.generations.numbers))

    async def _write_new(self, tasks: list[NewTask]) -> list[int]:
        if self.generations.used == 1:
            return await self._calls[0].write_new(tasks)
        unwritten: StoreFull | StoreUnavailable | None = None
        while self._are_all_under_way() and not self._is_all_away():
            self._look_again.clear()
            await self._look_again.wait()
        for calls in self._in_turn():
            number = calls.number
            if number in self._under_way:
                continue
            self._given[number] += len(tasks)
            for task in tasks:
                task.key = in_shard(task.key, number)
            self._under_way[number] = self._timer_of(number)
            try:
                return await calls.write_new(tasks)
            except StoreFull as error:  # so nothing was written
                unwritten = error
            except StoreUnavailable as error:
                if error.was_sent:
                    raise
                unwritten = unwritten or error
            finally:
                self._under_way.pop(number).cancel()
                self._look_again.set()
        raise unwritten or StoreUnavailable("Redis is not available: no shard that new tasks go to answers")

    def _are_all_under_way(self) -> bool:
        """Whether there is a call under way to each shard that is there."""
        return bool(self._under_way) and all(calls.number in self._under_way for calls in self._in_turn())

    def _in_turn(self) -> list[ShardCalls]:
        """Return the shards that new tasks go to, the first one first, silent ones last; one that is away only if all
        are."""
        used, given = self.generations.used, self._given
        least = max(given[:used]) - self._behind_most
        # One that was away must not get all that it has missed.
        given[:used] = [max(count, least) for count in given[:used]]
        shards = [self.at(number) for number in sorted(range(used), key=given.__getitem__)]
        there = [calls for calls in shards if not calls.is_away] or shards[:1]
        return sorted(there, key=lambda calls: calls.number in self._silent) if self._silent else there

    def _timer_of(self, number: int) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(BESIDE_S, self._let_others_go, number)

    def _let_others_go(self, number: int) -> None:
        """The call to a shard takes long: let others go beside it, if there is another shard for them."""
        self.note_silent(self.at(number))
        shards = map(self.at, range(self.generations.used))
        if any(not calls.is_away and calls.number not in self._under_way for calls in shards):
            self._look_again.set()
            self.schedule.go_beside()
        else:
            self._under_way[number] = self._timer_of(number)

    def _is_all_away(self) -> bool:
        return all(calls.is_away for calls in self._calls[: self.generations.used])
