"""The delivery slots of a worker: which claim may begin now, and which must not wait here. Knows nothing of Redis and
HTTP.

A delivery that ends before its second period was in time. A host is well when one was in time, and slow while more of
its deliveries run longer than were in time in a period.

Claims that may not begin stand in their host's line, and the lines take turns. A line that does not move would keep
others from being claimed. So it is surplus: it goes back to Redis, to come again at a pace that the slots can hardly
take, and that costs Redis little.
"""

from collections import deque
from collections.abc import Collection

from redis_scheduler.engine.capacity import ASKED_FOR, DOUBTFUL, WELL, Capacity
from redis_scheduler.engine.hosts import Host, Kind
from redis_scheduler.task.claim import Claim

PATIENCE = 2
"""A host that was well may lag for so many periods in a row: meanwhile its line keeps others from being claimed."""

WELL_AGAIN = 1.5
"""A slow host is well again when so many times more of its deliveries were in time in a period than run longer: one on
the edge would change all the time."""


class Slots(Capacity):
    """`concurrency` slots, whose hosts are judged every `period_s`. Times are seconds of one monotonic clock."""

    def add(self, claim: Claim, now: float) -> None:
        """Let a claim stand in its host's line."""
        self._now = now
        record = claim.record
        host = self._hosts.of(record.origin, record.token)
        if not host.line:
            self._lines.append(host)
        host.line.append(claim)
        self._standing += 1
        self.stuck += host.kind is DOUBTFUL
        if host.kind is not WELL and not host.is_slow and host.last_task_key not in ("", claim.key):
            # What was sent back has the same key when it comes again.
            self._become(host, ASKED_FOR)
        host.last_task_key = claim.key
        self._look_again_if_unprobed(host)

    def begin(self, unleased: Collection[int] = ()) -> Claim | None:
        """Return a claim that may begin now, in a slot that it holds until `end`; None if there is none.

        `unleased`: the shards whose leases may have run out. None of their claims begins.
        """
        free = self.concurrency - self.running
        if free <= 0:
            return None
        most = self._most_of_one(free)  # those that are passed over mostly have as many
        for at, host in enumerate(self._lines):
            if host.running < most and self._may_begin(host, free):
                claim = _first_leased(host.line, unleased) if unleased else host.line.popleft()
                if claim is not None:
                    self._lines.rotate(-at)  # those that were passed over come last from now on
                    break
        else:
            return None
        if host.line:
            self._lines.rotate(-1)
        else:
            self._lines.popleft()
        self._begun[claim] = host
        host.held[host.kind] += 1
        host.running += 1
        self.running += 1
        self._standing -= 1
        if host.kind is DOUBTFUL:
            self._doubtful += 1
            self.stuck -= 1
        if self._is_overfull or self.is_crowded:
            self._may_have_surplus = True  # the lines of others may fit no more
        return claim

    def excuse(self, claim: Claim) -> None:
        """Note that from now on not the receiver keeps this claim in its slot."""
        host = self._begun.pop(claim, None) or self._begun_before.pop(claim, None)
        if host is None:
            host = self._overdue.pop(claim)
            host.overdue -= 1
        self._excused[claim] = host

    def end(self, claim: Claim) -> None:
        """Free the slot of a claim that had begun."""
        host = self._begun.pop(claim, None) or self._begun_before.pop(claim, None)
        if host is not None:
            host.in_time = host.in_time + 1 if host.period == self._period_number else 1
            host.period, host.well_at = self._period_number, self._now
            if host.is_slow:
                self._recovering.add(host)
            elif host.kind is not WELL:
                self._become(host, WELL)
        elif claim in self._excused:
            host = self._excused.pop(claim)
        else:
            host = self._overdue.pop(claim)
            host.overdue -= 1
        host.held[host.kind] -= 1
        if host.kind is DOUBTFUL:
            self._doubtful -= 1
        host.running -= 1
        self.running -= 1
        self.ended += 1
        if host.line:
            self._look_again_if_unprobed(host)

    def _look_again_if_unprobed(self, host: Host) -> None:
        """Have the lines looked at if the line of this host may have to go back now."""
        # As _surplus_hosts has it: the line of a host that is well, and is probed or was well lately, stays.
        if host.kind is not WELL:
            self._may_have_surplus = True
        elif host.running <= host.overdue:
            self._lately_from = min(self._lately_from, host.well_at)

    def judge(self, now: float) -> None:
        """Judge the hosts, and begin a period.

        Call it every `period_s` while anything runs or waits, and never sooner: a process that stood still has made no
        receiver slow.
        """
        self._now = now
        for host in self._begun_before.values():
            host.overdue += 1
        self._overdue |= self._begun_before
        self._begun_before, self._begun = self._begun, {}
        for host in {*self._overdue.values(), *self._recovering}:
            in_time = host.in_time if host.period == self._period_number else 0
            lags = in_time < host.overdue * (WELL_AGAIN if host.is_slow else 1)
            if lags and host.lagged != self._period_number - 1:
                host.lags_from = self._period_number
            host.lagged = self._period_number if lags else host.lagged
            # A host that was well may stand still for a while.
            patience = PATIENCE if host.kind is WELL else 1
            self._mark(host, lags and self._period_number - host.lags_from >= patience - 1)
        self._recovering.clear()
        self._period_number += 1
        self._may_have_surplus = True

    def _mark(self, host: Host, is_slow: bool) -> None:
        if is_slow == host.is_slow:
            return
        host.is_slow = is_slow
        self._become(host, DOUBTFUL if is_slow else WELL)
        if host.is_logged_slow and not is_slow:
            host.is_logged_slow = False
            self._observer.receiver_recovered(host.name, host.running)

    def _become(self, host: Host, kind: Kind) -> None:
        if kind is host.kind:
            return
        host.held[host.kind] -= host.running
        host.held[kind] += host.running
        if host.kind is DOUBTFUL:
            self._doubtful -= host.running
            self.stuck -= len(host.line)
        elif kind is DOUBTFUL:
            self._doubtful += host.running
            self.stuck += len(host.line)
            self._may_have_surplus = True  # the slots may be crowded now
        host.kind = kind

    def remove(self, claims: Collection[Claim]) -> list[Claim]:
        """Take those of these claims that stand in lines out of them, and return them."""
        return self._leave([claim for host in self._lines for claim in host.line if claim in claims])

    def clear(self) -> list[Claim]:
        """Take all claims out of the lines, and return them."""
        return self._leave([claim for host in self._lines for claim in host.line])

    def surplus(self, now: float) -> list[tuple[Claim, float]]:
        """Take out the claims that must not wait here, with the seconds until each is to come back."""
        self._now = now
        self._may_have_surplus = False
        found = []
        for host in list(self._surplus_hosts()):
            # A new entry would not know how many workers the task has lost.
            found += [(claim, self._returns.after_s(host, claim, now)) for claim in host.line if claim.tries == 1]
            self._become(host, DOUBTFUL)
            # Not for hosts with one task that hangs and waits for its retry: there may be thousands of them.
            if host.is_slow and host.running and not host.is_logged_slow:
                host.is_logged_slow = True
                self._observer.receiver_slow(host.name, host.running)
        self._leave([claim for claim, _ in found])
        self.sent_back += len(found)
        return found

    def _leave(self, claims: list[Claim]) -> list[Claim]:
        """Take claims that stand in lines out of them, and return them. A host whose line is empty has no turn."""
        gone = set(claims)
        if gone:
            for host in self._lines:
                before = len(host.line)
                host.line = deque(claim for claim in host.line if claim not in gone)
                if host.kind is DOUBTFUL:
                    self.stuck -= before - len(host.line)
            self._lines = deque(host for host in self._lines if host.line)
            self._standing -= len(claims)
        return claims


def _first_leased(line: deque[Claim], unleased: Collection[int]) -> Claim | None:
    """Take the first claim of a shard that is not in `unleased` out of a line."""
    for claim in line:
        if claim.shard not in unleased:
            line.remove(claim)
            return claim
    return None
