"""The hosts of receivers, and what a worker knows of each. slots.py decides by that."""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from redis_scheduler.host import host_of
from redis_scheduler.task.claim import Claim

HOSTS_MOST = 10_000
"""At most so many hosts are remembered for which nothing runs or waits."""


class Kind(IntEnum):
    """What is known of a host."""

    WELL = 0
    """A delivery to it was in time, and it is not slow."""
    NEW = 1
    """Nothing."""
    ASKED_FOR = 2
    """Only that several tasks came for it, so it may have steady work."""
    DOUBTFUL = 3
    """It is slow; or its line went back, and no delivery was in time since."""


@dataclass(slots=True, eq=False)
class Host:
    """A host, as it serves the tasks of a token: the deliveries that run or wait for it, and what earlier ones told of
    it. Slots keeps it up to date."""

    name: str
    held: list[int]
    """Slots that the hosts of each kind hold whose tasks are of the same token: one list for all of them."""
    token: str | None = None
    kind: Kind = Kind.NEW
    is_slow: bool = False
    is_logged_slow: bool = False
    """Whether the log has said that it is slow, and not that it is well again."""
    running: int = 0
    overdue: int = 0
    """Deliveries that run in their second period, or a later one."""
    in_time: int = 0
    period: int = 0
    """The last period in which deliveries were in time, and how many were."""
    lags_from: int = 0
    lagged: int = -1
    """The first and the last period of a row, each with more deliveries overdue than in time."""
    well_at: float = -math.inf
    """When a delivery was in time last."""
    line: deque[Claim] = field(default_factory=deque)
    returns_at: float = 0
    """When the last of its surplus comes back, while it holds slots."""
    last_task_key: str = ""


class Hosts:
    """The hosts that something came for lately. `held`: slots by kind, for tasks of no token with rights."""

    def __init__(self, held: list[int]) -> None:
        self._held = held
        self._newer: dict[str, Host] = {}
        self._older: dict[str, Host] = {}
        self.tokens: dict[str, list[int]] = {}
        """The same for the tasks of each token."""

    def of(self, origin: str, token: str | None = None) -> Host:
        """Return the host of a webhook with this origin, for the tasks of a token (None: of API_AUTH): the same one
        while anything of it is here."""
        host_name = host_of(origin)
        name = host_name if token is None else f"{token} {host_name}"
        host = self._newer.get(name)
        if host is None:
            if len(self._newer) >= HOSTS_MOST // 2:
                # Forget the hosts that nothing came for since this was done last.
                in_use = {name: host for name, host in self._older.items() if host.running or host.line}
                self._older, self._newer = in_use | self._newer, {}
                self.tokens = {host.token: host.held for host in self._older.values() if host.token is not None}
            known = self._older.pop(name, None)
            held = self._held if token is None else self.tokens.setdefault(token, [0 for _ in Kind])
            host = self._newer[name] = known or Host(host_name, held, token)
        return host

    def busy(self) -> list[Host]:
        """Return the hosts for which something runs or stands in line, and those that are slow."""
        known = (host for hosts in (self._older, self._newer) for host in hosts.values())
        return [host for host in known if host.running or host.line or host.is_slow]
