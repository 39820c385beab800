"""The claimer: decides when a shard's queue is asked for tasks, and for how many. What a claim brings is the intake's.

A claim waits in Redis for one entry; the intake then leases and reads that, with what else is in the queue. While there
is a backlog it waits for none, and shards with one take turns (ring.py).
"""

import asyncio
import contextlib
import math

from redis_scheduler.engine.intake import UNBLOCK_INTERVAL_S, UNBLOCKS_MOST, Intake
from redis_scheduler.engine.ring import Turn
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.worker import Worker
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.timing import DEFAULT, Timing

WAITING_PART = 8
"""The claims that wait, of several shards, hold together about so small a part of the slots."""


class Claimer:
    """Has the intake of one shard claim as much as the slots have room for."""

    def __init__(
        self,
        shard: int,
        intake: Intake,
        reader: QueueReader,
        slots: Slots,
        worker: Worker,
        outage: Outage,
        timing: Timing = DEFAULT,
    ) -> None:
        self._shard = shard
        self._intake = intake
        self._reader = reader
        self._slots = slots
        self._worker = worker
        self._ring = worker.ring
        self._outage = outage
        self._timing = timing
        self._outcomes = worker.outcomes[shard]
        self._holdings = self._outcomes.holdings
        self._ended_meanwhile = 0
        """Deliveries that ended while the last claim was under way, at most one for each slot."""

    async def claim_once(self) -> None:
        """Wait for free slots, claim as many entries as fit them, and hand their claims to the worker."""
        await self._intake.may_claim.wait()
        await self._intake.may_go_on.wait()
        if self._most_claims <= 0:
            await self._wait_for_room()
            return
        # Doubtful hosts crowd this worker, which might only send back what it claims: so it does not wait, and
        # workers with room claim first.
        if self._is_busy or self._slots.is_crowded:
            async with self._ring.turn() as turn:
                has_room = await self._claim(turn)
        else:
            has_room = await self._claim(None)
        if not has_room:
            # Not within the turn: others may have room.
            await self._wait_for_room()

    async def _claim(self, turn: Turn | None) -> bool:
        """Claim once: within its turn without waiting, all that there is room for; else what this shard may hold.
        Return whether there was room."""
        if self._intake.is_all_paused or self._worker.is_stopping:
            return True
        slots, holdings, timing = self._slots, self._holdings, self._timing
        room = slots.claimable(self._worker.loading)
        share = self._share_of(room) if turn is None else self._part_of(room)
        limit = min(share, self._most_claims, self._intake.load_limit)
        if limit <= 0:
            return False
        ended, slots.sent_back = slots.ended, 0
        holdings.claim_limit = limit
        try:
            if turn is None:
                count = await self._claim_waiting(limit)
            else:
                turn.hurry(self._expect_none)
                count = await self._intake.claim(limit, self._intake.recoveries)
        except (StoreUnavailable, StoreFull):
            self._intake.may_claim.clear()
            self._intake.must_recover.set()
            self._ring.busy.discard(self._shard)
            raise
        finally:
            holdings.claim_limit = 0
        if count == limit:
            # Where only one more fits that says little: the next claim might be in vain.
            if room > 1:
                self._ring.busy.add(self._shard)
            # There is a backlog: wait until several slots are free, so that one claim fills them.
            if limit == room:
                await asyncio.sleep(timing.gather_s)
            ended_meanwhile = min(slots.ended - ended, slots.concurrency)
            # A claim of few entries takes as long as one of many. By what ended during the last claim alone, every
            # second one would be of few, and the slots would run empty meanwhile.
            slots.coming_free = max(ended_meanwhile, self._ended_meanwhile)
            self._ended_meanwhile = ended_meanwhile
        else:
            self._ring.busy.discard(self._shard)
            slots.coming_free = self._ended_meanwhile = 0
            if slots.is_crowded:
                await asyncio.sleep(timing.courtesy_s)
        return True

    @property
    def _most_claims(self) -> int:
        """How many entries a claim of this shard may bring, whatever the slots have room for: a batch, and none while
        two batches of failures wait for Redis."""
        limit = self._timing.batch_limit
        return min(limit, 2 * limit - len(self._outcomes.unsettled))

    @property
    def _is_busy(self) -> bool:
        return self._shard in self._ring.busy

    async def _wait_for_room(self) -> None:
        self._holdings.has_room.clear()
        await self._holdings.has_room.wait()

    async def _claim_waiting(self, limit: int) -> int:
        """Wait in Redis for an entry, and take it with what else there is; return how many entries that are.

        One alone: until the second call it has no lease, and would be left so by a worker that dies.
        """
        recoveries = self._intake.recoveries
        for entry in await self._reader.claim(1):
            has_ended = self._intake.is_all_paused or self._worker.is_stopping
            return await self._intake.claim(0 if has_ended else limit - 1, recoveries, entry)
        return 0

    def _expect_none(self) -> None:
        """Keep no room any more for what a claim may bring that has no answer."""
        self._holdings.claim_limit = 0
        self._holdings.has_room.set()

    def _share_of(self, room: int) -> int:
        """Return how many entries a claim of this shard that waits may bring, where so many fit the slots.

        Of several shards all that wait hold a small part of them.
        """
        worker = self._worker
        if len(worker.outcomes) == 1:
            return room
        share = min(room - worker.claim_limit, math.ceil(room / (WAITING_PART * len(worker.outcomes))))
        # One at least: of few slots the claims under way might hold all.
        return max(share, min(room, 1))

    def _part_of(self, room: int) -> int:
        """Return how many entries a claim within its turn may bring, where so many fit the slots: no more than twice
        its part of all slots. What comes free at once is not for one alone, turn after turn."""
        part = math.ceil(2 * self._slots.concurrency / max(1, len(self._ring.busy)))
        return min(room, part)

    # The stop

    async def stop(self, loop: asyncio.Task[None]) -> None:
        """End the claim loop, with the answer of a claim under way: dropping its connection would strand entries. A
        Redis that is silent is not waited for longer than for any claim."""
        self._holdings.has_room.set()
        self._intake.may_claim.set()
        self._intake.may_go_on.set()
        with contextlib.suppress(StoreUnavailable, StoreFull, TimeoutError):
            async with asyncio.timeout(0 if self._outage.is_away else UNBLOCKS_MOST * UNBLOCK_INTERVAL_S):
                await self._intake.unblock()
                # Again, should the claim have reached Redis only after the unblocking.
                while not (await asyncio.wait([loop], timeout=UNBLOCK_INTERVAL_S))[0]:
                    await self._intake.unblock()
        loop.cancel()
        self._intake.must_recover.set()
        # It must give its connection back before that is closed.
        await asyncio.wait([loop])
        await self._reader.aclose()
