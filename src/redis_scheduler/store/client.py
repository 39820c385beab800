"""One connection pool to Redis: sends commands and scripts, resends, and says in our own errors what went wrong.

The library's own resends are off. Every script is safe to send twice, and all other commands here only read, so a call
that loses its connection is sent once more. The other files of this room say what is sent.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from redis_scheduler.errors import StoreFull, StoreRefused, StoreUnavailable, WrongServer
from redis_scheduler.logs import Events
from redis_scheduler.metrics.family import REDIS_ERRORS
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.resolver import Resolver
from redis_scheduler.store.answer_shape import WrongAnswer, as_it_is, interpreted
from redis_scheduler.store.check import Servers, place, refusal_of
from redis_scheduler.store.connection import CONNECTIONS_MOST, FollowingConnection, connect, drop_idle
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.refusal import (
    Unconnected,
    away,
    is_elsewhere,
    is_lost,
    is_no_group,
    is_turned_away,
    moving,
    name_command,
    suspected,
    translated,
    whole_text,
)
from redis_scheduler.store.script import Argument, Call
from redis_scheduler.store.url import location_of, server_of
from redis_scheduler.store.way import way_of

logger = Events(__name__)

T = TypeVar("T")


ASK_S = 1.0
"""Who is asked where the master is has so long to answer."""

_GROUP_LOST = (
    "Redis was flushed, or the queue's consumer group destroyed: the group is made anew, and the service goes on. "
    "What was flushed is gone; what was in delivery may arrive twice."
)


class RedisClient:
    """Commands and scripts to the Redis of one shard, by its URL (url.py: `urls_of_shards`).

    `timeout_s` bounds each send and its answer; a call takes at most two of them. `outage` is told of every call, so
    that the process logs when Redis goes and comes back; `meter` counts calls of scripts, and errors. `servers`: those
    of all shards, where each has one of its own.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        keys: Keys,
        outage: Outage | None = None,
        meter: Meter = UNREAD,
        servers: Servers | None = None,
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.keys = keys
        """The keys of the shard that this Redis holds: whoever has the client names them by it."""
        self._servers = servers
        self.outage = outage or Outage()
        self._meter = meter
        self.lost_answers = 0
        """Sends and connects that were not answered, since ever. A send may have been applied all the same."""
        self.peers: set[tuple[str, int]] = set()
        """Addresses and ports of this Redis: those that were connected to lately."""
        location = location_of(url)
        self.is_cluster = location.kind == "cluster"
        self._way = way_of(location, keys.tag, min(timeout_s, ASK_S))
        self._resolver = Resolver()
        self._redis = self.connect(timeout_s)
        self._free = asyncio.Semaphore(CONNECTIONS_MOST)

    def connect(self, timeout_s: float, single_connection: bool = False) -> redis.asyncio.Redis:
        """Return a client of the library with connections of its own to the same Redis."""
        connect_timeout_s = min(timeout_s, self.timeout_s)
        # Only then may another server be given what this one does not take.
        must_answer = self.is_cluster or (self._servers is not None and self._servers.count > 1)
        return connect(
            self.url,
            self._resolver,
            timeout_s,
            connect_timeout_s,
            single_connection,
            self.peers,
            self._way,
            must_answer,
        )

    @property
    def server(self) -> str:
        """What tells the server of this shard from others: shards may have one in common."""
        return " ".join(sorted(f"{address} {port}" for address, port in self.peers)) or self.url

    async def aclose(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
        await self._resolver.close()

    async def command(self, *arguments: Argument, read: Callable[[Any], Any] = as_it_is) -> Any:
        """Send one command that is safe to send twice; return what `read` makes of its answer (see answer_shape.py)."""

        async def send() -> Any:
            return interpreted(str(arguments[0]), read, await self._execute(*arguments))

        return await self.resending(send)

    async def _execute(self, *arguments: Argument) -> Any:
        """Send a command as the library's `execute_command` does, without its layers for resends and metrics: these
        took a third of the time.

        An error, or a cancellation, closes the connection: so no answer is taken for that of another command.
        """
        connection = await self._connection()
        try:
            await connection.send_command(*arguments)
            return await connection.read_response()
        finally:
            await self._release(connection)

    async def _connection(self) -> Any:
        """Return a connection of the pool, once one is free. Raises Unconnected where the server turns away a new
        one."""
        await self._free.acquire()
        try:
            return await self._redis.connection_pool.get_connection()
        except BaseException as error:
            self._free.release()
            if isinstance(error, RedisError | OSError) and is_turned_away(error):
                raise Unconnected(whole_text(error)) from error
            raise

    async def _release(self, connection: Any) -> None:
        """Give a connection back."""
        try:
            await self._redis.connection_pool.release(connection)
        finally:
            self._free.release()

    async def optional(self, *arguments: Argument, read: Callable[[Any], Any] = as_it_is) -> Any:
        """Send a command that the service can do without. None if Redis refuses it, or `read` does not take its
        answer."""
        [found] = await self.optionals([arguments], read)
        return found

    async def optionals(self, commands: Sequence[Sequence[Argument]], read: Callable[[Any], T]) -> list[T | None]:
        """Send such commands at once; return what each came to."""

        async def send() -> list[T | None]:
            connection = await self._connection()
            try:
                await connection.send_packed_command(connection.pack_commands(commands))
                answers: list[T | None] = []
                for command in commands:
                    try:
                        answers.append(interpreted(str(command[0]), read, await connection.read_response()))
                    except (ResponseError, WrongAnswer):
                        answers.append(None)
                return answers
            finally:
                await self._release(connection)

        return await self.resending(send)

    async def run(self, call: Call, read: Callable[[Any], T]) -> T:
        """Run a script by its digest, or by its text if the server has lost it. Return what `read` makes of its
        answer."""
        return await self.resending(lambda: self._evaluate(call, read))

    async def _evaluate(
        self, call: Call, read: Callable[[Any], T], execute: Callable[..., Awaitable[Any]] | None = None
    ) -> T:
        execute = execute or self._execute
        script, keys, arguments = call
        form = script.in_cluster if self.is_cluster else script
        began_ns = time.monotonic_ns()
        try:
            try:
                answer = await execute("EVALSHA", form.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                answer = await execute("EVAL", form.text, len(keys), *keys, *arguments)
        except ResponseError as error:
            name_command(error, script.text)
            raise
        self._meter.called(script.name, time.monotonic_ns() - began_ns)
        return interpreted(f"the script {script.name}", read, answer)

    async def resending(self, send: Callable[[], Awaitable[T]]) -> T:
        """Await `send()`; once more after a lost connection, and once after the consumer group had to be made.

        At the start, and after an error, it first checks that Redis serves all that the service needs: so no script is
        left half applied because a command is missing. Raises StoreUnavailable, after two time-outs at the latest
        (StoreRefused if Redis says no), or StoreFull.
        """
        has_checked = was_refused = False
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                if self.outage.must_check:
                    await self._check()
                try:
                    return await self._resending(send)
                except StoreRefused as error:
                    was_refused = True
                    if isinstance(error.__cause__, WrongAnswer):
                        # It may have been the answer to another call.
                        await drop_idle(self._redis)
                    # Does Redis refuse all that the service needs, or only this call?
                    await self._check()
                    has_checked = True
                    self.outage.note(error)
                    raise
        except TimeoutError as error:
            self.lost_answers += 1
            late = StoreUnavailable("Redis is not available: no answer in time")
            late.shard = self.outage.shard
            self._meter.add(REDIS_ERRORS, "away")
            self._begin_outage(late)
            self.look_anew(error)
            raise late from error
        except StoreFull:
            self._meter.add(REDIS_ERRORS, "full")
            raise
        except StoreUnavailable as error:
            error.shard = self.outage.shard
            error.was_sent = error.was_sent or was_refused
            self._meter.add(REDIS_ERRORS, "refused" if isinstance(error, StoreRefused) else "away")
            if not has_checked:
                self._begin_outage(error)
                # After a failover the address may lead to another server, but these connections do not. Where nothing
                # was sent, the server took no further connection, but still answers those that it has.
                if error.was_sent:
                    await drop_idle(self._redis)
            raise

    def _begin_outage(self, error: StoreUnavailable) -> None:
        if not self.outage.has_served:
            error.args = (suspected(error, self.url),)
        self.outage.begin(error)

    async def ensure_checked(self) -> None:
        """See, if it is not known, that Redis serves all that the service needs. Raises as `resending` does."""
        if self.outage.must_check:
            await self.resending(self._nothing)

    async def _nothing(self) -> None:
        pass

    async def _check(self) -> None:
        """See that Redis serves all that the service needs. If it does, the outage is over. Raises StoreRefused, or as
        a call."""
        try:
            refused = await self._resending(self._send_check)
        except WrongServer as error:
            if self._servers is not None and self._servers.count > 1:
                error.args = (f"REDIS_URL: {server_of(self.url)}: {error}",)
            raise
        except StoreRefused as error:
            refused = str(error)
        if refused and self._way is not None and moving(ResponseError(refused)):
            raise self.meaning(ResponseError(refused))
        if refused:
            raise StoreRefused(refused + (await place(self._execute) if is_elsewhere(refused) else ""))
        self.outage.end()

    async def _send_check(self) -> str | None:
        return await refusal_of(self.keys, self._execute, self._evaluate, self._servers)

    def lost(self, error: Exception) -> StoreUnavailable | StoreFull:
        """Return what an error of another connection means. The next call first checks what Redis serves."""
        meaning = self.meaning(error)
        self._meter.add(REDIS_ERRORS, "full" if isinstance(meaning, StoreFull) else "away")
        self.outage.must_check = True
        if not isinstance(meaning, StoreRefused | StoreFull):
            self.outage.begin(meaning)
        return meaning

    def meaning(self, error: Exception) -> StoreUnavailable | StoreFull:
        """Return our error for one of Redis. The next connection asks for the master anew if it may be elsewhere."""
        if self._way is None:
            return translated(error)
        code = moving(error)
        if code is not None or is_lost(error):
            self._way.forget(error)
        return away(code) if code else translated(error)

    def look_anew(self, error: Exception) -> None:
        """Have the next call ask where the master is, if that is asked at all."""
        if self._way is not None:
            self._way.forget(error)

    def leads_elsewhere(self, connected: redis.asyncio.Redis) -> bool:
        """Whether a client with a single connection leads to another server than the master by now."""
        return isinstance(connected.connection, FollowingConnection) and not connected.connection.leads_there

    async def _resending(self, send: Callable[[], Awaitable[T]]) -> T:
        was_sent = was_sent_again = has_created_group = False
        while True:
            try:
                return await send()
            except (RedisError, OSError) as error:
                if is_no_group(error) and not has_created_group:
                    has_created_group = True
                    await self.create_group()
                    continue
                self.lost_answers += is_lost(error) or isinstance(error, WrongAnswer)
                was_sent = was_sent or not isinstance(error, Unconnected)
                meaning = self.meaning(error)
                if isinstance(meaning, StoreUnavailable):
                    meaning.was_sent = was_sent
                has_moved = self._way is not None and moving(error) is not None
                if not (is_lost(error) or has_moved) or was_sent_again:
                    raise meaning from error
                was_sent_again = True

    async def create_group(self) -> None:
        """Make the queue and its consumer group if they are missing: at id 0, so that no entry is passed over."""
        try:
            await self._execute("XGROUP", "CREATE", self.keys.queue, GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise self.meaning(error) from error
        except (RedisError, OSError) as error:
            raise self.meaning(error) from error
        else:
            fields = {"queue": self.keys.queue, "group": GROUP}
            if self.outage.has_seen_group:
                logger.warning("group-lost", **fields, warning=_GROUP_LOST)
            else:
                logger.info("group-created", **fields)
        self.outage.has_seen_group = True
        self.outage.changed.set()
