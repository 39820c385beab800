"""Connections to Redis: the client library's own, with less work for each command, and names looked up without threads.

This file and answer.py use parts of redis-py that are not public. pyproject.toml bounds its version for them, and
tests/unit/test_libraries.py names those that a release has changed.
"""

import asyncio
import contextlib
import copy
import functools
import os
import ssl
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

import hiredis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from redis_scheduler.resolver import NotFound, Resolver
from redis_scheduler.store import url as redis_url
from redis_scheduler.store.answer import BoundedParser
from redis_scheduler.store.script import Argument
from redis_scheduler.store.url import Address
from redis_scheduler.store.way import Credentials, Way

CONNECTIONS_MOST = 100
"""A client has so many connections at one time: a call beyond them waits for one that is free."""

PEERS_MOST = 100
"""So many addresses of a Redis are remembered."""


class AddressedConnection(Connection):
    """Mixed into the library's connections (TCP, TLS), which leave look-ups to the event loop and its few threads."""

    resolver: Resolver
    peers: set[tuple[str, int]]
    _address: str
    """Of those of the host the one that is connected to."""

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                addresses = await self.resolver.addresses(self.host)
        except NotFound as error:
            # The library puts each argument into its message.
            raise OSError(error.strerror) from None
        try:
            if len(addresses) == 1:
                [self._address] = addresses
                await super()._connect()  # type: ignore[no-untyped-call]  # the library's
            else:
                # Those that answered before come first.
                known = self.peers
                await self._connect_to_first(sorted(addresses, key=lambda address: (address, self.port) not in known))
        except OSError as error:
            # asyncio tells the address once more.
            if error.errno and (error.strerror or "").startswith("Connect call failed"):
                raise OSError(error.errno, os.strerror(error.errno)) from None
            raise
        if len(self.peers) >= PEERS_MOST:
            self.peers.clear()
        self.peers.add((self._address, self.port))

    async def _connect_to_first(self, addresses: Sequence[str]) -> None:
        """Connect to the first address that a connection leads to, TLS included: some may be silent, and all have the
        time of one."""
        within_s, failed = cast(float, self.socket_connect_timeout), list[BaseException]()
        try:
            async with asyncio.timeout(within_s):
                one = await _first(map(self._connected_to, addresses), within_s / (len(addresses) + 1), failed)
        except OSError as error:
            # What tells most: an address was reached, and has a wrong certificate.
            raise next((one for one in failed if isinstance(one, ssl.SSLError)), error) from None
        self._address, self._reader, self._writer = one._address, one._reader, one._writer
        one._reader = one._writer = None

    async def _connected_to(self, address: str) -> "AddressedConnection":
        """Return a connection like this one, to one address."""
        one = copy.copy(self)
        one._address = address
        await super(AddressedConnection, one)._connect()  # type: ignore[no-untyped-call]  # the library's
        return one

    def _host_error(self) -> str:
        return redis_url.host_and_port(self.host, self.port)

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments()) | {"host": self._address}
        if "ssl" in arguments:
            arguments["server_hostname"] = self.host
        return arguments


async def _first(
    tries: Iterator[Coroutine[Any, Any, AddressedConnection]], share_s: float, failed: list[BaseException]
) -> AddressedConnection:
    """Return the first connection that any of the tries makes; close the others. A try begins when one fails, and so
    many seconds after the one before it. Where all have failed the first error is raised; `failed` gets each."""
    begun: list[asyncio.Task[AddressedConnection]] = []
    pending = set[asyncio.Task[AddressedConnection]]()
    try:
        while True:
            coming = next(tries, None)
            if coming is not None:
                begun.append(asyncio.create_task(coming, name="redis-address"))
                pending.add(begun[-1])
            elif not pending:
                raise failed[0]
            wait_s = None if coming is None else share_s
            done, pending = await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is None:
                    return task.result()
                failed.append(error)
    finally:
        for task in begun:
            task.cancel()
            task.add_done_callback(_close)


def _close(task: asyncio.Task[AddressedConnection]) -> None:
    """Close the connection that a try made, unless its streams were taken."""
    if not task.cancelled() and task.exception() is None:
        task.result()._close()  # type: ignore[no-untyped-call]  # the library's


