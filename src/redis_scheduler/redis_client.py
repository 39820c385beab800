"""One connection pool to Redis: sends commands and scripts, resends, and says in our own errors what went wrong.

The client library's own resends are off: every script is safe to send twice, and what else is sent here reads only, so a
call that loses its connection is sent once more. What is sent is the matter of store.py, views.py, blocking.py and
audit.py.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

import hiredis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redis_scheduler import keys
from redis_scheduler.errors import NotPermitted, StoreFull, StoreUnavailable
from redis_scheduler.outage import Outage
from redis_scheduler.redis_address import AddressedConnection
from redis_scheduler.resolver import Resolver

logger = logging.getLogger(__name__)

Argument = str | bytes | int | float
T = TypeVar("T")

_LUA = resources.files("redis_scheduler") / "lua"
_INCLUDE = re.compile(r"^--- include (.*)$", re.MULTILINE)


class Script:
    """A Lua script of the package, with what its `--- include` line names put in its place."""

    def __init__(self, name: str) -> None:
        text = (_LUA / f"{name}.lua").read_text()
        self.name = name
        self.text = _INCLUDE.sub(lambda match: "\n".join(map(self._included, match[1].split())), text)
        # SHA-1 is what EVALSHA names scripts by.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @staticmethod
    def _included(name: str) -> str:
        return (_LUA / "include" / f"{name}.lua").read_text()


# Redis serves nobody, or no writes, for now. Inside a script, 6.2 wraps these in a message of its own.
_AWAY = re.compile(
    r"\b(LOADING|BUSY|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|NOAUTH|WRONGPASS|UNBLOCKED)\b"
)


_GROUP_LOST = (
    "Redis was flushed, or the queue's consumer group destroyed: the group is made anew, and the service goes on. "
    "What was flushed is gone; what was in delivery may arrive twice."
)

WRITE_BUFFER_BYTES = 65_536
"""What may stand unsent in a connection before a sender waits for it: asyncio's own limit."""

LOST_CONNECTION = (RedisConnectionError, RedisTimeoutError, OSError)


def is_no_group(error: Exception) -> bool:
    """Whether the queue's consumer group is missing: never made, flushed or destroyed."""
    return isinstance(error, ResponseError) and "NOGROUP" in str(error)


def translated(error: Exception) -> Exception:
    """Return the error of ours that says what this one means; the error itself if it is a fault of the program."""
    if isinstance(error, InvalidResponse):
        return StoreUnavailable("Redis is not available: what answers there does not speak its protocol")
    # The library cuts a code that it knows off the text, and keeps it apart.
    text = f"{getattr(error, 'status_code', None) or ''} {error}".strip()
    if "NOPERM" in text:
        return NotPermitted(text)
    if isinstance(error, LOST_CONNECTION) or _AWAY.search(text):
        return StoreUnavailable(f"Redis is not available: {text}")
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in text:
        return StoreFull()
    return error


class _LeanConnection(AbstractConnection):
    """Mixed into the library's connections: to send costs less there, and an error of uvloop is one of the library's.

    The library packs arguments in Python, and makes a task for each write, to limit its time. Here hiredis packs, and only a
    write that the socket does not take is waited for, as the library does.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent."""
        return [hiredis.pack_command(args)]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what is packed. Raises the library's ConnectionError, or its TimeoutError."""
        # Whoever asks for health checks in REDIS_URL gets them, and the library's way to send.
        writer = None if self.health_check_interval else self._writer
        try:
            if writer is not None and writer.transport.get_write_buffer_size() < WRITE_BUFFER_BYTES:
                writer.writelines(command)
                if writer.transport.get_write_buffer_size() < WRITE_BUFFER_BYTES:
                    return
                command = []
            await super().send_packed_command(command, check_health)
        except (RuntimeError, OSError) as error:
            # RuntimeError: uvloop's, of a connection that was reset while it was idle.
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Connection lost: {error}") from error


