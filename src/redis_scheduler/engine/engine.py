"""The engine: builds the loops that move tasks, runs them, and stops them in order.

At a stop nothing is claimed, promoted or swept any more, and what stands in line goes to others at once. What is being
attempted ends within the grace and is written; the rest is released, and the consumer leaves the group.
"""

import asyncio

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.intake import Intake
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.reclaimer import Reclaimer
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.timer import Timer
from redis_scheduler.engine.worker import Worker
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.outage import Outage
from redis_scheduler.task.retry import Policy
from redis_scheduler.task.timing import DEFAULT, Timing


class Engine:
    """One consumer with all its loops. It attempts at most `concurrency` deliveries at once."""

    def __init__(
        self,
        claims: Claims,
        reader: QueueReader,
        bell: Bell,
        deliverer: Deliverer,
        policy: Policy,
        concurrency: int,
        outage: Outage,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
    ) -> None:
        self._claims = claims
        self._outage = outage
        self._timing = timing
        self._observer = observer
        claims.on_records_missing, deliverer.on_resent = observer.records_missing, observer.resent
        self.holdings = Holdings(timing)
        self.slots = Slots(concurrency, timing.period_s, observer)
        self.outcomes = Outcomes(claims, self.holdings, timing)
        self.worker = Worker(deliverer, policy, self.slots, self.outcomes, self.holdings, timing, observer)
        self.intake = Intake(claims, reader, self.slots, self.worker, self.outcomes, self.holdings, timing, observer)
        self.timer = Timer(self.intake, bell, outage, timing)
        self.reclaimer = Reclaimer(claims, self.intake, self.outcomes, policy, outage, timing, observer)

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Move tasks until `stop`, then finish what is in flight within the grace, or until `hurry`.

        Raises the error of a loop that died; what was delivered by then is written all the same.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.deliver(stop, hurry, grace_s), name="worker")
            tasks.create_task(self.timer.run(stop), name="timer")
            tasks.create_task(self.reclaimer.run(stop), name="reclaimer")

    async def deliver(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Do as `run` does, without timer and reclaimer."""
        finished = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                until_finished = [
                    tasks.create_task(self._await_fault(), name="deliveries"),
                    tasks.create_task(self._outage.loop(finished, self.outcomes.write_once), name="write-outcomes"),
                    tasks.create_task(self._outage.loop(finished, self.intake.take_early_once), name="take-early"),
                    tasks.create_task(self._renew_until(finished), name="renew"),
                    tasks.create_task(self._outage.loop(finished, self.intake.recover_once), name="recover"),
                ]
                claimer = tasks.create_task(self._outage.loop(stop, self.intake.claim_once), name="claim")
                await stop.wait()
                self.worker.stop()
                await self.intake.stop_claiming(claimer)
                await self.worker.drain(hurry, grace_s)
                finished.set()
                for task in until_finished:
                    task.cancel()
        finally:
            # Also when an asyncio task has died: what was delivered must not be delivered again for that.
            await self.worker.cut_off()
            await self._write_last()

    async def _await_fault(self) -> None:
        await self.worker.fault

    async def _renew_until(self, finished: asyncio.Event) -> None:
        async def step() -> None:
            # First, so that a renewal is repeated as soon as an outage is over.
            await self.intake.renew()
            await stop_or_interval(finished, self._timing.renew_interval_s)

        await self._outage.loop(finished, step)

    async def _write_last(self) -> None:
        """Write the outcomes, give back what was not delivered, and leave the group."""
        try:
            async with asyncio.timeout(self._timing.final_writes_s):
                await self.outcomes.write()
                await self.intake.take_early()
                await stop_or_interval(self.intake.no_claims_coming, self._timing.claims_coming_end_s)
                await self.outcomes.write()
                if released := await self.intake.release_rest():
                    self._observer.released(released)
                await self._claims.retire(0, self._claims.name)
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            self._observer.stopped_without_redis(len(self.holdings.claims), str(error) or "no answer in time")
