"""The delivery slots of a worker: which claim may begin now, and which must not wait here. Knows nothing of Redis and
HTTP.

No host may hold every slot, nor may many hosts that hang. A host may take one more slot only while it holds fewer than
SHARE times the free ones (dynamic thresholds, Choudhury and Hahne, 1998). The same limit holds for all slow hosts
together, and for all unknown hosts together. The last slots are kept for hosts that are well, some of them for those
that were well within a second: these find a slot, however many others hang.

A delivery that ends before its second period was in time. A host is well when one was in time, and slow while more of
its deliveries run longer than were in time in a period.

Claims that may not begin stand in their host's line, and the lines take turns. A line that does not move would keep
others from being claimed. So it is surplus: it goes back to Redis, to come again at a pace that the slots can hardly
take, and that costs Redis little.
"""

import math
from collections import deque
from collections.abc import Collection, Iterator

from redis_scheduler.engine.hosts import Host, Hosts, Kind
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.surplus import LATELY_S, Returns
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.timing import DEFAULT

SHARE = 8
"""Slots that a host, or all hosts of a kind, may hold for each free one."""

LAST_SHARE = 10
"""One slot in so many is for hosts that hold few."""

KEPT_SHARE = 20
"""One slot in so many is for hosts that are well, and half of these for those that were lately."""

SLOTS_FEW = 8
"""With fewer slots not every kind of host can have one of its own."""

PATIENCE = 2
"""A host that was well may lag for so many periods in a row: meanwhile its line keeps others from being claimed."""

WELL_AGAIN = 1.5
"""A slow host is well again when so many times more of its deliveries were in time in a period than run longer: one on
the edge would change all the time."""

PROMOTED_SHARE = 10
"""One slot in so many may be taken with promotions, beyond those that the claim under way may bring."""

WELL, NEW, ASKED_FOR, DOUBTFUL = Kind


