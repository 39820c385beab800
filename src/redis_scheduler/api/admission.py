"""How many connections the API takes at once, and which of them it closes for a new one.

A connection is a stranger's unless its latest request has carried a token. When there is no room for a new connection,
a stranger's is closed: of the address that has the most, the oldest idle one (or the oldest, if the first few are
busy). So a client that opens very many loses its own, and a client that brings a token with its first request finds
room. If there are no strangers, a token with rights that has more than its share loses one in the same way. A new
connection is refused only where there is no such token, either.
"""

import asyncio
import socket
from collections import OrderedDict
from itertools import islice
from typing import Protocol

from redis_scheduler.logs import Events

logger = Events(__name__)

HOLDERS_SHARE = 4
"""One address without a token may have a quarter of all connections. (A proxy's are one address.) A token with rights
may have as many where others find no room."""

CONNECTION = "connection"
"""The name of a request's connection in its ASGI state."""

LOOKED_AT = 16
"""So many of a holder's oldest connections are looked at for an idle one."""

FULL_INTERVAL_S = 10.0
"""Between two lines of the log about connections that were closed or refused."""


class Connection(Protocol):
    """A connection that can be closed."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""

    def abort(self) -> None:
        """Close it at once."""


class _ByHolder:
    """Connections by their holder (the address of strangers, or the id of a token with rights), and the holders by how
    many they have: no question looks at all of them.

    Ordered dictionaries: in a plain one finding the first key takes longer, the more keys before it were removed.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, OrderedDict[Connection, None]] = {}
        self._with: dict[int, OrderedDict[bytes, None]] = {}
        """By a number of connections: the holders that have so many. No value is empty."""
        self._most = 0

    def __bool__(self) -> bool:
        return bool(self._of)

    def count(self, holder: bytes) -> int:
        """Return how many a holder has."""
        return len(self._of.get(holder, ()))

    def add(self, connection: Connection, holder: bytes) -> None:
        """Add one, as the newest of its holder."""
        connections = self._of.setdefault(holder, OrderedDict())
        connections[connection] = None
        self._move(holder, len(connections) - 1, len(connections))

    def discard(self, connection: Connection, holder: bytes) -> None:
        """Remove one, if it is there."""
        connections = self._of.get(holder)
        if connections and connection in connections:
            del connections[connection]
            self._move(holder, len(connections) + 1, len(connections))
            if not connections:
                del self._of[holder]

    def _move(self, holder: bytes, before: int, now: int) -> None:
        if before:
            del self._with[before][holder]
            if not self._with[before]:
                del self._with[before]
        if now:
            self._with.setdefault(now, OrderedDict())[holder] = None
        # Counts change by one: if no holder has the most any more, this one has one less.
        if now > self._most or self._most not in self._with:
            self._most = now

    def holder_with_most(self) -> bytes:
        """Return the holder with the most connections; of several the one that reached that number first."""
        return next(iter(self._with[self._most]))

    def oldest_of(self, holder: bytes) -> Connection:
        """Return the oldest idle connection of a holder; if the first few are busy, the oldest."""
        oldest = list(islice(self._of[holder], LOOKED_AT))
        return next((at for at in oldest if at.is_idle), oldest[0])


class Admission:
    """Counts the connections of a process. It keeps those of strangers by address, those of tokens with rights by id,
    the oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limit_of_holder = max(1, limit // HOLDERS_SHARE)
        self._admitted: set[Connection] = set()
        self._strangers, self._of_tokens = _ByHolder(), _ByHolder()
        self._token_of: dict[Connection, bytes] = {}
        self._closed = self._refused = 0
        self._told_at = float("-inf")

    def admit(self, connection: Connection, host: str) -> bytes:
        """Take a connection of a stranger, or abort it. Return its address, for `forget` and `know`."""
        address = network(host)
        if self._strangers.count(address) >= self._limit_of_holder:
            self._close_one_of(self._strangers, address)
        if len(self._admitted) >= self._limit:
            if self._strangers:
                self._close_one_of(self._strangers, self._strangers.holder_with_most())
            elif (token_id := self._token_with_too_many()) is not None:
                self._close_one_of(self._of_tokens, token_id)
            else:
                self._refused += 1
                self._tell()
                connection.abort()
                return address
        self._admitted.add(connection)
        self._strangers.add(connection, address)
        return address

    def know(self, connection: Connection, address: bytes, token_id: bytes = b"") -> None:
        """Note that the connection has carried a token, of this id if it has rights: it is closed for another only
        where such a token has more than its share."""
        self._strangers.discard(connection, address)
        if token_id and connection in self._admitted:
            self._token_of[connection] = token_id
            self._of_tokens.add(connection, token_id)

    def doubt(self, connection: Connection, address: bytes) -> None:
        """Note that the latest request of a connection that has carried a token carries none."""
        if connection in self._admitted:
            self._leave_token(connection)
            self._strangers.add(connection, address)

    def forget(self, connection: Connection, address: bytes) -> None:
        """Note that the connection has ended."""
        self._admitted.discard(connection)
        self._strangers.discard(connection, address)
        self._leave_token(connection)

    def _leave_token(self, connection: Connection) -> None:
        if (token_id := self._token_of.pop(connection, None)) is not None:
            self._of_tokens.discard(connection, token_id)

    def _token_with_too_many(self) -> bytes | None:
        """Return the id of the token that has the most connections, if these are more than its share."""
        token_id = self._of_tokens.holder_with_most() if self._of_tokens else b""
        return token_id if self._of_tokens.count(token_id) > self._limit_of_holder else None

    def _close_one_of(self, by_holder: _ByHolder, holder: bytes) -> None:
        oldest = by_holder.oldest_of(holder)
        self._admitted.discard(oldest)
        by_holder.discard(oldest, holder)
        self._token_of.pop(oldest, None)
        self._closed += 1
        self._tell()
        oldest.abort()

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= FULL_INTERVAL_S:
            self._told_at = now
            fields = {"limit": self._limit, "closed": self._closed, "refused": self._refused}
            logger.warning("connections-full", **fields)


def network(host: str) -> bytes:
    """Return what counts as one address: an IPv4 address, or a /64 of IPv6, the least that one holder has."""
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host.encode()
    mapped = b"\0" * 10 + b"\xff\xff"
    return socket.inet_ntop(socket.AF_INET, packed[12:]).encode() if packed.startswith(mapped) else packed[:8]
