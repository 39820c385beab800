"""The worker: begins claims in its slots, has them attempted, and hands on the outcomes.

    claim ─► in flight ─► delivered ─► settle, or again
              │  │  └───► failed ────► retry, defer, bury or expire
              │  └─ renewed every few seconds; released when the process stops
              └─ surplus of a slow receiver: defer

A delivery is in flight from its claim until its outcome is written, and no entry begins twice in a process: one that
comes again (reclaimed after a stall, listed after a lost answer) is a renewal.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.ends import Ends
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.ring import Ring
from redis_scheduler.engine.shard_limiter import ShardLimiter
from redis_scheduler.engine.slots import Slots
from redis_scheduler.task.acknowledgement import concluded
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.retry import FIRED, Transition, before_attempt, too_late
from redis_scheduler.task.timing import DEFAULT, Timing


class Worker:
    """Attempts what `accept` is given, as the slots allow. It asks for nothing: intakes bring the claims.

    `outcomes` are those of each shard that it serves, by its number; there may come more.
    """

    def __init__(
        self,
        deliverer: Deliverer,
        policy: Policy,
        slots: Slots,
        outcomes: Mapping[int, Outcomes],
        has_room: asyncio.Event,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._deliverer = deliverer
        self._policy = policy
        self._slots = slots
        self.outcomes = outcomes
        self._ends = Ends(policy, outcomes, timing, observer)
        self.limiters: dict[int, ShardLimiter] = {}
        """Those of each shard, which are asked before a claim begins that is under a limit."""
        self.ring = Ring(timing)
        """The shards that have more than they were given, and their turns."""
        self.is_limited = False
        """Whether anything is limited, or what is has not ended yet: else a delivery costs no more than this look."""
        self._has_room = has_room
        self._timing = timing
        self._observer = observer
        self._next_period: asyncio.TimerHandle | None = None
        self._running: dict[Claim, asyncio.Task[None]] = {}
        """The asyncio tasks of attempts under way."""
        self.is_stopping = False
        """Nothing begins any more."""
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with a fault of the program in a delivery: that must end the process."""

    @property
    def loading(self) -> int:
        """Entries whose records are being read and claims that ask, of all shards: they will take slots."""
        asking = sum(limiter.loading for limiter in self.limiters.values())
        return asking + sum(len(outcomes.holdings.loading) for outcomes in self.outcomes.values())

    @property
    def claim_limit(self) -> int:
        """Entries that the claims under way may bring, of all shards."""
        return sum(outcomes.holdings.claim_limit for outcomes in self.outcomes.values())

    @property
    def sweep_limit(self) -> int:
        """Entries that the sweeps under way may bring, of all shards."""
        return sum(outcomes.holdings.sweep_limit for outcomes in self.outcomes.values())

    def is_running(self, claim: Claim) -> bool:
        """Whether an attempt of a claim is under way."""
        return claim in self._running

    def accept(self, claims: Iterable[Claim], shard: int = 0) -> None:
        """Deliver each claim of a shard as soon as a slot is free; give it back while stopping."""
        now, outcomes = asyncio.get_running_loop().time(), self.outcomes[shard]
        held, now_ms = outcomes.holdings.claims, outcomes.now_ms
        limiter = self._limiter_on(shard) if self.is_limited else None
        for claim in claims:
            if claim.id in held:
                continue
            held[claim.id] = claim
            claim.shard = shard
            if claim.mark and (outcome := concluded(claim, now_ms())) is not None and claim.record.unknown is None:
                self._ends.conclude(claim, outcome)
            elif (decision := before_attempt(self._policy, claim, now_ms, self._timing)) is not None:
                if decision is FIRED:
                    outcomes.fire(claim)
                else:
                    self._ends.unsettle(claim, decision)
            elif self.is_stopping:
                self._ends.release([claim])
            elif limiter is None or not limiter.asks(claim):
                self._slots.add(claim, now)
        self.fill_slots()

    def _limiter_on(self, shard: int) -> ShardLimiter | None:
        limiter = self.limiters.get(shard)
        return limiter if limiter is not None and limiter.is_on else None

    def look_at_limits(self) -> None:
        """Look whether anything is limited still, or again."""
        self.is_limited = any(limiter.is_used for limiter in self.limiters.values())

    def go_on(self, claims: Iterable[Claim]) -> None:
        """Let claims stand in line that their limits let begin; give them back while stopping."""
        now = asyncio.get_running_loop().time()
        for claim in claims:
            if self.is_stopping:
                self._end_permit(claim)
                self._ends.release([claim])
            else:
                self._slots.add(claim, now)
        self.fill_slots()

    def _end_permit(self, claim: Claim) -> None:
        limiter = self.limiters.get(claim.shard)
        if limiter is not None and limiter.begun:
            limiter.end(claim)

    def remove(self, claims: Collection[Claim], shard: int) -> list[Claim]:
        """Take those of these claims that have not begun out of the lines, and return them."""
        found = self._slots.remove(claims)
        for claim in found:
            self._end_permit(claim)
        limiter = self.limiters.get(shard)
        return found if limiter is None else found + limiter.remove(claims)

    def fill_slots(self) -> None:
        """Begin what stands in line and may begin."""
        while (claim := self._next()) is not None:
            self._running[claim] = asyncio.create_task(self._run_slot(claim))
        self._look_at_lines()

    def _next(self) -> Claim | None:
        """Return a claim that may begin now, or None."""
        if self.is_stopping:
            return None
        for outcomes in self.outcomes.values():
            if not outcomes.holdings.is_leased:
                unleased = self._unleased()
                return self._slots.begin(unleased) if len(unleased) < len(self.outcomes) else None
        return self._slots.begin()

    def _unleased(self) -> Collection[int]:
        """Return the shards whose claims may be another worker's by now."""
        return [shard for shard, outcomes in self.outcomes.items() if not outcomes.holdings.is_leased]

    def _look_at_lines(self) -> None:
        slots = self._slots
        if slots.has_surplus and len(self._unleased()) < len(self.outcomes):
            self._give_way()
        if self._next_period is None and (slots.running or slots.in_line) and not self.is_stopping:
            self._next_period = asyncio.get_running_loop().call_later(self._timing.period_s, self._on_period)

    def _give_way(self) -> None:
        """Send back claims that must not wait here."""
        for claim, delay_s in self._slots.surplus(asyncio.get_running_loop().time()):
            self._end_permit(claim)
            surplus = Unsettled(claim, b"", round(delay_s * 1000), counts=False)
            self.outcomes[claim.shard].unsettle(Transition.DEFER, surplus)

    def _on_period(self) -> None:
        self._next_period = None
        self._slots.judge(asyncio.get_running_loop().time())
        self.fill_slots()
        self._has_room.set()

    async def _run_slot(self, claim: Claim) -> None:
        """Deliver a claim, and after it those that stand in line for its slot. A delivery fails only by a fault of the
        program, which must end it."""
        task = self._running[claim]
        begun: Claim | None = claim
        try:
            while begun is not None:
                await self._deliver(begun)
                begun = self._next()
                if begun is not None:
                    self._running[begun] = task
        except Exception as error:  # a callback of the task costs 0.2 us, this nothing
            if not self.fault.done():
                self.fault.set_exception(error)

    async def _deliver(self, claim: Claim) -> None:
        outcomes = self.outcomes[claim.shard]
        # It may have stood in line since it was accepted.
        if (decision := too_late(self._policy, claim, outcomes.now_ms)) is not None:
            self._slots.excuse(claim)
            self._free(claim)
            self._ends.unsettle(claim, decision)
            return
        self._observer.began(claim)
        try:
            outcome = await self._deliverer.attempt(claim)
            if outcome.is_local:
                self._slots.excuse(claim)
                self._observer.given_back(claim, outcome)
                # The claim keeps its slot meanwhile: a machine without free sockets must not be asked for more at once.
                await asyncio.sleep(self._timing.local_fault_pause_s)
        finally:
            self._free(claim)
        if self.is_limited and (is_well := outcome.is_well) is not None:
            self.limiters[claim.shard].judge(claim, is_well)
        self._ends.conclude(claim, outcome)
        self._has_room.set()
        self._look_at_lines()

    def _free(self, claim: Claim) -> None:
        del self._running[claim]
        self._slots.end(claim)
        if self.is_limited:
            self._end_permit(claim)

    # The stop

    def stop(self) -> None:
        """Begin nothing any more. Claims in line go to other workers at once."""
        self.is_stopping = True
        self._ends.release(self._slots.clear())
        for limiter in self.limiters.values():
            self._ends.release(limiter.clear())

    async def drain(self, hurry: asyncio.Event, grace_s: float) -> None:
        """Wait for deliveries under way: for the grace at most, or until `hurry`."""
        if self._running:
            self._observer.draining(len(self._running), grace_s)
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(self._all_delivered())
            try:
                await asyncio.wait([hurried, ended], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
                ended.cancel()

    async def _all_delivered(self) -> None:
        while self._running:
            await asyncio.wait(self._running.values())

    async def cut_off(self) -> None:
        """End the deliveries that are still under way, and begin none."""
        self.is_stopping = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
