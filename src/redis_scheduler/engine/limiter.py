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

from redis_scheduler.engine.allowances import Allowances
from redis_scheduler.engine.copying import Copying
from redis_scheduler.engine.judge import Judging
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.engine.whole import Whole
from redis_scheduler.stopping import stop_or_interval
from redis_scheduler.store.limiting import Asked, Limiting, PermitAnswer, limit_of
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.limit import Limit
from redis_scheduler.task.retry import Transition
from redis_scheduler.task.timing import Timing


class Beginner(Protocol):
    """What a limiter needs of the worker."""

    def look_at_limits(self) -> None:
        """Look whether anything is limited still, or again."""

    def go_on(self, claims: Iterable[Claim]) -> None:
        """Let claims that may begin stand in their hosts' lines."""


class Limiter:
    """Asks and admits for one shard. The worker begins what may begin."""

    def __init__(
        self, limiting: Limiting, outcomes: Outcomes, worker: Beginner, timing: Timing, judging: Judging
    ) -> None:
        self._limiting = limiting
        self._outcomes = outcomes
        self._worker = worker
        self._timing = timing
        self._default = limiting.default
        self._said: dict[str, Limit] = {}
        self._heard: str | None = None
        """When limits were set last, as sweeps have told; None: none has."""
        self.judging = judging
        self.is_on = self._default.has_effect
        """Whether anything may be limited: only then claims are to ask."""
        self.asking: dict[Claim, str] = {}
        """Claims that wait for an answer, with their limits."""
        self.begun: dict[Claim, str] = {}
        """Claims that have a permit, with their limits."""
        self._ended: dict[str, None] = {}
        """Keys of tasks whose permits are to be given back."""
        self.whole = Whole(limiting, worker.go_on, timing)
        """Where claims wait under limits that are smaller than the number of shards."""
        self.followers: list[Copying] = []
        """What is to look once limits were set, or lost, here: what sets them in other shards, too, and what sets those
        of the first shard here."""
        self._must_read = True
        """Whether the limits that are set have to be read, at first or since one was set."""
        self._held = 0
        """Tasks that are held, as the last step of the admission said; 1: some are, and how many nobody has said."""
        self._wait_s = 0.0
        """From one step of the admission to the next."""
        self._is_asked = asyncio.Event()
        self._allowances = Allowances(timing)
        self._now = asyncio.get_running_loop().time
        self._asked_at = self._admitted_at = 0.0
        """When the last call of each kind ended."""
        self._unanswered_since: float | None = None
        """Since when a call that asks has got no answer."""
        self._held_rates: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._wake.set()

    @property
    def is_used(self) -> bool:
        """Whether the worker is to look here, before a claim begins or when an attempt has ended."""
        return self.is_on or bool(self.begun) or self.judging.is_on

    @property
    def loading(self) -> int:
        """Claims that wait for an answer, and will take slots. None where no answer comes: they hold up no other
        shard."""
        since = self._unanswered_since
        is_answered = since is None or self._now() - since < self._timing.rate_held_after_s
        return len(self.asking) if is_answered else 0

    def hear(self, limits_set: str) -> None:
        """Note when limits were set last."""
        if limits_set != self._heard:
            self._heard, self._must_read = limits_set, True
            self._wake.set()
            for follower in self.followers:
                follower.must_copy.set()

    def asks(self, claim: Claim) -> bool:
        """Have a claim ask if it is under a limit; return whether it is. Then the worker gets it back, or it is
        held."""
        limit = limit_of(claim.record)
        is_free = not self._limit(limit).has_effect and limit not in self.judging.broken
        if is_free or self._allowances.take(limit, self._now()):
            return False
        self.asking[claim] = limit
        self._is_asked.set()
        return True

    def _limit(self, name: str) -> Limit:
        said = self._said.get(name)
        return self._default if said is None else said

    async def ask_once(self) -> None:
        """Wait for claims that ask, and ask for them."""
        await self._is_asked.wait()
        await self._gather(self._asked_at)
        self._is_asked.clear()
        try:
            while self.asking:
                await self._ask(dict(islice(self.asking.items(), self._timing.batch_limit)))
        except BaseException:
            self._is_asked.set()
            raise
        finally:
            self._asked_at = self._now()

    async def _gather(self, called_at: float) -> None:
        """Gather more for a moment after the last call. What comes one by one need not wait for others."""
        await asyncio.sleep(max(0.0, called_at + self._timing.gather_s - self._now()))

    async def _ask(self, batch: dict[Claim, str]) -> None:
        first, now = dict.fromkeys(batch.values(), True), self._now()
        asked = [
            Asked(claim.key, limit, 0, self._allowances.wanted(limit, now) if first.pop(limit, False) else 0)
            for claim, limit in batch.items()
        ]
        if self._unanswered_since is None:
            self._unanswered_since = now
            self._hold_rates_after(self._timing.rate_held_after_s)
        answers = await self._limiting.permit(asked)
        self._unanswered_since, now = None, self._now()
        may_begin = []
        for (claim, limit), found in zip(batch.items(), answers, strict=True):
            more = max(0, found - PermitAnswer.BEGIN_WITH_PERMIT)
            if more or found == PermitAnswer.BEGIN:
                self._allowances.give(limit, 1, more, now)
            if self.asking.pop(claim, None) is None:  # it was taken out meanwhile
                if found == PermitAnswer.BEGIN_WITH_PERMIT:
                    self._give_back(claim.key)
            elif found != PermitAnswer.HOLD:
                if found == PermitAnswer.BEGIN_WITH_PERMIT:
                    self.begun[claim] = limit
                if not self._waits(claim, limit, found):
                    may_begin.append(claim)
            else:
                self._hold(claim)
        self._worker.look_at_limits()
        if may_begin:
            self._worker.go_on(may_begin)

    def _hold(self, claim: Claim) -> None:
        self._outcomes.unsettle(Transition.HOLD, Unsettled(claim, b"", 0, counts=False))
        if not self._held:
            self._held = 1
            self._wake.set()

    def _waits(self, claim: Claim, name: str, found: int) -> bool:
        """Have a claim wait for a permit of its limit as a whole, or be held where too many wait. Return False for a
        limit of which each shard has a part."""
        concurrency, whole = self._limit(name).concurrency or 0, self.whole
        has_permit = found == PermitAnswer.BEGIN_WITH_PERMIT  # none: the limit was just forgotten
        if not has_permit or not 0 < concurrency < self._limiting.parts:
            return False
        if whole.is_full:
            self.begun.pop(claim, None)  # and its permit ends by itself, so that it does not come again at once
            self._hold(claim)
        else:
            whole.wait(claim, name, concurrency)
        return True

    def _hold_rates_after(self, delay_s: float) -> None:
        if self._held_rates is None:
            self._held_rates = asyncio.get_running_loop().call_later(delay_s, self._hold_rates)

    def _hold_rates(self) -> None:
        """While nobody answers, go on at the pace that there was under a rate, for a while."""
        self._held_rates, now = None, self._now()
        if self._unanswered_since is None or now - self._unanswered_since >= self._timing.rate_held_s:
            return
        if now - self._unanswered_since >= self._timing.rate_held_after_s and self._outcomes.holdings.is_leased:
            may_begin = [claim for claim, limit in self.asking.items() if self._is_rate_held(limit, now)]
            for claim in may_begin:
                del self.asking[claim]
            self._worker.go_on(may_begin)
        self._hold_rates_after(self._timing.allowance_s)

    def _is_rate_held(self, name: str, now: float) -> bool:
        limit = self._limit(name)
        is_only_rate = limit.rate and not limit.concurrency and not limit.is_paused and name not in self.judging.broken
        return bool(is_only_rate) and self._allowances.take_held(name, now)

    def end(self, claim: Claim) -> None:
        """Give the permit of a claim back, whose attempt has ended or is not made."""
        if self.begun.pop(claim, None) is not None:
            self._give_back(claim.key)
        self.whole.end(claim)

    def _give_back(self, key: str) -> None:
        self._ended[key] = None
        self._wake.set()

    def remove(self, claims: Collection[Claim]) -> list[Claim]:
        """Let those of these claims ask no more that wait for an answer, and return them."""
        found = [claim for claim in claims if claim in self.asking]
        for claim in found:
            del self.asking[claim]
        waited = [claim for claim in claims if claim in self.whole.waiting]
        for claim in waited:
            self.end(claim)
        return found + waited

    def clear(self) -> list[Claim]:
        """Let no claim ask any more, and return those that did."""
        return self.remove([*self.asking, *self.whole.waiting])

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
            self._worker.look_at_limits()
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
        broken = self.judging.broken = await self._limiting.broken() if self.judging.is_on or self._heard else set()
        self.is_on = bool(broken) or self._default.has_effect or any(limit.has_effect for limit in self._said.values())
        self._held = self._held or int(bool(self._heard))
        for claim in list(self.whole.waiting):  # their limits may be others now
            self.end(claim)
            self._hold(claim)

    async def _admit(self) -> None:
        await self._gather(self._admitted_at)
        ended = list(islice(self._ended, self._timing.batch_limit))
        admission = await self._limiting.admit(ended)
        self._admitted_at = self._now()
        for key in ended:
            del self._ended[key]
        self._held = admission.held
        self._wait_s = 0.0 if self._ended else admission.wait_s

    def judge(self, claim: Claim, is_well: bool) -> None:
        """Note what an attempt came to."""
        self.judging.note(claim, is_well)

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
        await self.whole.write_last()