class FollowingConnection(AddressedConnection):
    """Mixed into connections that ask where the master is, each time they connect."""

    way: Way

    def _host_error(self) -> str:
        # It does not stand in REDIS_URL.
        return f"{super()._host_error()} (named by {self.way.named_by})"

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect to the master, unless this connection leads there. Raises RedisError or OSError."""
        if self.is_connected:
            if self.leads_there:
                return
            await self.disconnect(nowait=True)
        self.host, self.port = await self.way.master()
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
            if self.way.sees_role:
                await self._see_role()
        except (RedisError, OSError) as error:
            self.way.forget(error)
            await self.disconnect(nowait=True)
            raise

    @property
    def leads_there(self) -> bool:
        """Whether it leads to where the master was found last."""
        return (self.host, self.port) == self.way.address

    async def _see_role(self) -> None:
        await self.send_command("ROLE", check_health=False)
        try:
            role, *_ = await self.read_response()
        except ResponseError:  # the user may not ask
            return
        if role != b"master":
            raise RedisConnectionError(f"{self._host_error()} is no master yet, or no more")


async def _ask(
    kind: type[Connection], options: Mapping[str, Any], address: Address, shown: Credentials, *command: str
) -> Any:
    """Send one command over a connection of its own, which is made as those to the servers are."""
    given = dict(options) | {"host": address[0], "port": address[1], "db": 0}
    if shown is not None:
        given["username"], given["password"] = shown
    connection = kind(**given)
    try:
        await connection.connect()
        await connection.send_command(*command)
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)


WRITE_BUFFER_BYTES = 65_536
"""What may stand unsent in a connection before a sender waits for it: asyncio's own limit."""


class LeanConnection(AbstractConnection):
    """Mixed into the library's connections: to send costs less there, and an error of uvloop is one of the library's.

    The library packs arguments in Python, and makes a task for each write, to limit its time. Here hiredis packs, and
    only a write that the socket does not take is waited for, as the library does.
    """

    must_answer: bool
    """Whether Redis must answer on a new connection before a call is sent there."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent."""
        try:
            return [hiredis.pack_command(args)]
        except UnicodeEncodeError:  # see keys.text_of
            return [hiredis.pack_command(tuple(map(_bytes_of, args)))]  # type: ignore[arg-type]  # any iterable

    async def can_read(self) -> bool:
        """Whether anything stands in the way of a command; then the pool connects anew. Raises ConnectionError where
        the connection was reset while it was idle: the library knows only of an end."""
        if self._writer is not None and self._writer.is_closing():
            raise RedisConnectionError("Connection reset")
        return await super().can_read()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, as the library does; then, with `must_answer`, ask for the time. A server that turns a connection
        away takes it first: what it is sent before it has answered anything may be lost."""
        await super().on_connect_check_health(check_health)
        if self.must_answer:
            await self.send_command("TIME", check_health=False)
            with contextlib.suppress(ResponseError):
                await self.read_response()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what is packed. Raises the library's ConnectionError, or its TimeoutError."""
        writer = self._writer
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


def connect(
    url: str,
    resolver: Resolver,
    timeout_s: float,
    connect_timeout_s: float,
    single_connection: bool = False,
    peers: set[tuple[str, int]] | None = None,
    way: Way | None = None,
    must_answer: bool = False,
) -> redis.asyncio.Redis:
    """Return a client of the library: RESP2 answers as they come, no resends, no callbacks.

    `timeout_s` bounds each send and each answer. `peers` gets each address and port that is connected to. `way`: how
    the master is found, where the URL does not name it. `must_answer`: whether Redis must answer on a new connection
    before a call is sent there.
    """
    url = redis_url.location_of(url).url
    is_unix = url.startswith("unix:")
    keepalive = {} if is_unix else {"socket_keepalive": True}
    client = redis.asyncio.Redis.from_url(
        url,
        **keepalive,
        protocol=2,
        parser_class=BoundedParser,
        single_connection_client=single_connection,
        max_connections=CONNECTIONS_MOST,
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_timeout_s,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )
    pool = client.connection_pool
    if is_unix:
        # The library takes what is no UTF-8 in the name of a folder for another character.
        pool.connection_kwargs["path"] = os.fsdecode(unquote_to_bytes(urlsplit(url).path))
    mixed_in = (LeanConnection,) if is_unix else (LeanConnection, AddressedConnection)
    kind = pool.connection_class = type(
        "Connection",
        (*mixed_in, pool.connection_class),
        {"resolver": resolver, "peers": set() if peers is None else peers, "must_answer": must_answer},
    )
    if way is not None:
        way.ask = functools.partial(_ask, kind, pool.connection_kwargs)
        pool.connection_class = type("Connection", (FollowingConnection, kind), {"way": way})
    client.response_callbacks.clear()
    return client


async def drop_idle(client: redis.asyncio.Redis) -> None:
    """End the connections that no call uses, without waiting for the peer: it may be gone."""
    for connection in list(client.connection_pool._available_connections):
        with contextlib.suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)


def _bytes_of(argument: Argument) -> Argument:
    return argument.encode(errors="surrogateescape") if isinstance(argument, str) else argument
