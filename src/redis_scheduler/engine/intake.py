"""What this consumer is given, until it begins: claims, sweeps, promotions and recoveries meet here, and each entry is
loaded and begun once. What no answer told of, since it was lost on the way, is looked for."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.errors import StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.claims import Claims
from redis_scheduler.task.claim import Claim, Entry
from redis_scheduler.task.timing import DEFAULT, Timing


class Intake:
    """Loads what this consumer was given, and hands it to `start`.

    A recovery looks for `concurrency` entries and a batch.
    """

    def __init__(
        self,
        store: Claims,
        holdings: Holdings,
        start: Callable[[Iterable[Claim]], None],
        concurrency: int,
        timing: Timing = DEFAULT,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._start = start
        self._timing = timing
        self._recovered_most = concurrency + timing.batch_limit
        self._calls_that_may_bring_claims = 0
        self.load_limit = timing.batch_limit
        """Entries of one load: fewer after one that failed."""
        self.recoveries = 0
        """Recoveries that found what no answer told of, since ever."""
        self.must_recover = asyncio.Event()
        """Set when entries may be pending for this consumer that no answer told of."""
        self.may_claim = asyncio.Event()
        """Not set from a claim that failed until a recovery has seen what it left."""
        self.may_claim.set()
        self.no_claims_coming = asyncio.Event()
        """Not set while a sweep or a promotion may still bring claims: the last of them must be given back too."""
        self.no_claims_coming.set()

    @contextlib.contextmanager
    def may_bring_claims(self) -> Iterator[None]:
        """Within the block a call is under way that may bring claims: a stop waits for it, and a recovery follows if an
        answer was lost."""
        client = self._store.client
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

    def load_less(self) -> None:
        """After a call that failed: what it brings may be too much for the link."""
        self.load_limit = max(1, self.load_limit // 4)

    async def take(self, entries: Sequence[Entry]) -> None:
        """Load entries that this consumer was given, and start them; what is in flight already was thereby renewed.

        An entry that is being loaded is not loaded by another. Loads that fail are followed by smaller ones, so that
        large records come through a slow link too.
        """
        held = self._holdings
        new = held.unknown(entries)
        # A retry that comes before the answer to its own record: it is taken once that has come.
        held.early += [entry for entry in entries if entry.id in held.claims and entry.id not in held.running]
        held.loading.update(entry.id for entry in new)
        try:
            while new:
                try:
                    claims, looked_at = await self._store.load(new[: self.load_limit])
                except StoreUnavailable:
                    self.load_less()
                    self.must_recover.set()
                    raise
                self.load_limit = min(self._timing.batch_limit, 2 * self.load_limit)
                held.loading.difference_update(entry.id for entry in new[:looked_at])
                new = new[looked_at:]
                self._start(claims)
        finally:
            held.loading.difference_update(entry.id for entry in new)
            held.has_room.set()

    async def take_early(self) -> None:
        """Take what came before the answer to its own record, once that has come."""
        early, self._holdings.early = self._holdings.early, []
        await self.take(early)

    async def take_early_once(self) -> None:
        """Wait until outcomes were written that a retry has come before; take what may be taken now."""
        await self._holdings.early_written.wait()
        self._holdings.early_written.clear()
        await self.take_early()

    async def recover(self) -> None:
        """Start what is pending for this consumer and no answer told of."""
        known = self._holdings.claims.keys() | self._holdings.loading
        entries = await self._store.pending(len(known) + self._recovered_most, known)
        if len(entries) >= self._recovered_most:
            self.must_recover.set()
        self.recoveries += bool(self._holdings.unknown(entries))
        self.may_claim.set()
        await self.take(entries)

    async def recover_step(self) -> None:
        """Wait until a recovery must be made, or it is time for one; make it."""
        await stop_or_interval(self.must_recover, self._timing.recovery_interval_s)
        self.must_recover.clear()
        try:
            await self.recover()
        except BaseException:
            self.must_recover.set()
            raise
        await asyncio.sleep(self._timing.recovery_pause_s)

    async def release_untold(self) -> int:
        """Give back what is pending for this consumer and was never started; return how many."""
        looked_at: set[str] = set()
        released = 0
        while pending := await self._store.pending(self._recovered_most, looked_at):
            claims, count = await self._store.load(pending[: self.load_limit])
            looked_at.update(entry.id for entry in pending[:count])
            released += sum(await self._store.release(claims))
        return released
