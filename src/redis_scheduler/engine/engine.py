"""The engine: builds the loops that move tasks, runs them, and stops them in order.

What a shard needs of its own is a Consumer; what a process has once is here: slots, deliveries, and the stop. At a stop
nothing is claimed, promoted or swept any more, and what stands in line goes to others at once. What is being attempted
ends within the grace and is written; the rest is released, and the consumers leave their groups.
"""

import asyncio
from collections.abc import Callable, Mapping

from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.engine.consumer import Consumer, ShardAccess
from redis_scheduler.engine.copying import FirstLimits
from redis_scheduler.engine.holdings import Holdings
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.worker import Worker
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import Kept
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.timing import DEFAULT, Timing


class Engine:
    """A consumer for each shard that it serves, and one set of slots: at most `concurrency` deliveries at once, of all
    of them.

    `shards`: those that it serves, by their numbers, of `count` in all. `limiting`: by what the limits are read that
    are set in the first shard, where it does not serve that.
    """

    def __init__(
        self,
        shards: Mapping[int, ShardAccess],
        deliverer: Deliverer,
        policy: Policy,
        concurrency: int,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
        kept: Kept = KEPT,
        count: int | None = None,
        limiting: Limiting | None = None,
    ) -> None:
        deliverer.on_resent = observer.resent
        self.slots = Slots(concurrency, timing.period_s, observer)
        self._has_room = asyncio.Event()
        self._timing, self._observer, self._kept = timing, observer, kept
        self._outcomes = {number: self._outcomes_of(shard) for number, shard in shards.items()}
        self._count = count or len(shards)
        self._first_limits = None if limiting is None else FirstLimits(limiting, timing)
        self.worker = Worker(deliverer, policy, self.slots, self._outcomes, self._has_room, timing, observer)
        self.consumers = [self._consumer_of(number, shard) for number, shard in shards.items()]
        self._share_limits()
        self._begin: list[Callable[[Consumer], None]] = []
        """What begins the loops of a consumer that comes, while the engine runs."""

    def _outcomes_of(self, shard: ShardAccess) -> Outcomes:
        return Outcomes(shard.claims, Holdings(self._has_room, self._timing), self._timing)

    def _consumer_of(self, number: int, shard: ShardAccess) -> Consumer:
        return Consumer(number, shard, self.slots, self.worker, self._timing, self._observer, self._kept)

    def _share_limits(self) -> None:
        for consumer in self.consumers:
            if (first := self._first_limits) is not None:
                consumer.take_part(first.limiting, first.followers, self._count)
            else:
                consumer.take_part(self.consumers[0].limiting, self.consumers[0].limiter.followers, self._count)

    def serve(self, number: int, shard: ShardAccess | None) -> None:
        """Serve another shard, too; None: it has come, and others serve it."""
        self._count = max(self._count, number + 1)
        if shard is None:
            self._share_limits()
            return
        self._outcomes[number] = self._outcomes_of(shard)
        consumer = self._consumer_of(number, shard)
        self.consumers.append(consumer)
        self._share_limits()
        for begin in self._begin:
            begin(consumer)

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Move tasks until `stop`, then finish what is in flight within the grace, or until `hurry`.

        Raises the error of a loop that died; what was delivered by then is written all the same.
        """
        async with asyncio.TaskGroup() as tasks:

            def begin(consumer: Consumer) -> None:
                consumer.intake.go_on_after_promotion()
                tasks.create_task(consumer.timer.run(stop), name="timer")
                tasks.create_task(consumer.reclaimer.run(stop), name="reclaimer")
                tasks.create_task(consumer.trimmer.run(stop), name="trimmer")

            for consumer in self.consumers:
                begin(consumer)
            self._begin.append(begin)
            if self._first_limits is not None:
                tasks.create_task(self._first_limits.run(stop), name="first-limits")
            tasks.create_task(self.deliver(stop, hurry, grace_s), name="worker")

    async def deliver(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Do as `run` does, without timers, reclaimers and trimmers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                fault = tasks.create_task(self._await_fault(), name="deliveries")
                for consumer in self.consumers:
                    consumer.start(tasks, stop)
                self._begin.append(lambda consumer: consumer.start(tasks, stop))
                await stop.wait()
                self._begin.clear()
                self.worker.stop()
                # At once: what a claim brings now goes back, and a shard that is silent must not delay the others.
                ending = (consumer.stop_claiming() for consumer in self.consumers)
                await asyncio.gather(self.worker.drain(hurry, grace_s), *ending)
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
