"""What all handlers stand on: the shards, and how a task is read and changed in its own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar
from weakref import WeakValueDictionary

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.admission import CONNECTION, Connection
from redis_scheduler.api.answers import LargeAnswer
from redis_scheduler.api.bodies import ListedBody
from redis_scheduler.api.callers import Caller, caller_of, may_see_all, refuse_without, visible, whose
from redis_scheduler.api.exclusive import Exclusive
from redis_scheduler.api.idempotency import Idempotency
from redis_scheduler.api.limits import DEFAULT as DEFAULT_LIMITS
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.pages import COPIES, COPIES_OF_CHANGE, PageRoom, look_s
from redis_scheduler.api.places import Places
from redis_scheduler.api.quotas import Quotas
from redis_scheduler.api.shard_calls import comes_sooner
from redis_scheduler.api.shown import view_of
from redis_scheduler.api.steps import Rest
from redis_scheduler.errors import Code, InvalidField, RequestRefused, TaskNotFound
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.dead_letters import DeadLetters
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.merging import MergedViews
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.token import Right
from redis_scheduler.store.tokens import Tokens
from redis_scheduler.store.views import PAGE_BYTES, READ_BYTES, Page, Reading
from redis_scheduler.store.written import Change, DiscardAnswer, Standing
from redis_scheduler.task.alert import ALERT_TYPE
from redis_scheduler.task.given import quoted
from redis_scheduler.task.options import NONE
from redis_scheduler.task.timing import DEFAULT, Timing

UPDATE_TRIES = 20
"""An update reads the task so often, since others may change it in between; then the answer is 409."""

Changed = TypeVar("Changed")
Done = TypeVar("Done", Standing, DiscardAnswer)


class Shards:
    """The shards with the batches that requests share, and the room for large answers. `clients`: one of each shard;
    `generations`, `refresh`: how many shards there are and were, and what has that told again."""

    def __init__(
        self,
        clients: Sequence[RedisClient],
        name: str,
        max_body: int,
        timing: Timing = DEFAULT,
        limits: Limits = DEFAULT_LIMITS,
        token: str = "",
        generations: Generations | None = None,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._tokens = token.split(" ")
        self._idempotency = Idempotency(self._tokens[0])
        self._max_body = max_body
        self._call_limit = timing.batch_limit
        self._places = Places(clients, name, timing, limits, generations, refresh)
        self._quotas = Quotas(Tokens(clients[0], limits.allowed), self._places)
        self._one_purge = Exclusive()
        self._one_grouping = Exclusive()
        self._one_bulk = Exclusive()
        self._rest = Rest()
        self._page_room = PageRoom(limits)
        self._one_update: WeakValueDictionary[str, Exclusive] = WeakValueDictionary()

    async def _listed(self, given: Mapping[str, str]) -> DeadLetters:
        """Return the views that list the tasks of the shard that is asked for, or of all. Raises InvalidField."""
        shards = await self._places.all()
        if (wanted := given.get("shard")) is not None:
            if (number := shard_named(wanted, len(shards))) is None:
                raise InvalidField("shard", f"must be a number from 0 to {len(shards) - 1}, got {quoted(wanted)}")
            return shards[number].views
        return shards[0].views if len(shards) == 1 else MergedViews([calls.views for calls in shards])

    async def _answer_page(
        self, request: Request, read_page: Callable[[Reading], Awaitable[Page]], tells_effort: bool
    ) -> Response:
        """Answer a page of tasks, of which it has those that are there for the caller. Each is put into the answer as
        it is read, so that only this is held whole. `tells_effort`: whether the answer says how many
        tasks were looked at."""
        caller = caller_of(request)
        to_admin = may_see_all(caller)

        async def read() -> tuple[bytearray, None]:
            body = ListedBody()

            def take(stored: Stored) -> None:
                if visible(caller, stored):
                    body.add(view_of(stored, to_admin=to_admin))

            page = await read_page(Reading(look_s(request), take=take))
            return body.ended(page.next, page.looked_at if tells_effort else UNSET), None

        return await self._large_answer(request, PAGE_BYTES + COPIES * READ_BYTES, read)

    async def _large_answer(
        self,
        request: Request,
        reading_bytes: int,
        read: Callable[[], Awaitable[tuple[bytes | bytearray, str | None]]],
    ) -> Response:
        """Wait for room, then read an answer and its ETag, and return it. It keeps the room until it is sent."""
        room = await self._page_room.enter(_connection(request), reading_bytes, whose(request))
        try:
            found = LargeAnswer(*await read(), on_sent=room.leave)
            room.begin(len(found.body))
        except BaseException:
            room.leave()
            raise
        return found

    def _whole(
        self, request: Request, key: str, found: Stored | int | None, copies: int = COPIES
    ) -> AbstractAsyncContextManager[Stored | None]:
        """Give a block the task that was found. Of a large one only the size was: it is read with room for it."""
        return self._large(request, key, copies * found) if isinstance(found, int) else nullcontext(found)

    @asynccontextmanager
    async def _large(self, request: Request, key: str, reading_bytes: int) -> AsyncIterator[Stored | None]:
        """Yield a large task, None if it is gone meanwhile, with room for it within the block."""
        room = await self._page_room.enter(_connection(request), reading_bytes, whose(request))
        try:
            yield await (await self._places.of_key(key)).views.task(key)
        finally:
            room.leave()

    async def _within_its_token(
        self, caller: Caller | None, stored: Stored, change: Change, replays: bool = True
    ) -> AbstractAsyncContextManager[None]:
        """Return what is held while a change of a task is written, as far as the limits of the token allow whose task
        it then is: entered, it raises a 507. `replays`: whether it brings the task back where that is dead. A series
        that comes sooner counts towards the rate of the caller, too, above which a 429 is raised."""
        token_id = change.token
        if comes_sooner(stored, change):
            await self._quotas.rated(caller, 1)
        if caller is None or token_id is None:
            return nullcontext()
        calls = self._places.of(stored)
        if token_id != stored.record.token:
            if stored.state == "dead" and replays:
                refuse_without(caller, Right.REPLAY)
            await calls.check_options(NONE, token=token_id)
        share = calls.share_of_change(stored, change, replays)
        return await self._quotas.of_its_token(caller, token_id, share)

    async def _changed(
        self, request: Request, key: str, change: Callable[[Stored | None], Awaitable[Changed | None]]
    ) -> Changed:
        """Read a task and change it, again where others change it first (None); 409 in the end."""
        # One after another in this process, so that only another process can be first.
        async with self._one_update.setdefault(key, Exclusive()).held():
            for _ in range(UPDATE_TRIES):
                _, stored = await self._places.find(key)
                async with self._whole(request, key, stored, COPIES_OF_CHANGE) as whole:
                    changed = await change(whole)
                if changed is not None:
                    return changed
        raise RequestRefused(
            Code.TASK_CHANGED,
            f"Others changed the task each of the {UPDATE_TRIES} times that it was read: read it, and try again",
        )

    async def _guarded(
        self,
        request: Request,
        key: str,
        write: Callable[[bytes], Awaitable[Done]],
        missing: Callable[[], RequestRefused] = TaskNotFound,
    ) -> Done:
        """Make a write that may demand a record of its task. For a caller with types it does: nothing of another type
        that took the key in between is touched. `missing`: raised where none is seen."""
        caller = caller_of(request)
        if caller is None or not (caller.types or key.startswith(ALERT_TYPE)):
            return await write(b"")

        async def written(stored: Stored | None) -> Done | None:
            if (seen := visible(caller, stored)) is None:
                raise missing()
            done = await write(seen.raw)
            return None if done in (Standing.CHANGED, DiscardAnswer.CHANGED) else done

        return await self._changed(request, key, written)


def shard_named(text: str, count: int) -> int | None:
    """Return the number of one of so many shards; None where a text is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 3 and int(text) < count else None


def _connection(request: Request) -> Connection | None:
    connection: Connection | None = request.scope.get("state", {}).get(CONNECTION)
    return connection
