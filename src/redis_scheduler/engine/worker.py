"""The worker: claims entries of the queue, delivers them, and writes each outcome back.

    claim ─► in flight ─► delivered ─► settle
              │  │  └───► failed ────► retry, defer or bury
              │  └─ renewed every few seconds; released when the process stops
              └─ surplus of a slow receiver: defer

A delivery is in flight from its claim until its outcome is written, and no entry is started twice in a process: one
that comes again (reclaimed after a stall, listed after a lost answer) is a renewal.
"""

import asyncio
from collections.abc import Iterable

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.intake import Intake
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.slots import Slots
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.blocking import QueueReader
from redis_scheduler.store.claims import Claims, Promotion
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.retry import RELEASED, SETTLED, Decision, Policy, Transition, before_attempt, decide
from redis_scheduler.task.timing import DEFAULT, Timing


class Worker:
    """Delivers at most `concurrency` tasks at once."""

    def __init__(
        self,
        store: Claims,
        reader: QueueReader,
        deliverer: Deliverer,
        policy: Policy,
        outage: Outage,
        concurrency: int,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._store = store
        self._reader = reader
        self._deliverer = deliverer
        self._policy = policy
        self._outage = outage
        self._concurrency = concurrency
        self._timing = timing
        self._observer = observer
        self._slots = Slots(concurrency, timing.period_s, observer)
        self.holdings = Holdings(timing)
        self._outcomes = Outcomes(store, self.holdings, timing)
        self._next_period: asyncio.TimerHandle | None = None
        self._claim_limit = 0
        """Entries that the claim under way may bring."""
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.retry_parked = self._outcomes.retry_parked
        self.intake = Intake(store, self.holdings, self.start, concurrency, timing)

    @property
    def reclaimable_slots(self) -> int:
        """Entries that the sweep may take."""
        return 0 if self.holdings.is_stopping or not self.holdings.is_leased else self._slots.reclaimable

    @property
    def retry_delay_ms(self) -> int:
        """Between the end of a failed attempt and the next."""
        return self._policy.delay_ms

    async def claim_anew(self) -> None:
        """End a claim that is blocked in Redis; the next begins at once."""
        await self._reader.unblock()

    async def promote(self) -> Promotion:
        """Move what is due into the queue, and begin at once what of it there is room for here."""
        recoveries, asked_at = self.intake.recoveries, asyncio.get_running_loop().time()
        with self.intake.may_bring_claims():
            try:
                promotion = await self._store.promote(self._timing.batch_limit, self._promotable_slots)
            except StoreUnavailable:
                self.intake.load_less()
                raise
            if self.intake.recoveries == recoveries and self.holdings.is_leased_since(asked_at):
                self.start(promotion.claims)
            elif promotion.claims:
                # A recovery may have begun, or even ended, what this answer tells of: Redis will say what is left.
                self.intake.must_recover.set()
        return promotion

    @property
    def _promotable_slots(self) -> int:
        """Entries that a promotion may claim."""
        # A link that takes no more than one record at a time must not hold the timer up with any.
        if self.holdings.is_stopping or not self.holdings.is_leased or self.intake.load_limit == 1:
            return 0
        most = min(self._timing.promoted_most, self.intake.load_limit)
        return self._slots.promotable(len(self.holdings.loading), self._claim_limit, most)

    def start(self, claims: Iterable[Claim]) -> None:
        """Deliver each claim as soon as a slot is free; give it back while stopping."""
        now = asyncio.get_running_loop().time()
        for claim in claims:
            if claim.id in self.holdings.claims:
                continue
            self.holdings.claims[claim.id] = claim
            if (decision := before_attempt(claim, self._timing)) is not None:
                self._unsettle(claim, decision)
            elif self.holdings.is_stopping:
                self._outcomes.release([claim])
            else:
                self._slots.add(claim, now)
        self._fill_slots()

    def _fill_slots(self) -> None:
        while (claim := self._next()) is not None:
            task = self.holdings.running[claim.id] = asyncio.create_task(self._run_slot(claim))
            task.add_done_callback(self._notice_fault)
        self._look_at_lines()

    def _next(self) -> Claim | None:
        """Return what may begin now."""
        return self._slots.begin() if self.holdings.is_leased and not self.holdings.is_stopping else None

    def _look_at_lines(self) -> None:
        if self._slots.has_surplus and self.holdings.is_leased:
            self._give_way()
        if self._next_period is None and (self._slots.running or self._slots.in_line) and not self.holdings.is_stopping:
            self._next_period = asyncio.get_running_loop().call_later(self._timing.period_s, self._on_period)

    def _give_way(self) -> None:
        """Send back what must not wait here."""
        for claim, delay_s in self._slots.surplus(asyncio.get_running_loop().time()):
            self._outcomes.unsettled(Transition.DEFER, Unsettled(claim, b"", round(delay_s * 1000), counts=False))

    def _on_period(self) -> None:
        self._next_period = None
        self._slots.judge(asyncio.get_running_loop().time())
        self._fill_slots()
        self.holdings.has_room.set()

    def _notice_fault(self, task: asyncio.Task[None]) -> None:
        """A delivery never fails but by a fault of the program, which must end it."""
        if not task.cancelled() and (error := task.exception()) and not self._fault.done():
            self._fault.set_exception(error)

    async def _run_slot(self, claim: Claim) -> None:
        """Deliver a claim, and what stands in line for its slot."""
        task = self.holdings.running[claim.id]
        following: Claim | None = claim
        while following is not None:
            await self._deliver(following)
            following = self._next()
            if following is not None:
                self.holdings.running[following.id] = task

    async def _deliver(self, claim: Claim) -> None:
        self._observer.began(claim)
        try:
            outcome = await self._deliverer.attempt(claim)
            if outcome.is_local:
                self._slots.excuse(claim)
                self._observer.given_back(claim, outcome)
                # In its slot, so that a machine out of sockets is not asked for more at once.
                await asyncio.sleep(self._timing.local_fault_pause_s)
        finally:
            del self.holdings.running[claim.id]
            self._slots.end(claim)
        decision = decide(self._policy, outcome, claim.attempts, self._timing)
        if decision is SETTLED:
            self._outcomes.settle(claim)
            self._observer.delivered(claim, outcome)
        elif decision is RELEASED:
            self._outcomes.release([claim])
        else:
            self._unsettle(claim, decision, outcome)
        self.holdings.has_room.set()
        self._look_at_lines()

    def _unsettle(self, claim: Claim, decision: Decision, outcome: Outcome | None = None) -> None:
        """Have it written what was decided of a claim that ends without success; no outcome: without an attempt."""
        unsettled = Unsettled(claim, decision.last_failure, decision.delay_ms, decision.counts)
        self._outcomes.unsettled(decision.transition, unsettled)
        if claim.record.unknown is not None:
            self._observer.left_to_newer(claim, decision)
        else:
            self._observer.unsettled(claim, decision, outcome, self._policy.attempts_left(claim.attempts))

    # Claiming

    async def run_once(self) -> None:
        """Wait for free slots, claim as much as fits them, and start it."""
        await self.intake.may_claim.wait()
        slots = self._slots
        limit = slots.claimable(len(self.holdings.loading), self._timing.batch_limit, len(self._outcomes.failed))
        if limit <= 0:
            self.holdings.has_room.clear()
            await self.holdings.has_room.wait()
            return
        ended, slots.passed = slots.ended, 0
        # This worker might only send back what it claims. So it does not wait there: workers with room come first.
        may_wait = not slots.is_crowded
        self._claim_limit = limit
        try:
            entries = await self._reader.claim(limit, may_wait)
            await self.intake.take(entries)
        except (StoreUnavailable, StoreFull):
            self.intake.may_claim.clear()
            self.intake.must_recover.set()
            raise
        finally:
            self._claim_limit = 0
        if len(entries) == limit:
            # A backlog: let slots gather, so that a round trip serves many deliveries.
            await asyncio.sleep(self._timing.gather_s)
            self._slots.coming_free = min(self._slots.ended - ended, self._concurrency)
        else:
            self._slots.coming_free = 0
            if not may_wait:
                await asyncio.sleep(self._timing.courtesy_s)

    # Leases

    async def renew(self) -> None:
        """Renew the leases of all that is here."""
        renewed, renewed_at = [*self.holdings.claims, *self.holdings.loading], asyncio.get_running_loop().time()
        if renewed:
            lost = set(renewed) - await self._store.renew(renewed)
            # Another has what lost its lease: what has not begun here must not begin.
            self.holdings.forget(self._slots.remove(lost))
        self.holdings.renewed_at = renewed_at
        self._fill_slots()

    # Life

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Work until `stop`, then finish what is in flight within the grace, or until `hurry`; release the rest."""
        finished = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                guard = tasks.create_task(self._await_fault(), name="deliveries")
                writer = tasks.create_task(
                    self._outage.loop(finished, self._outcomes.write_once), name="write-outcomes"
                )
                renewer = tasks.create_task(self._renew_until(finished), name="renew")
                early = tasks.create_task(self._outage.loop(finished, self.intake.take_early_once), name="take-early")
                recoverer = tasks.create_task(self._outage.loop(finished, self.intake.recover_step), name="recover")
                claimer = tasks.create_task(self._outage.loop(stop, self.run_once), name="claim")
                await stop.wait()
                self.holdings.is_stopping = True
                # What has not begun goes to others at once.
                self._outcomes.release(self._slots.clear())
                await self._stop_claiming(claimer)
                await self._drain(hurry, grace_s)
                finished.set()
                for task in (guard, writer, early, renewer, recoverer):
                    task.cancel()
        finally:
            # Also when a task has died: what was delivered must not be delivered again for that.
            self.holdings.is_stopping = True
            await self._cut_off()
            await self._write_last()

    async def _await_fault(self) -> None:
        await self._fault

    async def _renew_until(self, finished: asyncio.Event) -> None:
        async def step() -> None:
            # First, so that a renewal is repeated as soon as an outage is over.
            await self.renew()
            await stop_or_interval(finished, self._timing.renew_interval_s)

        await self._outage.loop(finished, step)

    async def _stop_claiming(self, claimer: asyncio.Task[None]) -> None:
        """End the claim loop, with the answer of a claim under way: dropping its connection would strand entries."""
        self.holdings.has_room.set()
        self.intake.may_claim.set()
        for _ in range(60):
            try:
                await self._reader.unblock()
            except (StoreUnavailable, StoreFull):
                break
            # Again, should the claim have reached Redis only after the unblocking.
            if (await asyncio.wait([claimer], timeout=0.05))[0]:
                break
        claimer.cancel()
        self.intake.must_recover.set()
        # It gives its connection back, before that is closed.
        await asyncio.wait([claimer])
        await self._reader.aclose()

    async def _drain(self, hurry: asyncio.Event, grace_s: float) -> None:
        """Wait for deliveries under way, for the grace at most."""
        if self.holdings.running:
            self._observer.draining(len(self.holdings.running), grace_s)
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(self._all_delivered())
            try:
                await asyncio.wait([hurried, ended], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
                ended.cancel()

    async def _cut_off(self) -> None:
        """End the deliveries that are still under way."""
        running = list(self.holdings.running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _all_delivered(self) -> None:
        while self.holdings.running:
            await asyncio.wait(self.holdings.running.values())

    async def _write_last(self) -> None:
        """Write the outcomes, give back what was not delivered, and leave the group."""
        try:
            async with asyncio.timeout(self._timing.final_writes_s):
                await self._outcomes.write()
                await self.intake.take_early()
                await stop_or_interval(self.intake.no_claims_coming, self._timing.claims_coming_end_s)
                await self._outcomes.write()
                rest = list(self.holdings.claims.values())
                released, limit = 0, self._timing.batch_limit
                for first in range(0, len(rest), limit):
                    released += sum(await self._store.release(rest[first : first + limit]))
                released += await self.intake.release_untold()
                if released:
                    self._observer.released(released)
                await self._store.retire(0, self._store.name)
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            self._observer.stopped_without_redis(len(self.holdings.claims), str(error) or "no answer in time")
