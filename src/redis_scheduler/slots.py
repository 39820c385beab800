"""The delivery slots of a worker: which claim may begin now, and which must not wait here. Knows nothing of Redis and HTTP.

One receiver must not hold every slot. A host may take one more only while it holds fewer than SHARE times the free ones
(dynamic thresholds, Choudhury and Hahne, 1998): a host alone comes to 8/9 of them. The last tenth is for hosts that hold
few and are not slow, so that any number of slow ones leave it to the others. What may not begin stands in its host's line,
and the lines take turns.

A line moves fast where deliveries are short. Where they are not, all that is claimed would come to stand in that line and
keep others from being claimed; so the line of a slow host is surplus: it goes back to Redis, to come again at a pace that
its slots can hardly take, and that costs Redis little. A host is slow when in TURN_S fewer of its deliveries ended within
TURN_S than it holds slots.
"""

import logging
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from redis_scheduler.store import Claim

logger = logging.getLogger(__name__)

SHARE = 8
"""Slots that a host may hold for each free one."""

LAST_SHARE = 10
"""One slot in so many is for hosts that hold few and are not slow."""

TURN_S = 0.25
"""How long what waits may stand in a line until its host is judged; no slow host has four turns a second."""

RETURNS_PER_SLOT_S = 5
"""Surplus of a host that comes back a second for each slot it holds: more than a slow one can take."""

RETURNS_LEAST_S = 100
RETURN_BYTES_S = 10_000_000
"""However few it holds; and however large they are."""

RETURN_STEP_S = 0.1
"""Surplus comes back in steps of this, so that a step is one batch."""

WELL_AGAIN = 1.5

JUDGED_FOR_S = 60.0
"""A host that was not judged for so long is taken to be well."""

HOSTS_MOST = 10_000
"""Hosts that are remembered; beyond, those with nothing here are forgotten."""


@dataclass(slots=True)
class _Host:
    name: str
    running: int = 0
    line: deque[Claim] = field(default_factory=deque)
    window_from: float = 0
    short: int = 0
    """Deliveries that ended within TURN_S, since `window_from`."""
    is_slow: bool = False
    judged_at: float = 0
    returns_at: float = 0
    """When the last of its surplus comes back."""


