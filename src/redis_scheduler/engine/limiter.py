"""The limiter: asks Redis, for the claims of one shard that are under a limit, whether they may begin; and has what is
held admitted.

A limit is a host's, or that of what tasks name as `limit_key`, for all workers together. Claims ask in batches. What
may not begin is held: it stands in the line of its limit, out of the queue, and comes into the queue again once the
limit has room. Where nothing is limited, no claim asks, and nothing of this runs.
"""

import asyncio
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Protocol

from msgspec import UNSET

from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.host import host_of
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.limiting import Asked, Judged, Limiting, PermitAnswer, limit_of
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.limit import Limit
from redis_scheduler.task.retry import Transition
from redis_scheduler.task.timing import DEFAULT, Timing

JUDGED_MOST = 10_000
"""Hosts whose attempts are told of at once, at most."""


class Beginner(Protocol):
    """What a limiter needs of the worker. `is_limited`: whether it is to ask at all."""

    is_limited: bool

    def go_on(self, claims: Iterable[Claim]) -> None:
        """Let claims that may begin stand in their hosts' lines."""


class Limiter:
    """Asks and admits for one shard. The worker begins what may begin."""

    def __init__(self, limiting: Limiting, outcomes: Outcomes, worker: Beginner, timing: Timing = DEFAULT) -> None:
        self._limiting = limiting
        self._outcomes = outcomes
        self._worker = worker
        self._timing = timing
        self._default = limiting.default
        self._said: dict[str, Limit] = {}
        self._heard: str | None = None
        """When limits were set last, as sweeps have told; None: none has."""
        self._broken: set[str] = set()
        self._judges = limiting.breaking.failures > 0
        """Whether it is to be told what attempts came to."""
        self._judged: dict[str, list[int]] = {}
        """Failures since the last attempt that was well, and how many were well, of hosts that fail."""
        self._is_judged = asyncio.Event()
        self.is_on = self._default.has_effect
        """Whether anything may be limited: only then claims are to ask."""
        worker.is_limited = worker.is_limited or self.is_on or self._judges
        self.asking: dict[Claim, str] = {}
        """Claims that wait for an answer, with their limits."""
        self.begun: dict[Claim, str] = {}
        """Claims that have a permit, with their limits."""
        self._ended: dict[str, None] = {}
        """Keys of tasks whose permits are to be given back."""
        self._must_read = True
        """Whether the limits that are set have to be read, at first or since one was set."""
        self._held = 0
        """Tasks that are held, as the last step of the admission said; 1: some are, and how many nobody has said."""
        self._wait_s = 0.0
        """From one step of the admission to the next."""
        self._is_asked = asyncio.Event()
        self._wake = asyncio.Event()
        self._wake.set()

    def hear(self, limits_set: str) -> None:
        """Note when limits were set last."""
        if limits_set != self._heard:
            self._heard, self._must_read = limits_set, True
            self._wake.set()

    def asks(self, claim: Claim) -> bool:
        """Have a claim ask if it is under a limit; return whether it is. Then the worker gets it back, or it is
        held."""
        limit = limit_of(claim.record)
        said = self._said.get(limit)
        if not (self._default if said is None else said).has_effect and limit not in self._broken:
            return False
        self.asking[claim] = limit
        self._is_asked.set()
        return True

    async def ask_once(self) -> None:
        """Wait for claims that ask, gather more for a moment, and ask for them."""
        await self._is_asked.wait()
        await asyncio.sleep(self._timing.gather_s)
        self._is_asked.clear()
        try:
            while self.asking:
                await self._ask(dict(islice(self.asking.items(), self._timing.batch_limit)))
        except BaseException:
            self._is_asked.set()
            raise

    async def _ask(self, batch: dict[Claim, str]) -> None:
        asked = [Asked(claim.key, limit) for claim, limit in batch.items()]
        answers = await self._limiting.permit(asked)
        may_begin, has_held = [], False
        for (claim, limit), found in zip(batch.items(), answers, strict=True):
            if self.asking.pop(claim, None) is None:  # it was taken out meanwhile
                if found is PermitAnswer.BEGIN_WITH_PERMIT:
                    self._give_back(claim.key)
            elif found is not PermitAnswer.HOLD:
                may_begin.append(claim)
                if found is PermitAnswer.BEGIN_WITH_PERMIT:
                    self.begun[claim] = limit
            else:
                self._outcomes.unsettle(Transition.HOLD, Unsettled(claim, b"", 0, counts=False))
                has_held = True
        if may_begin:
            self._worker.go_on(may_begin)
        if has_held and not self._held:
            self._held = 1
            self._wake.set()

    def end(self, claim: Claim) -> None:
        """Give the permit of a claim back, whose attempt has ended or is not made."""
        if self.begun.pop(claim, None) is not None:
            self._give_back(claim.key)

    def _give_back(self, key: str) -> None:
        self._ended[key] = None
        self._wake.set()

    def remove(self, claims: Collection[Claim]) -> list[Claim]:
        """Let those of these claims ask no more that wait for an answer, and return them."""
        found = [claim for claim in claims if claim in self.asking]
        for claim in found:
            del self.asking[claim]
        return found

    def clear(self) -> list[Claim]:
        """Let no claim ask any more, and return those that did."""
        return self.remove(list(self.asking))

    async def admit_once(self) -> None:
        """Wait until a step of the admission is due, or permits have ended; take it."""
        if self.is_on or self._held or self._must_read:
            await stop_or_interval(self._wake, self._wait_s)
        else:
            await self._wake.wait()
        self._wake.clear()
        try:
            if self._must_read:
                await self._read()
            if self.is_on or self._held or self._ended:
                await self._admit()
        except BaseException:
            self._wake.set()
            raise

    async def _read(self) -> None:
        self._must_read = False
        try:
            said = await self._limiting.said()
        except BaseException:
            self._must_read = True
            raise
        self._said = {name: limit.over(self._default) for name, limit in said.items()}
        self._broken = await self._limiting.broken() if self._judges or self._heard else set()
        self.is_on = (
            bool(self._broken) or self._default.has_effect or any(limit.has_effect for limit in self._said.values())
        )
        self._worker.is_limited = self._worker.is_limited or self.is_on
        self._held = self._held or int(bool(self._heard))

    async def _admit(self) -> None:
        await asyncio.sleep(self._timing.gather_s)
        ended = list(islice(self._ended, self._timing.batch_limit))
        admission = await self._limiting.admit(ended)
        for key in ended:
            del self._ended[key]
        self._held = admission.held
        self._wait_s = 0.0 if self._ended else admission.wait_s

    def judge(self, claim: Claim, is_well: bool) -> None:
        """Note what an attempt came to. Hosts that are well are not told of, unless they have failed."""
        if not self._judges or claim.record.options.limit_key is not UNSET:
            return
        host = host_of(claim.record.origin)
        counted = self._judged.get(host)
        if is_well:
            if counted is not None or host in self._broken:
                wells = 1 if counted is None else counted[1] + 1
                self._judged[host] = [0, wells]
        elif counted is not None:
            counted[0] += 1
        else:
            if len(self._judged) >= JUDGED_MOST:
                self._judged = {host: counted for host, counted in self._judged.items() if any(counted)}
            if len(self._judged) < JUDGED_MOST:
                self._judged[host] = [1, 0]
        if host in self._judged:
            self._is_judged.set()

    async def judge_once(self) -> None:
        """Wait until an attempt failed, or was well at a host that failed before; report it."""
        await self._is_judged.wait()
        await asyncio.sleep(self._timing.judge_interval_s)
        self._is_judged.clear()
        told = ((host, counted) for host, counted in self._judged.items() if any(counted))
        batch = dict(islice(told, self._timing.batch_limit))
        for host in batch:
            del self._judged[host]
        try:
            await self._limiting.judge([Judged(host, *counted) for host, counted in batch.items()])
        finally:
            # A row that goes on is kept here, so that the first that is well ends it in Redis.
            for host, counted in batch.items():
                if counted[0] and not counted[1]:
                    self._judged.setdefault(host, [0, 0])
            if any(any(counted) for counted in self._judged.values()):
                self._is_judged.set()

    async def renew(self) -> None:
        """Have the permits of all that has begun last longer."""
        held = self._outcomes.holdings.claims
        for claim in [claim for claim in self.begun if held.get(claim.id) is not claim]:
            self.end(claim)
        begun = list(self.begun.items())
        for first in range(0, len(begun), self._timing.batch_limit):
            part = begun[first : first + self._timing.batch_limit]
            await self._limiting.permit([Asked(claim.key, limit, 1) for claim, limit in part])

    async def write_last(self) -> None:
        """Give all permits back."""
        for claim in list(self.begun):
            self.end(claim)
        while self._ended:
            await self._admit()
