"""Connects to Redis at the address of its name, which is looked up apart from the names of receivers."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import Connection

from redis_scheduler.resolver import NotFound, Resolver


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
