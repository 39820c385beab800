"""How many connections the API takes at once, and which of them it closes for a new one.

A connection is a stranger's until a request on it has carried the token. Strangers give way: where there is no room, the
oldest of the address that has the most is closed, an idle one first. So whoever opens many closes his own, and who brings
the token with the first request finds room for as long as that request takes. Only where all are known is a new one refused.
"""

import asyncio
import logging
import socket
from typing import Protocol

logger = logging.getLogger(__name__)

STRANGERS_SHARE = 4
"""One address without the token may have a quarter of all connections. (A proxy's are one address.)"""

BECOME_KNOWN = "become_known"
"""Under this name a request's ASGI state has what is called once it carries the token."""

FULL_INTERVAL_S = 10.0
"""Between two lines of the log about connections that were closed or refused."""


class Connection(Protocol):
    """What is closed."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""

    def abort(self) -> None:
        """Close it at once."""


class Admission:
    """Counts the connections of a process, and keeps the strangers' by address, the oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limit_of_address = max(1, limit // STRANGERS_SHARE)
        self._admitted: set[Connection] = set()
        self._strangers: dict[bytes, dict[Connection, None]] = {}
        self._closed = self._refused = 0
        self._told_at = float("-inf")

    def admit(self, connection: Connection, host: str) -> bytes:
        """Take a connection of a stranger, or abort it. Return its address, for `forget` and `know`."""
        address = network(host)
        if len(self._strangers.get(address, ())) >= self._limit_of_address:
            self._close_one_of(address)
        if len(self._admitted) >= self._limit:
            if not self._strangers:
                self._refused += 1
                self._tell()
                connection.abort()
                return address
            self._close_one_of(max(self._strangers, key=lambda at: len(self._strangers[at])))
        self._admitted.add(connection)
        self._strangers.setdefault(address, {})[connection] = None
        return address

    def know(self, connection: Connection, address: bytes) -> None:
        """Note that the connection has carried the token: it is closed for no other."""
        strangers = self._strangers.get(address, {})
        strangers.pop(connection, None)
        if not strangers:
            self._strangers.pop(address, None)

    def forget(self, connection: Connection, address: bytes) -> None:
        """Note that the connection has ended."""
        self._admitted.discard(connection)
        self.know(connection, address)

    def _close_one_of(self, address: bytes) -> None:
        strangers = self._strangers[address]
        oldest = next((at for at in strangers if at.is_idle), next(iter(strangers)))
        self.forget(oldest, address)
        self._closed += 1
        self._tell()
        oldest.abort()

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= FULL_INTERVAL_S:
            self._told_at = now
            fields = {"limit": self._limit, "closed": self._closed, "refused": self._refused}
            logger.warning("connections-full", extra={"fields": fields})


def network(host: str) -> bytes:
    """Return what counts as one address: an IPv4 address, or the /64 that one holder of IPv6 has at least."""
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host.encode()
    mapped = b"\0" * 10 + b"\xff\xff"
    return socket.inet_ntop(socket.AF_INET, packed[12:]).encode() if packed.startswith(mapped) else packed[:8]
