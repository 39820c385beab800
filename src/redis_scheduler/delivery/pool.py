"""Idle connections to receivers, and how long each receiver was seen to leave them open.

A request that meets the receiver's close is lost: nobody can say whether it was read. So a connection is used again
only if its receiver was seen to leave one open for a while, and only for half the time after which it was seen to close
one. Why these rules: docs/decisions/0001-kept-connections.md.
"""

import asyncio
import time
from dataclasses import dataclass, field

from redis_scheduler.delivery.connection import Connection

KEEPALIVE_S = 4.0
"""An idle connection is kept so long: less than common servers keep it (5 s)."""

REST_S = 0.05
"""A receiver must have left a connection open for so long, the first time and after a close."""

BEHIND_S = 1.0
"""A sooner close counts as following the answer; a later one as a time-out of idle connections."""

AGE_MOST_S = 60.0
"""A connection is used so long at most: so the new address of a name is followed while the receiver is busy, too."""

IDLE_MOST = 2_000
"""Idle connections in all: each is a socket."""

HOSTS_MOST = 10_000
"""So many receivers are remembered."""

LOOK_S = 1.0
"""The time between two looks for connections that have been idle for too long."""

Key = tuple[str, int, bool]
"""A receiver: host, port, and whether it speaks TLS."""


@dataclass(slots=True)
class _Host:
    """What is known of a receiver, and its idle connections, the longest idle first.

    A connection is used again after `rest_s` of idleness, which becomes 0 once one was still open after so long. A
    receiver that closes behind its answers never gets there: each delivery to it has a connection of its own.
    """

    rest_s: float = REST_S
    keep_s: float = KEEPALIVE_S
    idle: list[Connection] = field(default_factory=list)

    def learn_of_close(self, idle_s: float) -> None:
        """Learn from a close by the receiver, `idle_s` after its last answer."""
        if idle_s < BEHIND_S:
            # Four times as long: a receiver is not always as quick.
            self.rest_s = max(REST_S, 4 * idle_s)
        else:
            self.keep_s = min(self.keep_s, idle_s / 2)


class Pool:
    """The idle connections. Nothing here waits."""

    def __init__(self) -> None:
        self._hosts: dict[Key, _Host] = {}
        self._idle: dict[Connection, _Host] = {}
        """All of them, the longest idle first."""
        self._look: asyncio.TimerHandle | None = None

    def take(self, key: Key) -> Connection | None:
        """Hand out a connection that may be used again; None if there is none."""
        host = self._hosts.get(key)
        while host is not None and host.idle:
            now = time.monotonic()
            # The one that was used last is the least likely to be closed at this moment.
            connection = host.idle[0 if host.rest_s else -1]
            idle_s = now - connection.idle_since
            if idle_s < host.rest_s or idle_s > host.keep_s:
                return None
            self._remove(connection)
            if not connection.is_open:
                host.learn_of_close(idle_s)
            elif now - connection.opened_at <= AGE_MOST_S:
                host.rest_s = 0
                return connection
            connection.abort()
        return None

    def give_back(self, key: Key, connection: Connection) -> None:
        """Keep a connection whose answer has ended, or close it."""
        connection.idle_since = time.monotonic()
        if not connection.is_reusable or len(self._idle) >= IDLE_MOST:
            connection.abort()
            return
        host = self._idle[connection] = self._host(key)
        host.idle.append(connection)
        connection.on_lost = self._on_lost
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._close_the_longest_idle)

    def learn_of_close(self, key: Key, connection: Connection) -> None:
        """Learn from a kept connection that was closed before the answer."""
        self._host(key).learn_of_close(time.monotonic() - connection.idle_since)

    def _host(self, key: Key) -> _Host:
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= HOSTS_MOST:
                self._hosts = {key: host for key, host in self._hosts.items() if host.idle}
            host = self._hosts[key] = _Host()
        return host

    def _remove(self, connection: Connection) -> _Host:
        connection.on_lost = None
        host = self._idle.pop(connection)
        if host.idle[-1] is connection:  # most often
            host.idle.pop()
        else:
            host.idle.remove(connection)
        return host

    def _on_lost(self, connection: Connection) -> None:
        self._remove(connection).learn_of_close(time.monotonic() - connection.idle_since)

    def _close_the_longest_idle(self) -> None:
        now = time.monotonic()
        for connection in list(self._idle):
            if now - connection.idle_since < KEEPALIVE_S:
                break
            # The receiver left it open for as long as any is kept.
            self._remove(connection).keep_s = KEEPALIVE_S
            connection.abort()
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_S, self._close_the_longest_idle) if self._idle else None

    async def aclose(self) -> None:
        """Close all that is idle."""
        if self._look is not None:
            self._look.cancel()
        for connection in list(self._idle):
            self._remove(connection)
            connection.abort()
        # Their sockets are closed in the loop's next round.
        await asyncio.sleep(0)
