"""What all workers saw of hosts lately: what each says of itself (processes.py) has that of its own, which adds up."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.joint import Joint
from redis_scheduler.store.processes import HostTold, ProcessSeen, each_process
from redis_scheduler.task.tally import BUCKETS

KEPT_MOST = 4_000
"""While it is added up, the busier half is kept of more hosts: 1,000 workers may tell of 50 others each."""

FRESH_TIMES, FRESH_MOST_S = 20, 10.0
"""What was read is answered again for so many times as long as the reading took, and at most for so long: however many
ask, the reading takes a twentieth of a core."""


@dataclass(slots=True)
class HostSeen:
    """What all workers saw of a host in the last minutes: attempts under way, those that ended by how long they took,
    how many of these failed, and how many there were in a second; how the last that failed did."""

    running: int = 0
    is_slow: bool = False
    failed: int = 0
    took: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    per_s: float = 0.0
    error: str = ""
    error_ms: int = 0

    @property
    def attempts(self) -> int:
        """How many ended."""
        return sum(self.took)

    @property
    def busy(self) -> int:
        """By how much it is among the busiest."""
        return self.attempts + self.running

    def add(self, told: HostTold, span_ms: int) -> None:
        """Add what a worker saw of it in so many ms."""
        self.running += told.running
        self.is_slow |= told.is_slow
        self.failed += told.failed
        self.took = [a + b for a, b in zip_longest(self.took, told.took[:BUCKETS], fillvalue=0)]
        self.per_s += sum(told.took) * 1000 / max(1000, span_ms)
        if told.error_ms > self.error_ms:
            self.error, self.error_ms = told.error, told.error_ms


class SeenHosts:
    """Reads what the processes of a deployment say of hosts."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._found: dict[str, HostSeen] = {}
        self._fresh_until = 0.0
        self._reading = Joint[dict[str, HostSeen]]("seen-hosts")

    async def all(self) -> dict[str, HostSeen]:
        """Return what workers saw of hosts, by their names. Raises StoreUnavailable."""
        if time.monotonic() < self._fresh_until:
            return self._found
        return await self._reading.answer(self._read)

    async def _read(self) -> dict[str, HostSeen]:
        began, found = time.monotonic(), dict[str, HostSeen]()
        async for one in each_process(self._client):
            add(found, one)
        now = time.monotonic()
        self._found, self._fresh_until = found, now + min(FRESH_MOST_S, FRESH_TIMES * (now - began))
        return found


def chosen(names: Iterable[str], busy: Callable[[str], Any], fails: Callable[[str], bool], most: int) -> list[str]:
    """Return at most so many names of hosts: first those at which most attempts fail, however little is sent there, up
    to half of the names; then the busiest."""
    busiest = sorted(names, key=busy, reverse=True)
    return list(dict.fromkeys([*filter(fails, busiest)][: most // 2] + busiest))[:most]


def worth_telling(seen: Mapping[str, HostSeen], most: int) -> list[str]:
    """Return at most so many names of the hosts, as `chosen` does."""
    return chosen(seen, lambda name: seen[name].busy, lambda name: 2 * seen[name].failed > seen[name].attempts, most)


def add(found: dict[str, HostSeen], process: ProcessSeen) -> None:
    """Add what a process says of hosts to what others said."""
    for told in process.said.hosts:
        found.setdefault(told.host, HostSeen()).add(told, process.said.span_ms)
    if len(found) > KEPT_MOST:
        for name in sorted(found, key=lambda name: found[name].busy)[: KEPT_MOST // 2]:
            del found[name]