class RedisClient:
    """Commands and scripts to one Redis.

    `timeout_s` bounds each send and its answer; a call takes at most two of them. `outage` is told of every call, so that
    the process logs when Redis goes and comes back.
    """

    def __init__(self, url: str, timeout_s: float, outage: Outage | None = None) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._outage = outage or Outage()
        self.lost_answers = 0
        """Sends and connects that were not answered, since ever: a send may have been applied all the same."""
        self._resolver = Resolver()
        self._redis = self.connect(timeout_s)

    def connect(self, timeout_s: float, single_connection: bool = False) -> redis.asyncio.Redis:
        """Return a client of the library: RESP2 answers as they come, no resends, no callbacks."""
        is_unix = self.url.startswith("unix:")
        keepalive = {} if is_unix else {"socket_keepalive": True}
        client = redis.asyncio.Redis.from_url(
            self.url,
            **keepalive,
            protocol=2,
            single_connection_client=single_connection,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(timeout_s, self.timeout_s),
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        pool = client.connection_pool
        mixed_in = (_LeanConnection,) if is_unix else (_LeanConnection, AddressedConnection)
        pool.connection_class = type("Connection", (*mixed_in, pool.connection_class), {"resolver": self._resolver})
        client.response_callbacks.clear()
        return client

    async def aclose(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
        await self._resolver.close()

    async def command(self, *arguments: Argument) -> Any:
        """Send one command that is safe to send twice."""
        return await self.resending(lambda: self._execute(*arguments))

    async def _execute(self, *arguments: Argument) -> Any:
        """Send a command as the library's `execute_command` does, less its layers for resends and metrics: a third of its time.

        An error on the way, a cancellation too, closes the connection: no answer is taken for that of another command.
        """
        pool = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command(*arguments)
            return await connection.read_response()
        finally:
            await pool.release(connection)

    async def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script: by its digest, or by its text where the server has lost it."""

        async def send() -> Any:
            try:
                return await self._execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._execute("EVAL", script.text, len(keys), *keys, *arguments)

        return await self.resending(send)

    async def resending(self, send: Callable[[], Awaitable[T]]) -> T:
        """Await `send()`; once more after a lost connection, and once after the consumer group had to be made.

        Raises StoreUnavailable, after two time-outs at the latest, StoreFull, or the library's error where the fault
        is ours.
        """
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                answer = await self._resending(send)
        except TimeoutError as error:
            self.lost_answers += 1
            away = StoreUnavailable("Redis is not available: no answer in time")
            self._outage.begin(away)
            raise away from error
        except StoreUnavailable as error:
            if not isinstance(error, NotPermitted):
                self._outage.begin(error)
                # The address may lead to another server by now, as after a failover; these connections do not.
                await self._drop_idle_connections()
            raise
        self._outage.end()
        return answer

    async def _drop_idle_connections(self) -> None:
        pool = self._redis.connection_pool
        for connection in list(pool._available_connections):
            # Without waiting for the peer: it may be gone.
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

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
                is_lost = isinstance(error, LOST_CONNECTION)
                self.lost_answers += is_lost
                if not is_lost or has_lost_connection:
                    raise translated(error) from error
                has_lost_connection = True

    async def create_group(self) -> None:
        """Make the queue and its consumer group where they are missing: at id 0, so that no entry is passed over."""
        try:
            await self._execute("XGROUP", "CREATE", keys.QUEUE, keys.GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise translated(error) from error
        except (RedisError, OSError) as error:
            raise translated(error) from error
        else:
            fields = {"queue": keys.QUEUE, "group": keys.GROUP}
            if self._outage.has_seen_group:
                logger.warning("group-lost", extra={"fields": fields | {"warning": _GROUP_LOST}})
            else:
                logger.info("group-created", extra={"fields": fields})
        self._outage.has_seen_group = True
        self._outage.changed.set()
