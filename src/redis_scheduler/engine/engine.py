"""The engine: builds the loops that move tasks, runs them, and stops them in order.

What a shard needs of its own is a Consumer; what a process has once is here: slots, deliveries, and the stop. At a stop
nothing is claimed, promoted or swept any more, and what stands in line goes to others at once. What is being attempted
ends within the grace and is written; the rest is released, and the consumers leave their groups.
"""

import asyncio
from collections.abc import Sequence

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.consumer import Consumer, ShardAccess
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.worker import Worker
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.timing import DEFAULT, Timing


class Engine:
    """A consumer for each shard, and one set of slots: at most `concurrency` deliveries at once, of all shards."""

    def __init__(
        self,
        shards: Sequence[ShardAccess],
        deliverer: Deliverer,
        policy: Policy,
        concurrency: int,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
        kept: Kept = KEPT,
    ) -> None:
        deliverer.on_resent = observer.resent
        self.slots = Slots(concurrency, timing.period_s, observer)
        has_room = asyncio.Event()
        outcomes = [Outcomes(shard.claims, Holdings(has_room, timing), timing) for shard in shards]
        self.worker = Worker(deliverer, policy, self.slots, outcomes, has_room, timing, observer)
        self.consumers = [
            Consumer(number, shard, self.slots, self.worker, timing, observer, kept)
            for number, shard in enumerate(shards)
        ]

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Move tasks until `stop`, then finish what is in flight within the grace, or until `hurry`.

        Raises the error of a loop that died; what was delivered by then is written all the same.
        """
        for consumer in self.consumers:
            consumer.intake.hold()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.deliver(stop, hurry, grace_s), name="worker")
            for consumer in self.consumers:
                tasks.create_task(consumer.timer.run(stop), name="timer")
                tasks.create_task(consumer.reclaimer.run(stop), name="reclaimer")
                tasks.create_task(consumer.trimmer.run(stop), name="trimmer")

    async def deliver(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Do as `run` does, without timers, reclaimers and trimmers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                fault = tasks.create_task(self._await_fault(), name="deliveries")
                for consumer in self.consumers:
                    consumer.start(tasks, stop)
                await stop.wait()
                self.worker.stop()
                await asyncio.gather(*(consumer.stop_claiming() for consumer in self.consumers))
                await self.worker.drain(hurry, grace_s)
                fault.cancel()
                for consumer in self.consumers:
                    consumer.finish()
        finally:
            # Also when an asyncio task has died: what was delivered must not be delivered again for that.
            await self.worker.cut_off()
            last = (consumer.write_last() for consumer in self.consumers)
            errors = [error for error in await asyncio.gather(*last, return_exceptions=True) if error is not None]
            if errors:
                raise errors[0]

    async def _await_fault(self) -> None:
        await self.worker.fault
