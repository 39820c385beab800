"""One connection pool to Redis: sends commands and scripts, resends, and says in our own errors what went wrong.

The library's own resends are off. Every script is safe to send twice, and all other commands here only read, so a call
that loses its connection is sent once more. The other files of this room say what is sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import redis.asyncio
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from redis_scheduler.errors import StoreFull, StoreRefused, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.metrics.family import REDIS_ERRORS
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.resolver import Resolver
from redis_scheduler.store.answer_shape import WrongAnswer, as_it_is, interpreted
from redis_scheduler.store.connection import connect, drop_idle
from redis_scheduler.store.keys import GROUP, Keys
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.refusal import is_elsewhere, is_lost, is_no_group, name_command, refused_calls, translated
from redis_scheduler.store.script import Argument, Call, Script

logger = Events(__name__)

T = TypeVar("T")


_CHECK = Script("check")

_GROUP_LOST = (
    "Redis was flushed, or the queue's consumer group destroyed: the group is made anew, and the service goes on. "
    "What was flushed is gone; what was in delivery may arrive twice."
)


class RedisClient:
    """Commands and scripts to one Redis.

    `timeout_s` bounds each send and its answer; a call takes at most two of them. `outage` is told of every call, so
    that the process logs when Redis goes and comes back; `meter` counts calls of scripts, and errors.
    """

    def __init__(
        self, url: str, timeout_s: float, keys: Keys, outage: Outage | None = None, meter: Meter = UNREAD
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.keys = keys
        """The keys of the shard that this Redis holds: whoever has the client names them by it."""
        self.outage = outage or Outage()
        self._meter = meter
        self.lost_answers = 0
        """Sends and connects that were not answered, since ever. A send may have been applied all the same."""
        self.peers: set[tuple[str, int]] = set()
        """Addresses and ports of this Redis: those that were connected to lately."""
        self._resolver = Resolver()
        self._redis = self.connect(timeout_s)

    def connect(self, timeout_s: float, single_connection: bool = False) -> redis.asyncio.Redis:
        """Return a client of the library with connections of its own to the same Redis."""
        connect_timeout_s = min(timeout_s, self.timeout_s)
        return connect(self.url, self._resolver, timeout_s, connect_timeout_s, single_connection, self.peers)

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
        pool = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command(*arguments)
            return await connection.read_response()
        finally:
            await pool.release(connection)

    async def optional(self, *arguments: Argument, read: Callable[[Any], Any] = as_it_is) -> Any:
        """Send a command that the service can do without. None if Redis refuses it, or `read` does not take its
        answer."""

        async def send() -> Any:
            try:
                return interpreted(str(arguments[0]), read, await self._execute(*arguments))
            except (ResponseError, WrongAnswer):
                return None

        return await self.resending(send)

    async def run(self, call: Call, read: Callable[[Any], T]) -> T:
        """Run a script by its digest, or by its text if the server has lost it. Return what `read` makes of its
        answer."""
        return await self.resending(lambda: self._evaluate(call, read))

    async def _evaluate(self, call: Call, read: Callable[[Any], T]) -> T:
        script, keys, arguments = call
        began_ns = time.monotonic_ns()
        try:
            try:
                answer = await self._execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                answer = await self._execute("EVAL", script.text, len(keys), *keys, *arguments)
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
        has_checked = False
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                if self.outage.must_check:
                    await self._check()
                try:
                    return await self._resending(send)
                except StoreRefused as error:
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
            away = StoreUnavailable("Redis is not available: no answer in time")
            self._meter.add(REDIS_ERRORS, "away")
            self.outage.begin(away)
            raise away from error
        except StoreFull:
            self._meter.add(REDIS_ERRORS, "full")
            raise
        except StoreUnavailable as error:
            self._meter.add(REDIS_ERRORS, "refused" if isinstance(error, StoreRefused) else "away")
            if not has_checked:
                self.outage.begin(error)
                # After a failover the address may lead to another server, but these connections do not.
                await drop_idle(self._redis)
            raise

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
            answer = await self._resending(self._send_check)
        except StoreRefused as error:
            refused: str | None = str(error)
        else:
            texts = [text.decode(errors="replace") for text in answer]
            refused = refused_calls(list(zip(texts[::3], texts[1::3], texts[2::3], strict=True)))
        if refused:
            raise StoreRefused(refused + (await self._place() if is_elsewhere(refused) else ""))
        self.outage.end()

    async def _send_check(self) -> list[bytes]:
        # Redis may know the script already, and would not need EVAL for it; but it will for the next one.
        one = await self._execute("EVAL", "return 1", 0)
        of_nobody = {
            "writer": self.keys.writer("", "check"),
            "type_index": self.keys.type_index(""),
            "minute": self.keys.minute(0),
        }
        answer = await self._evaluate(_CHECK.bind(self.keys, **of_nobody, group=GROUP), as_it_is)
        is_table = isinstance(answer, list) and len(answer) % 3 == 0 and all(isinstance(text, bytes) for text in answer)
        if one != 1 or not is_table:
            raise InvalidResponse("not what a script returns")
        return cast(list[bytes], answer)

    async def _place(self) -> str:
        """Return what REDIS_URL leads to if it is no master and Redis says so; else nothing."""
        with contextlib.suppress(RedisError, OSError):
            match await self._execute("ROLE"):
                case [b"sentinel", *_]:
                    return "; this is a Sentinel: REDIS_URL must name the Redis that it watches"
                case [b"slave", bytes(host), port, *_]:
                    return f"; this is a replica of {host.decode(errors='replace')}:{port}"
        return ""

    def lost(self, error: Exception) -> StoreUnavailable | StoreFull:
        """Return what an error of another connection means. The next call first checks what Redis serves."""
        meaning = translated(error)
        self._meter.add(REDIS_ERRORS, "full" if isinstance(meaning, StoreFull) else "away")
        self.outage.must_check = True
        if not isinstance(meaning, StoreRefused | StoreFull):
            self.outage.begin(meaning)
        return meaning

    async def _resending(self, send: Callable[[], Awaitable[T]]) -> T:
        has_lost_connection = has_created_group = False
        while True:
            try:
                return await send()
            except (RedisError, OSError) as error:
                if is_no_group(error) and not has_created_group:
                    has_created_group = True
                    await self.create_group()
                    continue
                self.lost_answers += is_lost(error) or isinstance(error, WrongAnswer)
                if not is_lost(error) or has_lost_connection:
                    raise translated(error) from error
                has_lost_connection = True

    async def create_group(self) -> None:
        """Make the queue and its consumer group if they are missing: at id 0, so that no entry is passed over."""
        try:
            await self._execute("XGROUP", "CREATE", self.keys.queue, GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise translated(error) from error
        except (RedisError, OSError) as error:
            raise translated(error) from error
        else:
            fields = {"queue": self.keys.queue, "group": GROUP}
            if self.outage.has_seen_group:
                logger.warning("group-lost", **fields, warning=_GROUP_LOST)
            else:
                logger.info("group-created", **fields)
        self.outage.has_seen_group = True
        self.outage.changed.set()
