"""What this process is to one shard: a consumer of its queue, with all loops that need that shard's Redis.

A shard that is away stops no loop of another. All consumers of a process share its worker and its slots.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

from redis_scheduler.engine.claimer import Claimer
from redis_scheduler.engine.copying import Copying
from redis_scheduler.engine.intake import Intake
from redis_scheduler.engine.judge import Judging
from redis_scheduler.engine.limiter import Limiter
from redis_scheduler.engine.observer import NOBODY, Observer
from redis_scheduler.engine.reclaimer import Reclaimer
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.timer import Timer
from redis_scheduler.engine.trimmer import Trimmer
from redis_scheduler.engine.worker import Worker
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.blocking import Bell, QueueReader
from redis_scheduler.store.claims import Claims
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.limiting import Limiting
from redis_scheduler.store.outage import Outage
from redis_scheduler.store.retention import Retention
from redis_scheduler.task.kept import DEFAULT as KEPT
from redis_scheduler.task.kept import NO_RESULTS, Kept
from redis_scheduler.task.limit import NO_BREAKING, NO_LIMIT, Breaking, Limit
from redis_scheduler.task.timing import DEFAULT, Timing


@dataclass(frozen=True, slots=True)
class ShardAccess:
    """How a consumer reaches its shard: its calls, the reads that wait in Redis, and whether Redis is away."""

    claims: Claims
    reader: QueueReader
    bell: Bell
    outage: Outage
    limiting: Limiting | None = None
    """By what limits are asked for and set; without, as of a service whose settings limit nothing."""

    @classmethod
    def of_client(
        cls,
        client: RedisClient,
        name: str,
        timing: Timing = DEFAULT,
        kept: Kept = NO_RESULTS,
        limit: Limit = NO_LIMIT,
        breaking: Breaking = NO_BREAKING,
    ) -> Self:
        """Reach a shard by a client of it, as the consumer of this name. `limit`: that of hosts for
        which none is set; `breaking`: when breakers open."""
        claims, reader = Claims(client, name, timing, kept), QueueReader(client, name, timing)
        return cls(claims, reader, Bell(client), client.outage, Limiting(client, timing, limit, breaking))


class Consumer:
    """The loops of one shard, by its number."""

    def __init__(
        self,
        shard: int,
        access: ShardAccess,
        slots: Slots,
        worker: Worker,
        timing: Timing = DEFAULT,
        observer: Observer = NOBODY,
        kept: Kept = KEPT,
    ) -> None:
        self._shard = shard
        self._claims = access.claims
        self._outage = access.outage
        self._timing = timing
        self._observer = observer
        access.claims.on_records_missing = observer.records_missing
        self.outcomes = worker.outcomes[shard]
        self.holdings = self.outcomes.holdings
        limiting = self.limiting = access.limiting or Limiting(access.claims.client, timing)
        self._copying: Copying | None = None
        judging = Judging(limiting, timing, observer)
        self.limiter = worker.limiters[shard] = Limiter(limiting, self.outcomes, worker, timing, judging)
        worker.look_at_limits()
        self.intake = Intake(shard, access.claims, access.reader, slots, worker, timing, observer)
        self.claimer = Claimer(shard, self.intake, access.reader, slots, worker, access.outage, timing)
        self.timer = Timer(self.intake, access.bell, access.outage, timing, lambda: self.reclaimer.look_soon())
        expect = self.timer.expect
        self.reclaimer = Reclaimer(access.claims, self.intake, self.outcomes, access.outage, timing, observer, expect)
        retention = Retention(access.claims.client, kept, timing)
        self.trimmer = Trimmer(retention, self.outcomes, access.outage, timing, observer)
        self._finished = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._claiming: asyncio.Task[None]

    def take_part(self, first: Limiting, followers: list[Copying], parts: int) -> None:
        """Keep a part of each limit, as each of so many shards does: of those that are set in the `first` one. Its
        `followers` are woken when any is set there."""
        self.limiting.part, self.limiting.parts = self._shard, parts
        self.limiter.whole.first = first
        if first is self.limiting or self._copying is not None:
            return
        self._copying = Copying(first, self.limiting)
        followers.append(self._copying)
        self.limiter.followers.append(self._copying)

    def start(self, tasks: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Begin to claim, until `stop`; and to renew, recover and write, until `finish`."""
        # The limits may be in another Redis: while that is away alone, leases here are renewed, and outcomes written.
        run, run_limits, finished = self._outage.loop, self.limiting.outage.loop, self._finished
        whole = self.limiter.whole
        self._loops = [
            tasks.create_task(run(finished, self.outcomes.write_once), name="write-outcomes"),
            tasks.create_task(run(finished, self.intake.take_early_once), name="take-early"),
            tasks.create_task(run(finished, self._renew_once), name="renew"),
            tasks.create_task(run_limits(finished, self._renew_permits_once), name="renew-permits"),
            tasks.create_task(run_limits(finished, self.limiter.ask_once), name="ask-limits"),
            tasks.create_task(run_limits(finished, self.limiter.admit_once), name="admit"),
            tasks.create_task(run_limits(finished, self.limiter.judging.report_once), name="judge"),
            tasks.create_task(run(finished, self.intake.recover_once), name="recover"),
            tasks.create_task(whole.outage.loop(finished, whole.ask_once), name="ask-whole-limits"),
        ]
        if (copying := self._copying) is not None:
            self._loops.append(tasks.create_task(copying.outage.loop(finished, copying.copy_once), name="copy-limits"))
        self._claiming = tasks.create_task(run(stop, self.claimer.claim_once), name="claim")

    async def stop_claiming(self) -> None:
        """End the claim loop, after the stop was set."""
        await self.claimer.stop(self._claiming)

    def finish(self) -> None:
        """End the other loops."""
        self._finished.set()
        for task in self._loops:
            task.cancel()

    async def _renew_once(self) -> None:
        # First, so that a renewal is repeated as soon as an outage is over.
        await self.intake.renew()
        await stop_or_interval(self._finished, self._timing.renew_interval_s)

    async def _renew_permits_once(self) -> None:
        await self.limiter.renew()
        await stop_or_interval(self._finished, self._timing.renew_interval_s)

    async def write_last(self) -> None:
        """Write the outcomes, give back what was not delivered, and leave the group."""
        try:
            async with asyncio.timeout(self._timing.final_writes_s):
                await self.outcomes.write()
                await self.intake.take_early()
                await stop_or_interval(self.intake.no_claims_coming, self._timing.claims_coming_end_s)
                await self.outcomes.write()
                if released := await self._release_rest():
                    self._observer.released(released)
                await self._claims.retire(0, self._claims.name)
                await self.limiter.write_last()
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            self._observer.stopped_without_redis(len(self.holdings.claims), str(error) or "no answer in time")

    async def _release_rest(self) -> int:
        """Give back claims still in flight, and entries pending for this consumer that never began; return how many."""
        rest, limit = list(self.holdings.claims.values()), self._timing.batch_limit
        released = 0
        for first in range(0, len(rest), limit):
            released += sum(await self._claims.release(rest[first : first + limit]))
        looked_at: set[str] = set()
        while pending := await self._claims.pending(self.intake.recovered_most, looked_at):
            claims, count = await self._claims.load(pending[: self.intake.load_limit])
            looked_at.update(entry.id for entry in pending[:count])
            released += sum(await self._claims.release(claims))
        return released
