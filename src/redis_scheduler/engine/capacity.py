"""How many claims may begin, or come, beside those that hold slots. Slots goes by it. Knows nothing of Redis and HTTP.

No host may hold every slot, nor may many hosts that hang. A host may take one more slot only while it holds fewer than
SHARE times the free ones (dynamic thresholds, Choudhury and Hahne, 1998). The same limit holds for all slow hosts
together, and for all unknown hosts together. The last slots are kept for hosts that are well, some of them for those
that were well within a second: these find a slot, however many others hang.

Where tokens with rights are in use, each shares slots by the same rules: its hosts are its own, and all of them
together leave the last slots to those of others. So a token with a thousand hosts that hang gets what one host gets.
"""

import math
from collections import deque
from collections.abc import Iterator

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

PROMOTED_SHARE = 10
"""One slot in so many may be taken with promotions, beyond those that the claim under way may bring."""

WELL, NEW, ASKED_FOR, DOUBTFUL = Kind


class Capacity:
    """What `concurrency` slots and the lines before them have room for. Slots keeps it up to date."""

    def __init__(self, concurrency: int, period_s: float = DEFAULT.period_s, observer: Observer = NOBODY) -> None:
        self.concurrency = concurrency
        self._observer = observer
        self._last_share = max(1, concurrency // LAST_SHARE) if concurrency > 1 else 0
        self._kept = concurrency // KEPT_SHARE or int(concurrency > 3)
        self._held = [0 for _ in Kind]
        """Slots that the hosts of each kind hold, for tasks of no token with rights."""
        self._left_by_tokens = self._kept + (2 if concurrency >= SLOTS_FEW else int(concurrency > 1))
        """Free slots that each token leaves, so that a new host of another finds one."""
        self._hosts = Hosts(self._held)
        self._doubtful = 0
        """Slots that doubtful hosts hold, for whatever tasks."""
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
    def busy_hosts(self) -> list[Host]:
        """The hosts for which something runs or stands in line, and those that are slow; one for each token."""
        return self._hosts.busy()

    @property
    def has_tokens(self) -> bool:
        """Whether tasks of tokens with rights came lately."""
        return bool(self._hosts.tokens)

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
        shared = self.concurrency - (self._doubtful if self.is_crowded else 0)
        return max(1, shared // (SHARE + 1)) if shared > 2 else 0

    def claimable(self, loading: int) -> int:
        """Return how many entries claims may bring, where so many are loading; none if it is 0 or less.

        At least one when idle, even if it must wait: else a new host would never be probed. Where the last claim
        brought surplus, more are claimed to reach the tasks behind that; but not while many claims wait in lines.
        """
        limit = max(self.free - self.reserve - loading, int(self.free > 0 and not self.in_line and not loading))
        if self.in_line <= self.coming_free + self.reserve:
            limit += 2 * self.sent_back
        return limit

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
        return self._doubtful > 0 and self.concurrency - self.running <= self._crowded_at

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

    def _most_of_one(self, free: int) -> int:
        """Return how many slots a host may hold where so many are free."""
        return SHARE * free if free > self._last_share else max(1, free // 2)

    def _may_begin(self, host: Host, free: int) -> bool:
        """Whether a host that holds few enough slots may have one of so many that are free."""
        if self._hosts.tokens and self._has_its_share(host, free):
            return False
        if host.kind is WELL:
            return free > self._kept // 2 or self._is_well_lately(host)
        room = SHARE * (free - self._kept - self._left_by(host))
        if host.kind is ASKED_FOR and free > max(1, self._kept // 2):
            room = max(1, room)
        return host.held[host.kind] < room

    def _has_its_share(self, host: Host, free: int) -> bool:
        """Whether the token whose tasks a host serves may hold no more slots. It leaves the last ones to tokens that
        hold few."""
        return sum(host.held) >= max(SHARE * (free - self._left_by_tokens), free // 2, 1)

    def _left_by(self, host: Host) -> int:
        """Return how many more free slots this host must leave, if it is not well, so that a new host can be probed:
        two, if it holds some or is slow; one, if nothing tells of steady work."""
        if self.concurrency < SLOTS_FEW:
            return int(host.is_slow and self.concurrency > 1)
        return 2 if host.running or host.is_slow else int(host.kind is not ASKED_FOR)