class Slots:
    """`concurrency` slots, whose hosts are judged every `period_s`. Times are seconds of one monotonic clock."""

    def __init__(self, concurrency: int, period_s: float = DEFAULT.period_s, observer: Observer = NOBODY) -> None:
        self.concurrency = concurrency
        self._observer = observer
        self._last_share = max(1, concurrency // LAST_SHARE) if concurrency > 1 else 0
        self._kept = concurrency // KEPT_SHARE or int(concurrency > 3)
        self._hosts = Hosts()
        self._held = [0 for _ in Kind]
        """Slots that the hosts of each kind hold."""
        self._lines: deque[Host] = deque()
        """Hosts with a line, the next to be served first."""
        self._now = -math.inf
        self._period_number = 0
        self._begun: dict[Claim, Host] = {}
        self._begun_before: dict[Claim, Host] = {}
        self._overdue: dict[Claim, Host] = {}
        """The claims that run: begun in this period, in the last, and before."""
        self._excused: dict[Claim, Host] = {}
        self._recovering: set[Host] = set()
        """Slow hosts with a delivery in time in this period."""
        self._returns = Returns(concurrency, period_s)
        self._crowded_at = max(2, 2 * concurrency // LAST_SHARE)
        """The slots are crowded when no more than so many are free."""
        self._may_have_surplus = False
        """Whether a line may have to go back. Set by every change that can cause it, cleared by a look."""
        self._lately_from = math.inf
        """The earliest `well_at` of hosts whose lines stay only for that: a second later they may have to go back."""
        self._is_overfull = False
        """Whether lines did not fit at the last look: in another order of the lines they may be others."""
        self.running = 0
        self._standing = 0
        self.stuck = 0
        """Claims in line that doubtful hosts keep from beginning, and that cannot go back."""
        self.ended = 0
        """Deliveries that have ended, since ever."""
        self.coming_free = 0
        """Slots that come free while a claim is under way: so many claims may stand in line for them."""
        self.sent_back = 0
        """Claims that went back as surplus since this was last set to 0."""

    @property
    def in_line(self) -> int:
        """Claims that stand in line for a slot, without those that are stuck: these delay no others."""
        return self._standing - self.stuck

    @property
    def free(self) -> int:
        """Slots in which nothing runs and for which nothing waits, with those that come free while a claim is under
        way."""
        return self.concurrency - self.running - self.in_line + self.coming_free

    @property
    def reserve(self) -> int:
        """How many slots a claim leaves free for the sweep, and the sweep for claims: a ninth, one at least; none of
        one or two. While doubtful hosts crowd the slots, a ninth of those that they do not hold.

        A host may hold eight of nine slots. So one claim brings no host more than it may begin.
        """
        shared = self.concurrency - (self._held[DOUBTFUL] if self.is_crowded else 0)
        return max(1, shared // (SHARE + 1)) if shared > 2 else 0

    def claimable(self, loading: int, batch_limit: int, unwritten: int) -> int:
        """Return how many entries a claim may bring, where so many are loading and so many failures unwritten.

        At least one when idle, even if it must wait: else a new host would never be probed. Where the last claim
        brought surplus, more are claimed to reach the tasks behind that; but not while many claims wait in lines. A
        batch at most, and none (0 or less) while two batches of failures wait for Redis.
        """
        limit = max(self.free - self.reserve - loading, int(self.free > 0 and not self.in_line and not loading))
        if self.in_line <= self.coming_free + self.reserve:
            limit += 2 * self.sent_back
        return min(limit, batch_limit, 2 * batch_limit - unwritten)

    def promotable(self, loading: int, claim_limit: int, most: int) -> int:
        """Return how many entries a promotion may claim, `most` at most, where the claim under way may bring
        `claim_limit`.

        None while doubtful hosts crowd the slots: other workers come first.
        """
        if self.is_crowded:
            return 0
        free = self.free - self.reserve - loading
        share = self.concurrency // PROMOTED_SHARE - max(0, claim_limit - free)
        return max(0, min(share, free, most))

    @property
    def reclaimable(self) -> int:
        """How many entries the sweep may take: as many as slots are free besides the reserve. At least the reserve, as
        far as it is free; at least one if no claim stands in line."""
        wanted = max(self.free - self.reserve, min(self.free, self.reserve), int(not self.in_line))
        # Tasks of lost workers come in no other way; but the stuck ones among them must not pile up.
        return max(0, min(wanted, self.concurrency - self.stuck))

    @property
    def is_crowded(self) -> bool:
        """Whether few slots are free and doubtful hosts hold some: what is claimed for them may only have to go back.

        Few is twice the last tenth, so that one delivery that ends does not change it at once.
        """
        return self._held[DOUBTFUL] > 0 and self.concurrency - self.running <= self._crowded_at

    @property
    def has_surplus(self) -> bool:
        """Whether a line must go back.

        All lines are looked at only after something that can make one surplus.
        """
        if self._may_have_surplus or self._now - self._lately_from >= LATELY_S:
            self._may_have_surplus = any(True for _ in self._surplus_hosts())
        return self._may_have_surplus

    def _surplus_hosts(self) -> Iterator[Host]:
        """Yield the hosts whose lines go back to `due`.

        A host is probed while it is not slow and one of its deliveries may still end in time. The line of a host

        - that is slow goes back;
        - that is well, and is probed or was well within the last second, stays;
        - that is probed stays; where doubtful hosts crowd the slots, only while such lines fit the free slots;
        - that is neither stays while such lines fit the reserve; where doubtful hosts crowd the slots, it goes back.
        """
        room = None
        self._lately_from = math.inf
        for host in self._lines:
            is_probed = not host.is_slow and host.running > host.overdue
            if is_probed and host.kind is WELL:
                continue
            if room is None:
                is_crowded = self.is_crowded
                room = self.concurrency - self.running if is_crowded else max(1, self.reserve)
            if is_probed and not is_crowded:
                continue
            if self._is_well_lately(host):
                self._lately_from = min(self._lately_from, host.well_at)
                continue
            if not host.is_slow and (is_probed or not is_crowded):
                room -= len(host.line)
                if room >= 0:
                    continue
            yield host
        self._is_overfull = room is not None and room < 0

    def _is_well_lately(self, host: Host) -> bool:
        return host.kind is WELL and self._now - host.well_at < LATELY_S

    def _may_begin(self, host: Host) -> bool:
        free = self.concurrency - self.running
        if host.running >= (SHARE * free if free > self._last_share else max(1, free // 2)):
            return False
        if host.kind is WELL:
            return free > self._kept // 2 or self._is_well_lately(host)
        room = SHARE * (free - self._kept - self._left_by(host))
        if host.kind is ASKED_FOR and free > max(1, self._kept // 2):
            room = max(1, room)
        return self._held[host.kind] < room

    def _left_by(self, host: Host) -> int:
        """Return how many more free slots this host must leave, if it is not well, so that a new host can be probed:
        two, if it holds some or is slow; one, if nothing tells of steady work."""
        if self.concurrency < SLOTS_FEW:
            return int(host.is_slow and self.concurrency > 1)
        return 2 if host.running or host.is_slow else int(host.kind is not ASKED_FOR)

    def add(self, claim: Claim, now: float) -> None:
        """Let a claim stand in its host's line."""
        self._now = now
        host = self._hosts.of(claim.record.origin)
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
        for _ in range(len(self._lines) if self.running < self.concurrency else 0):
            host = self._lines.popleft()
            claim = None
            if self._may_begin(host):
                claim = _first_leased(host.line, unleased) if unleased else host.line.popleft()
            if host.line:
                self._lines.append(host)
            if claim is not None:
                self._begun[claim] = host
                self._held[host.kind] += 1
                host.running += 1
                self.running += 1
                self._standing -= 1
                self.stuck -= host.kind is DOUBTFUL
                if self._is_overfull or self.is_crowded:
                    self._may_have_surplus = True  # the lines of others may fit no more
                return claim
        return None

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
        self._held[host.kind] -= 1
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
        if host.is_told and not is_slow:
            host.is_told = False
            self._observer.receiver_recovered(host.name, host.running)

    def _become(self, host: Host, kind: Kind) -> None:
        if kind is host.kind:
            return
        self._held[host.kind] -= host.running
        self._held[kind] += host.running
        if host.kind is DOUBTFUL:
            self.stuck -= len(host.line)
        elif kind is DOUBTFUL:
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
            if host.is_slow and host.running and not host.is_told:
                host.is_told = True
                self._observer.receiver_slow(host.name, host.running)
        self._leave([claim for claim, _ in found])
        self.sent_back += len(found)
        return found

    def _leave(self, claims: list[Claim]) -> list[Claim]:
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
