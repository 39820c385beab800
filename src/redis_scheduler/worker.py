"""The worker: claims entries of the queue, delivers them, and writes each outcome back.

    claim ─► in flight ─► delivered ─► settle
                 │  └───► failed ────► retry, defer or bury
                 └─ renewed every few seconds; released when the process stops

A delivery is in flight from its claim until its outcome is written, and no entry is started twice in a process: one that
comes again (reclaimed after a stall, listed after a lost answer) is a renewal. Outcomes are written in batches; Redis'
scripts fence them, so writing one again after an outage does nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from itertools import islice

from redis_scheduler.blocking import QueueReader
from redis_scheduler.delivery import Deliverer, Outcome
from redis_scheduler.errors import StoreFull, StoreUnavailable
from redis_scheduler.logs import location
from redis_scheduler.models import Failure, encode_failure
from redis_scheduler.outage import Outage, stop_or_interval
from redis_scheduler.retry import Policy, Step, is_poison
from redis_scheduler.store import BATCH_LIMIT, Claim, Failed, Store

logger = logging.getLogger(__name__)

RENEW_INTERVAL_S = 5.0
"""A third of the lease: two renewals may fail before it runs out."""

GATHER_S = 0.002
"""How long a finished delivery waits for others to be settled with; its receiver has answered already."""

RESERVED_SHARE = 10
"""One slot in so many is kept for reclaimed work, so that retries do not starve behind new tasks."""

FINAL_WRITES_S = 3.0
"""How long a stopping worker tries to write its last outcomes; without them another delivers again."""


class Worker:
    """Delivers at most `concurrency` tasks at once."""

    def __init__(
        self, store: Store, reader: QueueReader, deliverer: Deliverer, policy: Policy, outage: Outage, concurrency: int
    ) -> None:
        self._store = store
        self._reader = reader
        self._deliverer = deliverer
        self._policy = policy
        self._outage = outage
        self._concurrency = concurrency
        # A single slot is shared: new and reclaimed work queue for it.
        self._reserved = min(max(1, concurrency // RESERVED_SHARE), concurrency - 1)
        self._in_flight: dict[str, Claim] = {}
        self._ready: deque[Claim] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._delivered: deque[Claim] = deque()
        self._failed: deque[tuple[Step, Failed]] = deque()
        self._has_outcome = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._is_stopping = False
        self._must_recover = False
        self.retry_parked = asyncio.Event()
        """Set when a retry was parked: the reclaimer must look again."""

    @property
    def free_slots(self) -> int:
        """Deliveries that could start now."""
        return self._concurrency - len(self._running) - len(self._ready)

    def start(self, claims: Iterable[Claim]) -> None:
        """Take claims in: deliver each as soon as a slot is free. What is in flight already was thereby renewed."""
        for claim in claims:
            known = self._in_flight.get(claim.id)
            # With an attempt recorded since, it is its retry, come before the answer to the record.
            if known is not None and known.attempts == claim.attempts:
                continue
            self._in_flight[claim.id] = claim
            if is_poison(claim.claims):
                self._bury_lost(claim)
            else:
                self._ready.append(claim)
        self._fill_slots()

    def _bury_lost(self, claim: Claim) -> None:
        error = f"worker lost: {claim.claims - 1} workers ended during the delivery"
        failure = encode_failure(Failure(error, 0))
        self._add_failed(Step.BURY, Failed(claim, failure, counts=False), error)

    def _fill_slots(self) -> None:
        while self._ready and len(self._running) < self._concurrency and not self._is_stopping:
            claim = self._ready.popleft()
            self._running[claim.id] = asyncio.create_task(self._deliver(claim))

    async def _deliver(self, claim: Claim) -> None:
        outcome = await self._deliverer.attempt(claim)
        del self._running[claim.id]
        if outcome.error is None:
            self._delivered.append(claim)
            self._has_outcome.set()
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("delivered", extra={"fields": _fields(claim, outcome)})
        else:
            self._fail(claim, outcome)
        self._slot_freed.set()
        self._fill_slots()

    def _fail(self, claim: Claim, outcome: Outcome) -> None:
        error = outcome.error or ""
        step = self._policy.after_failure(claim.attempts)
        failure = encode_failure(Failure(error, outcome.elapsed_ms, outcome.status))
        self._add_failed(step, Failed(claim, failure, self._policy.delay_ms), error, outcome)

    def _add_failed(self, step: Step, failed: Failed, error: str, outcome: Outcome | None = None) -> None:
        self._failed.append((step, failed))
        self._has_outcome.set()
        level = logging.WARNING if step is Step.BURY else logging.INFO
        if logger.isEnabledFor(level):
            fields = _fields(failed.claim, outcome) | {"error": error}
            logger.log(level, step.value, extra={"fields": fields})

    # Claiming

    async def run_once(self) -> None:
        """Wait for free slots, claim as much as fits them, and start it."""
        if self._must_recover:
            await self._recover()
            self._must_recover = False
        limit = min(self.free_slots - self._reserved, BATCH_LIMIT)
        if limit <= 0:
            self._slot_freed.clear()
            await self._slot_freed.wait()
            return
        try:
            entries = await self._reader.claim(limit)
            self.start(await self._store.load(entries))
        except (StoreUnavailable, StoreFull):
            self._must_recover = True
            raise
        if len(entries) == limit:
            # A backlog: let slots gather, so that a round trip serves many deliveries.
            await asyncio.sleep(GATHER_S)

    async def _recover(self) -> None:
        """Start what is pending for this consumer but was never told: its answer was lost on the way."""
        pending = await self._store.pending(self._concurrency + BATCH_LIMIT)
        lost = [entry for entry in pending if entry[0] not in self._in_flight]
        for first in range(0, len(lost), BATCH_LIMIT):
            self.start(await self._store.load(lost[first : first + BATCH_LIMIT]))

    # Outcomes

    async def write_outcomes(self) -> None:
        """Write a batch of each kind of outcome; on an error all of them stay and are written again."""
        while self._delivered or self._failed:
            delivered = list(islice(self._delivered, BATCH_LIMIT))
            if delivered:
                await self._store.settle(delivered)
                self._forget(delivered)
                for _ in delivered:
                    self._delivered.popleft()
            failed = list(islice(self._failed, BATCH_LIMIT))
            if failed:
                await self._write_failed(failed)
                self._forget(item.claim for _, item in failed)
                for _ in failed:
                    self._failed.popleft()

    async def _write_failed(self, failed: list[tuple[Step, Failed]]) -> None:
        by_step: dict[Step, list[Failed]] = {step: [] for step in Step}
        for step, item in failed:
            by_step[step].append(item)
        if to_retry := by_step[Step.RETRY]:
            answers = await self._store.retry(to_retry)
            by_step[Step.DEFER] += [item for item, answer in zip(to_retry, answers, strict=True) if answer == 2]
            self.retry_parked.set()
        if by_step[Step.DEFER]:
            await self._store.defer(by_step[Step.DEFER])
        if by_step[Step.BURY]:
            await self._store.bury(by_step[Step.BURY])

    def _forget(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            if self._in_flight.get(claim.id) is claim:
                del self._in_flight[claim.id]

    async def _write_step(self) -> None:
        await self._has_outcome.wait()
        await asyncio.sleep(GATHER_S)
        self._has_outcome.clear()
        try:
            await self.write_outcomes()
        except BaseException:
            self._has_outcome.set()
            raise

    async def renew(self) -> None:
        """Renew the leases of all that is in flight, and start what a lost answer left pending."""
        if self._in_flight:
            held = await self._store.renew(list(self._in_flight))
            for entry_id in [entry_id for entry_id in self._in_flight if entry_id not in held]:
                logger.debug("lease-lost", extra={"fields": {"key": self._in_flight[entry_id].key}})
        await self._recover()

    # Life

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, grace_s: float) -> None:
        """Work until `stop` is set, then finish what is in flight within the grace, or until `hurry`; release the rest."""
        finished = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._outage.ride(finished, self._write_step), name="write-outcomes")
            renewer = tasks.create_task(self._renew_until(finished), name="renew")
            claimer = tasks.create_task(self._outage.ride(stop, self.run_once), name="claim")
            await stop.wait()
            self._is_stopping = True
            await self._stop_claiming(claimer)
            await self._drain(hurry, grace_s)
            finished.set()
            writer.cancel()
            renewer.cancel()
        await self._write_last()

    async def _renew_until(self, finished: asyncio.Event) -> None:
        async def step() -> None:
            await stop_or_interval(finished, RENEW_INTERVAL_S)
            await self.renew()

        await self._outage.ride(finished, step)

    async def _stop_claiming(self, claimer: asyncio.Task[None]) -> None:
        """End the claim loop, with the answer of a claim under way: dropping its connection would strand entries."""
        self._slot_freed.set()
        for _ in range(60):
            try:
                await self._reader.unblock()
            except (StoreUnavailable, StoreFull):
                break
            # Again, should the claim have reached Redis only after the unblocking.
            if (await asyncio.wait([claimer], timeout=0.05))[0]:
                break
        claimer.cancel()
        await self._reader.aclose()

    async def _drain(self, hurry: asyncio.Event, grace_s: float) -> None:
        """Wait for deliveries under way; cut off what is left after the grace."""
        if self._running:
            logger.info("draining", extra={"fields": {"in_flight": len(self._running), "grace_s": grace_s}})
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(self._all_delivered())
            await asyncio.wait([hurried, ended], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            ended.cancel()
        cut_off = list(self._running.values())
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)

    async def _all_delivered(self) -> None:
        while self._running:
            await asyncio.wait(self._running.values())

    async def _write_last(self) -> None:
        """Write the outcomes, give back what was not delivered, and leave the group."""
        try:
            async with asyncio.timeout(FINAL_WRITES_S):
                await self.write_outcomes()
                rest = list(self._in_flight.values())
                for first in range(0, len(rest), BATCH_LIMIT):
                    await self._store.release(rest[first : first + BATCH_LIMIT])
                if rest:
                    logger.info("released", extra={"fields": {"deliveries": len(rest)}})
                await self._store.retire(0, self._store.name)
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            fields = {"in_flight": len(self._in_flight), "error": str(error) or "no answer in time"}
            logger.warning("stopped-without-redis", extra={"fields": fields})


def _fields(claim: Claim, outcome: Outcome | None) -> dict[str, object]:
    fields: dict[str, object] = {"key": claim.key, "attempt": claim.attempts + 1}
    if outcome is not None:
        fields |= {"status": outcome.status, "elapsed_ms": outcome.elapsed_ms}
    return fields | {"webhook": location(claim.record.webhook)}
