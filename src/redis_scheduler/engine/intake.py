"""The intake: brings this consumer its claims, hands each to the worker once, and renews their leases.

Claims come in four ways: by a claim, for which the claimer asks, with a promotion, by the sweep, and by a recovery,
which looks for entries that a lost answer brought. All of them meet here.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.worker import Worker
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claiming import Promotion
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.sweep import Sweep
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.timing import DEFAULT, Timing

UNBLOCKS_MOST, UNBLOCK_INTERVAL_S = 60, 0.05
"""A claim that is to end is unblocked so often, and so far apart: longer than any waits in Redis."""


class Intake:
    """Makes the calls by which claims of one shard come, and hands the claims to the worker."""

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
        self._recover_from = asyncio.get_running_loop().time() + timing.recovery_interval_s
        """When a recovery is made though nothing asks for it, if anything is pending for this consumer."""
        self.may_claim = asyncio.Event()
        """Cleared by a claim that failed, until a recovery has seen what it left pending."""
        self.may_claim.set()
        self.is_all_paused = False
        """Whether all is paused, as the last promotion has found."""
        self._has_lines = False
        """Whether tasks stand in lines of tokens, as the last look has found."""
        self.may_go_on = asyncio.Event()
        """Cleared while all is paused, and from a start until the first promotion has told whether it is."""
        self.may_go_on.set()
        self.no_claims_coming = asyncio.Event()
        """Cleared while a sweep or a promotion may still bring claims, so that a stop gives these back too."""
        self.no_claims_coming.set()

    # The four ways

    async def claim(self, limit: int, recoveries: int, waited: Entry | None = None) -> int:
        """Claim, lease and read at most `limit` entries of the queue, and the one that was waited for since so many
        recoveries; load those that are not read yet. Return how many entries that are."""
        asked_at = asyncio.get_running_loop().time()
        with self._may_bring_claims():
            try:
                claimed = await self._claims.claim(limit, waited)
            except StoreUnavailable:
                self._load_less()
                raise
            self._load_more()
            self._accept(claimed.claims, recoveries, asked_at)
            await self.take(claimed.rest)
        return len(claimed.claims) + len(claimed.rest)

    def go_on_after_promotion(self) -> None:
        """Claim and sweep nothing until a promotion has told whether all is paused."""
        self.may_go_on.clear()

    async def _note_pause(self, is_all_paused: bool) -> None:
        """Note and tell that all is paused, or goes on. On a pause, end the claim that is under way, too."""
        self.is_all_paused = is_all_paused
        if is_all_paused:
            self.may_go_on.clear()
            for _ in range(UNBLOCKS_MOST):
                await self.unblock()
                if not self._holdings.claim_limit:
                    break
                # Again, should the claim have reached Redis only after the unblocking.
                await asyncio.sleep(UNBLOCK_INTERVAL_S)
        self._observer.all_paused(is_all_paused, self._shard if self._timing.served.joined > 1 else None)

    async def promote(self) -> Promotion:
        """Move what is due into the queue, and hand as many of these tasks to the worker as there is room for."""
        recoveries, asked_at = self.recoveries, asyncio.get_running_loop().time()
        with self._may_bring_claims():
            try:
                in_turn = self._has_lines or self._slots.has_tokens
                promotion = await self._claims.promote(most_claims=self._promotable, in_turn=in_turn)
            except StoreUnavailable:
                self._load_less()
                raise
            if promotion.is_all_paused != self.is_all_paused:
                await self._note_pause(promotion.is_all_paused)
            if not promotion.is_all_paused:
                if not self.may_go_on.is_set():
                    self._outcomes.must_look.set()  # sweeps go on, too
                self.may_go_on.set()
            self._accept(promotion.claims, recoveries, asked_at)
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
        """Look at the shard, with a step of the sweep, and hand what it brings to the worker.

        While nothing may begin here the step takes nothing, but it shows the others that this worker lives. What is
        pending for this worker may be more than it knows: now and then it has a recovery made.
        """
        with self._may_bring_claims(), self._sweeping() as limit:
            sweep = await self._claims.look(limit)
            self._observer.swept(sweep.lost)
            self._has_lines = sweep.has_lines
            if sweep.held and asyncio.get_running_loop().time() >= self._recover_from:
                self.must_recover.set()
            if (limiter := self._worker.limiters.get(self._shard)) is not None:
                limiter.hear(sweep.limits_set)
            await self.take(sweep.entries)
        return sweep

    @contextlib.contextmanager
    def _sweeping(self) -> Iterator[int]:
        """Within the block a step of the sweep may bring so many entries, and no step of another shard these. For a
        moment only: a shard may not answer."""
        holdings, loop = self._holdings, asyncio.get_running_loop()
        limit = holdings.sweep_limit = self.reclaimable

        def end() -> None:
            holdings.sweep_limit = 0

        timer = loop.call_later(self._timing.turn_s, end)
        try:
            yield limit
        finally:
            timer.cancel()
            end()

    @property
    def reclaimable(self) -> int:
        """Entries that the sweep may take."""
        if self._worker.is_stopping or not self._holdings.is_leased or not self.may_go_on.is_set():
            return 0
        limit = self._slots.reclaimable
        # All of it for one shard at a time.
        return max(limit - self._worker.sweep_limit, min(limit, 1))

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
        """Wait until a recovery must be made; make it."""
        await self.must_recover.wait()
        self.must_recover.clear()
        self._recover_from = asyncio.get_running_loop().time() + self._timing.recovery_interval_s
        try:
            await self.recover()
        except BaseException:
            self.must_recover.set()
            raise
        await asyncio.sleep(self._timing.recovery_pause_s)

    # Where they meet

    def _accept(self, claims: Sequence[Claim], recoveries: int, asked_at: float) -> None:
        """Hand to the worker what an answer brought that was asked for then, after so many recoveries."""
        if self.recoveries == recoveries and self._holdings.is_leased_since(asked_at):
            self._worker.accept(claims, self._shard)
        elif claims:
            # A recovery may have begun, or even ended, what this old answer tells of. Redis will say what is left.
            self.must_recover.set()

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
                self._load_more()
                holdings.loading.difference_update(entry.id for entry in new[:looked_at])
                new = new[looked_at:]
                self._worker.accept(claims, self._shard)
        finally:
            holdings.loading.difference_update(entry.id for entry in new)
            holdings.has_room.set()

    def _load_less(self) -> None:
        """Load less after a call that failed: its answer may have been too much for the link."""
        self.load_limit = max(1, self.load_limit // 4)

    def _load_more(self) -> None:
        """Load more again after a call that came through."""
        self.load_limit = min(self._timing.batch_limit, 2 * self.load_limit)

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
