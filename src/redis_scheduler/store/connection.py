"""Connections to Redis: the client library's own, with less work for each command, and a look-up of names that holds up
no thread.

Builds on parts of redis-py that are not public; a new release of it may change them.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from redis_scheduler.resolver import NotFound, Resolver
from redis_scheduler.store.script import Argument


class AddressedConnection(Connection):
    """Mixed into the library's connections (TCP, TLS), which leave look-ups to the event loop and its few threads."""

    resolver: Resolver
    _address = ""

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                addresses = await self.resolver.addresses(self.host)
        except NotFound as error:
            # The library puts each argument into its message.
            raise OSError(error.strerror) from None
        for self._address in addresses:
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except OSError:
                if self._address == addresses[-1]:
                    raise
            else:
                return

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())
        if "ssl" in arguments:
            arguments["server_hostname"] = self.host
        return arguments | {"host": self._address}


WRITE_BUFFER_BYTES = 65_536
"""What may stand unsent in a connection before a sender waits for it: asyncio's own limit."""


class LeanConnection(AbstractConnection):
    """Mixed into the library's connections: to send costs less there, and an error of uvloop is one of the library's.

    The library packs arguments in Python, and makes a task for each write, to limit its time. Here hiredis packs, and only a
    write that the socket does not take is waited for, as the library does.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent."""
        try:
            return [hiredis.pack_command(args)]
        except UnicodeEncodeError:  # see keys.text_of
            return [hiredis.pack_command(tuple(map(_bytes_of, args)))]  # type: ignore[arg-type]

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


def _bytes_of(argument: Argument) -> Argument:
    return argument.encode(errors="surrogateescape") if isinstance(argument, str) else argument
