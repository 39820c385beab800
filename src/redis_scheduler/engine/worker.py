"""The worker: begins claims in its slots, has them attempted, and hands on the outcomes.

    claim ─► in flight ─► delivered ─► settle
              │  │  └───► failed ────► retry, defer or bury
              │  └─ renewed every few seconds; released when the process stops
              └─ surplus of a slow receiver: defer

A delivery is in flight from its claim until its outcome is written, and no entry begins twice in a process: one that
comes again (reclaimed after a stall, listed after a lost answer) is a renewal.
"""

import asyncio
from collections.abc import Iterable

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.slots import Slots
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.retry import RELEASED, SETTLED, Decision, Policy, Transition, before_attempt, decide
from redis_scheduler.task.timing import DEFAULT, Timing


class Worker:
    """Attempts what `begin` is given, as the slots allow. It asks for nothing: the intake brings the claims."""

    def __init__(
        self,
        deliverer: Deliverer,
        policy: Policy,
        slots: Slots,
        outcomes: Outcomes,
        holdings: Holdings,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._deliverer = deliverer
        self._policy = policy
        self._slots = slots
        self._outcomes = outcomes
        self._holdings = holdings
        self._timing = timing
        self._observer = observer
        self._next_period: asyncio.TimerHandle | None = None
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with a fault of the program in a delivery: that must end the process."""

    def begin(self, claims: Iterable[Claim]) -> None:
        """Deliver each claim as soon as a slot is free; give it back while stopping."""
        now, holdings = asyncio.get_running_loop().time(), self._holdings
        for claim in claims:
            if claim.id in holdings.claims:
                continue
            holdings.claims[claim.id] = claim
            if (decision := before_attempt(claim, self._timing)) is not None:
                self._unsettle(claim, decision)
            elif holdings.is_stopping:
                self._outcomes.release([claim])
            else:
                self._slots.add(claim, now)
        self.fill_slots()

    def fill_slots(self) -> None:
        """Begin what stands in line and may begin."""
        while (claim := self._next()) is not None:
            task = self._holdings.running[claim.id] = asyncio.create_task(self._run_slot(claim))
            task.add_done_callback(self._notice_fault)
        self._look_at_lines()

    def _next(self) -> Claim | None:
        """Return a claim that may begin now, or None."""
        return self._slots.begin() if self._holdings.is_leased and not self._holdings.is_stopping else None

    def _look_at_lines(self) -> None:
        slots, holdings = self._slots, self._holdings
        if slots.has_surplus and holdings.is_leased:
            self._give_way()
        if self._next_period is None and (slots.running or slots.in_line) and not holdings.is_stopping:
            self._next_period = asyncio.get_running_loop().call_later(self._timing.period_s, self._on_period)

    def _give_way(self) -> None:
        """Send back claims that must not wait here."""
        for claim, delay_s in self._slots.surplus(asyncio.get_running_loop().time()):
            self._outcomes.unsettled(Transition.DEFER, Unsettled(claim, b"", round(delay_s * 1000), counts=False))

    def _on_period(self) -> None:
        self._next_period = None
        self._slots.judge(asyncio.get_running_loop().time())
        self.fill_slots()
        self._holdings.has_room.set()

    def _notice_fault(self, task: asyncio.Task[None]) -> None:
        """A delivery fails only by a fault of the program, which must end it."""
        if not task.cancelled() and (error := task.exception()) and not self.fault.done():
            self.fault.set_exception(error)

    async def _run_slot(self, claim: Claim) -> None:
        """Deliver a claim, and after it those that stand in line for its slot."""
        task = self._holdings.running[claim.id]
        following: Claim | None = claim
        while following is not None:
            await self._deliver(following)
            following = self._next()
            if following is not None:
                self._holdings.running[following.id] = task

    async def _deliver(self, claim: Claim) -> None:
        self._observer.began(claim)
        try:
            outcome = await self._deliverer.attempt(claim)
            if outcome.is_local:
                self._slots.excuse(claim)
                self._observer.given_back(claim, outcome)
                # It keeps its slot, so that a machine without free sockets is not asked for more at once.
                await asyncio.sleep(self._timing.local_fault_pause_s)
        finally:
            del self._holdings.running[claim.id]
            self._slots.end(claim)
        decision = decide(self._policy, claim, outcome, self._timing)
        if decision is SETTLED:
            self._outcomes.settle(claim)
            self._observer.delivered(claim, outcome)
        elif decision is RELEASED:
            self._outcomes.release([claim])
        else:
            self._unsettle(claim, decision, outcome)
        self._holdings.has_room.set()
        self._look_at_lines()

    def _unsettle(self, claim: Claim, decision: Decision, outcome: Outcome | None = None) -> None:
        """Have the decision on a claim written that ends without success. Without an outcome no attempt was made."""
        unsettled = Unsettled(claim, decision.last_failure, decision.delay_ms, decision.counts)
        self._outcomes.unsettled(decision.transition, unsettled)
        if outcome is None and decision.transition is Transition.DEFER:
            self._observer.left_to_newer(claim, decision)
        else:
            self._observer.unsettled(claim, decision, outcome, self._policy.attempts_left(claim.attempts))

    # The stop

    def stop(self) -> None:
        """Begin nothing any more. Claims in line go to other workers at once."""
        self._holdings.is_stopping = True
        self._outcomes.release(self._slots.clear())

    async def drain(self, hurry: asyncio.Event, grace_s: float) -> None:
        """Wait for deliveries under way: for the grace at most, or until `hurry`."""
        if self._holdings.running:
            self._observer.draining(len(self._holdings.running), grace_s)
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(self._all_delivered())
            try:
                await asyncio.wait([hurried, ended], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
                ended.cancel()

    async def _all_delivered(self) -> None:
        while self._holdings.running:
            await asyncio.wait(self._holdings.running.values())

    async def cut_off(self) -> None:
        """End the deliveries that are still under way, and begin none."""
        self._holdings.is_stopping = True
        running = list(self._holdings.running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