class Slots:
    """`concurrency` slots. Times are those of one monotonic clock, in seconds."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._last_share = max(1, concurrency // LAST_SHARE)
        self._hosts: dict[str, _Host] = {}
        self._lines: deque[_Host] = deque()
        """Hosts with a line, the next to be served first."""
        self.running = 0
        self._running_slow = 0
        self.waiting = 0
        """Claims that stand in a line."""
        self.ended = 0
        """Deliveries that have ended, since ever."""
        self.turns = 0
        """Slots that come free while a claim is under way: so many may stand in line for them."""

    @property
    def free(self) -> int:
        """Slots that nothing runs in and nothing waits for, those included that come free while one asks."""
        return self._concurrency - self.running - self.waiting + self.turns

    @property
    def reserve(self) -> int:
        """Slots to keep for what is reclaimed: a ninth, one at least; none of one or two.

        So one claim brings no host more than it may begin. Where slow hosts crowd the others, a ninth of what they leave.
        """
        shared = self._concurrency - (self._running_slow if self.is_crowded else 0)
        return max(1, shared // (SHARE + 1)) if shared > 2 else 0

    @property
    def is_crowded(self) -> bool:
        """Whether few slots are free and slow hosts hold some: what is claimed for them may only have to go back.

        The last tenth is not for slow hosts; few is twice that, so that one delivery that ends does not change it at once.
        """
        few = max(2, 2 * self._concurrency // LAST_SHARE)
        return self._running_slow > 0 and self._concurrency - self.running <= few

    @property
    def has_surplus(self) -> bool:
        """Whether the line of a slow host must go back."""
        return any(host.is_slow for host in self._lines)

    def _may_begin(self, host: _Host) -> bool:
        free = self._concurrency - self.running
        if free <= self._last_share and self._concurrency > 1:
            return not host.is_slow and host.running < max(1, free // 2)
        return host.running < SHARE * free

    def add(self, claim: Claim) -> None:
        """Let a claim stand in its host's line."""
        name = host_of(claim.record.webhook)
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= HOSTS_MOST:
                self._hosts = {name: host for name, host in self._hosts.items() if host.running or host.line}
            host = self._hosts[name] = _Host(name)
        if not host.line:
            self._lines.append(host)
        host.line.append(claim)
        self.waiting += 1

    def begin(self) -> Claim | None:
        """Return a claim that may begin now, in a slot that it holds until `end`; None if there is none."""
        for _ in range(len(self._lines) if self.running < self._concurrency else 0):
            host = self._lines.popleft()
            claim = host.line.popleft() if self._may_begin(host) else None
            if host.line:
                self._lines.append(host)
            if claim is not None:
                host.running += 1
                self.running += 1
                self._running_slow += host.is_slow
                self.waiting -= 1
                return claim
        return None

    def end(self, claim: Claim, elapsed_s: float) -> None:
        """Free the slot of a claim that was begun."""
        host = self._hosts[host_of(claim.record.webhook)]
        host.running -= 1
        host.short += elapsed_s <= TURN_S
        self.running -= 1
        self._running_slow -= host.is_slow
        self.ended += 1

    def remove(self, ids: Collection[str]) -> list[Claim]:
        """Take the claims of these entries out of the lines, and return them."""
        return self._leave([claim for host in self._lines for claim in host.line if claim.id in ids])

    def clear(self) -> list[Claim]:
        """Take out all that stands in a line, and return it."""
        return self._leave([claim for host in self._lines for claim in host.line])

    def surplus(self, now: float) -> list[tuple[Claim, float]]:
        """Take out what must not wait here, with the seconds until it is to come back."""
        found = []
        for host in self._lines:
            self._judge(host, now)
            interval_s = 1 / max(RETURNS_LEAST_S, RETURNS_PER_SLOT_S * host.running)
            for claim in host.line if host.is_slow else ():
                # In a new entry it would not be known how many workers it has lost.
                if claim.claims > 1:
                    continue
                sending_s = len(claim.record.data or b"") / RETURN_BYTES_S
                host.returns_at = max(host.returns_at + max(interval_s, sending_s), now + TURN_S)
                found.append((claim, math.ceil((host.returns_at - now) / RETURN_STEP_S) * RETURN_STEP_S))
        self._leave([claim for claim, _ in found])
        return found

    def _judge(self, host: _Host, now: float) -> None:
        """Judge a host that has a line by a window of one turn, or two; in a longer one it had none."""
        window_s = now - host.window_from
        if window_s < TURN_S:
            return
        was_slow = host.is_slow
        if window_s <= 2 * TURN_S:
            # Well again with half as much more, so that one on the edge does not change all the time.
            host.is_slow, host.judged_at = host.short < host.running * (WELL_AGAIN if was_slow else 1), now
        elif now - host.judged_at > JUDGED_FOR_S:
            host.is_slow = False
        host.window_from, host.short = now, 0
        if host.is_slow == was_slow:
            return
        self._running_slow += host.running if host.is_slow else -host.running
        event = "receiver-slow" if host.is_slow else "receiver-recovered"
        logger.warning(event, extra={"fields": {"host": host.name, "in_flight": host.running}})

    def _leave(self, claims: list[Claim]) -> list[Claim]:
        gone = {claim.id for claim in claims}
        if gone:
            for host in self._lines:
                host.line = deque(claim for claim in host.line if claim.id not in gone)
            self._lines = deque(host for host in self._lines if host.line)
            self.waiting -= len(claims)
        return claims


def host_of(webhook: str) -> str:
    """Return host and port of a URL that was checked when it was scheduled."""
    authority = webhook.split("/", 3)[2]
    if "?" in authority or "#" in authority:
        authority = authority.replace("#", "?").partition("?")[0]
    return authority.lower()
