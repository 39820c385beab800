"""The intake: brings this consumer its claims, hands each to the worker once, and renews their leases.

Claims come in four ways: by the blocked claim, with a promotion, by the sweep, and by a recovery, which looks for
entries that a lost answer brought. All of them meet here.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.worker import Worker
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.claim import Entry
from redis_scheduler.task.timing import DEFAULT, Timing

UNBLOCKS_MOST, UNBLOCK_INTERVAL_S = 60, 0.05
"""A claim that is to end is unblocked so often, and so far apart: longer than any waits in Redis."""


class Intake:
    """Asks one shard for as much as the slots have room for, reads it, and hands it to the worker."""

    def __init__(
        self,
        shard: int,
        claims: Claims,
        reader: QueueReader,
        slots: Slots,
        worker: Worker,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._shard = shard
        self._claims = claims
        self._reader = reader
        self._slots = slots
        self._worker = worker
        self._outcomes = worker.outcomes[shard]
        self._holdings = self._outcomes.holdings
        self._timing = timing
        self._observer = observer
        self.recovered_most = slots.concurrency + timing.batch_limit
        """A recovery looks for so many entries: all that may be here, and a batch."""
        self._calls_that_may_bring_claims = 0
        self.load_limit = timing.batch_limit
        """Entries of one load: fewer after a load that failed."""
        self.recoveries = 0
        """Recoveries that found entries of lost answers, since ever."""
        self.must_recover = asyncio.Event()
        """Set when an answer that brought entries to this consumer may have been lost."""
        self.may_claim = asyncio.Event()
        """Cleared by a claim that failed, until a recovery has seen what it left pending."""
        self.may_claim.set()
        self.is_all_paused = False
        """Whether all is paused, as the last promotion has found."""
        self._may_go_on = asyncio.Event()
        """Cleared while all is paused, and from a start until the first promotion has told whether it is."""
        self._may_go_on.set()
        self.no_claims_coming = asyncio.Event()
        """Cleared while a sweep or a promotion may still bring claims, so that a stop gives these back too."""
        self.no_claims_coming.set()

    # The four ways

    async def claim_once(self) -> None:
        """Wait for free slots, claim as many entries as fit them, and hand their claims to the worker."""
        await self.may_claim.wait()
        await self._may_go_on.wait()
        if self.is_all_paused:  # it stops
            return
        slots, holdings, timing = self._slots, self._holdings, self._timing
        free = slots.claimable(self._worker.loading, timing.batch_limit, len(self._outcomes.unsettled))
        # A share of it: claims of the other shards may be under way.
        limit = math.ceil(free / len(self._worker.outcomes))
        if limit <= 0:
            holdings.has_room.clear()
            await holdings.has_room.wait()
            return
        ended, slots.sent_back = slots.ended, 0
        # Doubtful hosts crowd this worker, which might only send back what it claims: so it does not wait, and
        # workers with room claim first.
        may_wait = not slots.is_crowded
        holdings.claim_limit = limit
        try:
            entries = await self._reader.claim(limit, may_wait)
            await self.take(entries)
        except (StoreUnavailable, StoreFull):
            self.may_claim.clear()
            self.must_recover.set()
            raise
        finally:
            holdings.claim_limit = 0
        if len(entries) == limit:
            # There is a backlog: wait until several slots are free, so that one claim fills them.
            await asyncio.sleep(timing.gather_s)
            slots.coming_free = min(slots.ended - ended, slots.concurrency)
        else:
            slots.coming_free = 0
            if not may_wait:
                await asyncio.sleep(timing.courtesy_s)

    def hold(self) -> None:
        """Claim and sweep nothing until a promotion has told whether all is paused."""
        self._may_go_on.clear()

    async def _note_pause(self, is_all_paused: bool) -> None:
        """Note and tell that all is paused, or goes on. On a pause, end the claim that is under way, too."""
        self.is_all_paused = is_all_paused
        if is_all_paused:
            self._may_go_on.clear()
            for _ in range(UNBLOCKS_MOST):
                await self.unblock()
                if not self._holdings.claim_limit:
                    break
                # Again, should the claim have reached Redis only after the unblocking.
                await asyncio.sleep(UNBLOCK_INTERVAL_S)
        self._observer.all_paused(is_all_paused)

    async def promote(self) -> Promotion:
        """Move what is due into the queue, and hand as many of these tasks to the worker as there is room for."""
        recoveries, asked_at = self.recoveries, asyncio.get_running_loop().time()
        with self._may_bring_claims():
            try:
                promotion = await self._claims.promote(most_claims=self._promotable)
            except StoreUnavailable:
                self._load_less()
                raise
            if promotion.is_all_paused != self.is_all_paused:
                await self._note_pause(promotion.is_all_paused)
            if not promotion.is_all_paused:
                self._may_go_on.set()
            if self.recoveries == recoveries and self._holdings.is_leased_since(asked_at):
                self._worker.accept(promotion.claims, self._shard)
            elif promotion.claims:
                # A recovery may have begun, or even ended, what this old answer tells of. Redis will say what is left.
                self.must_recover.set()
        return promotion

    @property
    def _promotable(self) -> int:
        """Entries that a promotion may claim."""
        # On a link that takes only one record at a time, records would delay the timer.
        if self._worker.is_stopping or not self._holdings.is_leased or self.load_limit == 1:
            return 0
        most = min(self._timing.promoted_most, self.load_limit)
        return self._slots.promotable(self._worker.loading, self._worker.claim_limit, most)

    async def sweep(self) -> Sweep:
        """Take one step of the sweep, and hand what it brings to the worker.

        While nothing may begin here the step takes nothing, but it shows the others that this worker lives.
        """
        with self._may_bring_claims():
            sweep = await self._claims.reclaim(self.reclaimable)
            self._observer.swept(sweep.lost)
            if (limiter := self._worker.limiters.get(self._shard)) is not None:
                limiter.hear(sweep.limits_set)
            await self.take(sweep.entries)
        return sweep

    @property
    def reclaimable(self) -> int:
        """Entries that the sweep may take."""
        if self._worker.is_stopping or not self._holdings.is_leased or not self._may_go_on.is_set():
            return 0
        # A share of it, as of what a claim may bring.
        return math.ceil(self._slots.reclaimable / len(self._worker.outcomes))

    async def recover(self) -> None:
        """Hand entries to the worker that are pending for this consumer though no answer told of them."""
        known = self._holdings.claims.keys() | self._holdings.loading
        entries = await self._claims.pending(len(known) + self.recovered_most, known)
        if len(entries) >= self.recovered_most:
            self.must_recover.set()
        self.recoveries += bool(self._holdings.unknown(entries))
        self.may_claim.set()
        await self.take(entries)

    async def recover_once(self) -> None:
        """Wait until a recovery must be made, or it is time for one; make it."""
        await stop_or_interval(self.must_recover, self._timing.recovery_interval_s)
        self.must_recover.clear()
        try:
            await self.recover()
        except BaseException:
            self.must_recover.set()
            raise
        await asyncio.sleep(self._timing.recovery_pause_s)

    # Where they meet

    async def take(self, entries: Sequence[Entry]) -> None:
        """Load entries that this consumer was given, and hand them to the worker. Entries already in flight are left
        alone: their claim has renewed the lease.

        An entry that is being loaded is not loaded by another. Loads that fail are followed by smaller ones, so that
        large records come through a slow link too.
        """
        holdings = self._holdings
        new = holdings.unknown(entries)
        # A retry may come before the answer to the call that parked it: it is taken after that answer.
        holdings.early += [
            entry
            for entry in entries
            if (claim := holdings.claims.get(entry.id)) and not self._worker.is_running(claim)
        ]
        holdings.loading.update(entry.id for entry in new)
        try:
            while new:
                try:
                    claims, looked_at = await self._claims.load(new[: self.load_limit])
                except StoreUnavailable:
                    self._load_less()
                    self.must_recover.set()
                    raise
                self.load_limit = min(self._timing.batch_limit, 2 * self.load_limit)
                holdings.loading.difference_update(entry.id for entry in new[:looked_at])
                new = new[looked_at:]
                self._worker.accept(claims, self._shard)
        finally:
            holdings.loading.difference_update(entry.id for entry in new)
            holdings.has_room.set()

    def _load_less(self) -> None:
        """Load less after a call that failed: its answer may have been too much for the link."""
        self.load_limit = max(1, self.load_limit // 4)

    async def take_early(self) -> None:
        """Take the retries that came before the answers to the calls that parked them."""
        early, self._holdings.early = self._holdings.early, []
        await self.take(early)

    async def take_early_once(self) -> None:
        """Wait until outcomes are written while retries have come early; take those that may be taken now."""
        await self._holdings.early_written.wait()
        self._holdings.early_written.clear()
        await self.take_early()

    @contextlib.contextmanager
    def _may_bring_claims(self) -> Iterator[None]:
        """Within the block a call is under way that may bring claims: a stop waits for it, and a recovery follows if an
        answer was lost."""
        client = self._claims.client
        lost_before = client.lost_answers
        self._calls_that_may_bring_claims += 1
        self.no_claims_coming.clear()
        try:
            yield
        finally:
            if client.lost_answers != lost_before:
                self.must_recover.set()
            self._calls_that_may_bring_claims -= 1
            if not self._calls_that_may_bring_claims:
                self.no_claims_coming.set()

    async def renew(self) -> None:
        """Renew the leases of all that is here."""
        holdings = self._holdings
        renewed, renewed_at = [*holdings.claims, *holdings.loading], asyncio.get_running_loop().time()
        if renewed:
            lost = set(renewed) - await self._claims.renew(renewed)
            # Another worker has the claims that lost their lease: those that have not begun here must not begin.
            gone = {holdings.claims[entry] for entry in lost if entry in holdings.claims}
            holdings.forget(self._worker.remove(gone, self._shard))
        holdings.renewed_at = renewed_at
        self._worker.fill_slots()

    async def unblock(self) -> None:
        """End a claim that is blocked in Redis. The next begins at once."""
        await self._reader.unblock()

    # The stop

    async def stop_claiming(self, claimer: asyncio.Task[None]) -> None:
        """End the claim loop, with the answer of a claim under way: dropping its connection would strand entries."""
        self._holdings.has_room.set()
        self.may_claim.set()
        self._may_go_on.set()
        for _ in range(UNBLOCKS_MOST):
            try:
                await self.unblock()
            except (StoreUnavailable, StoreFull):
                break
            # Again, should the claim have reached Redis only after the unblocking.
            if (await asyncio.wait([claimer], timeout=UNBLOCK_INTERVAL_S))[0]:
                break
        claimer.cancel()
        self.must_recover.set()
        # It must give its connection back before that is closed.
        await asyncio.wait([claimer])
        await self._reader.aclose()
