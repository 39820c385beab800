"""What follows an outcome: it is decided, and handed to be written together with the task that starts with the end, and
with what is kept of failures."""

from collections.abc import Iterable, Mapping

import msgspec

from redis_scheduler.engine.observer import Observer
from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.attempts import Attempt, failure_of, read_failed
from redis_scheduler.task.callback import DELIVERED, DIED, EXPIRED, End, follow_up, told_bytes
from redis_scheduler.task.claim import Claim, Unsettled
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.options import NONE
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.policy import Policy
from redis_scheduler.task.retry import RELEASED, SETTLED, Decision, Transition, asked_in_vain, decide
from redis_scheduler.task.summary import summary_tail
from redis_scheduler.task.timing import Timing

_ENDS = {Transition.BURY: DIED, Transition.EXPIRE: EXPIRED}
"""The ends without success, by what writes them."""


class Ends:
    """Decides what follows from each outcome, and hands it to the outcomes of the claim's shard, which write it.

    `outcomes` are those of each shard, by its number.
    """

    def __init__(self, policy: Policy, outcomes: Mapping[int, Outcomes], timing: Timing, observer: Observer) -> None:
        self._policy = policy
        self._outcomes = outcomes
        self._timing = timing
        self._observer = observer

    def conclude(self, claim: Claim, outcome: Outcome) -> None:
        """Have what follows from the outcome of an attempt written."""
        outcomes = self._outcomes[claim.shard]
        decision = decide(self._policy, claim, outcome, outcomes.now_ms, self._timing)
        if decision is SETTLED:
            options = claim.record.options
            starts = None if options is NONE else follow_up_of(claim, DELIVERED, 1, outcomes.now_ms(), outcome)
            if outcomes.keeps_results:
                attempts, started = claim.attempts + 1, starts.key if starts else ""
                claim.result = summary_tail(
                    "delivered", claim.record, attempts, outcome.elapsed_ms, outcome.status, started
                )
            outcomes.settle(claim, starts)
            if options is not NONE and (asked := asked_in_vain(claim, outcome)):
                self._observer.asked_in_vain(claim, asked)
            self._observer.delivered(claim, outcome)
        elif decision is RELEASED:
            self.release([claim])
        elif decision.transition is Transition.EXPECT:
            outcomes.unsettle(decision.transition, Unsettled(claim, b"", decision.delay_ms, counts=False))
            self._observer.taken_on(claim, outcome)
        elif decision.transition is Transition.AGAIN:
            outcomes.unsettle(Transition.AGAIN, Unsettled(claim, b"", decision.delay_ms, counts=False))
            self._observer.delivered(claim, outcome)
        else:
            self.unsettle(claim, decision, outcome)

    def unsettle(self, claim: Claim, decision: Decision, outcome: Outcome | None = None) -> None:
        """Have a decision written by which a claim ends without success. Without an outcome no attempt was made."""
        outcomes, starts = self._outcomes[claim.shard], None
        if claim.record.options is not NONE and (event := _ENDS.get(decision.transition)) is not None:
            starts = follow_up_of(claim, event, int(decision.counts), outcomes.now_ms(), outcome, decision.error)
        started = starts.key if starts else ""
        failure = failures_of(claim, decision, outcome, outcomes, started) if decision.last_failure else b""
        unsettled = Unsettled(claim, failure, decision.delay_ms, decision.counts)
        if decision.transition is Transition.EXPIRE and outcomes.keeps_results:
            elapsed_ms, status = (outcome.elapsed_ms, outcome.status) if outcome else (0, claim.previous_status)
            attempts = claim.attempts + decision.counts
            claim.result = summary_tail("expired", claim.record, attempts, elapsed_ms, status, started)
        outcomes.unsettle(decision.transition, unsettled, starts)
        if outcome is None and decision.transition is Transition.DEFER:
            self._observer.left_to_newer(claim, decision)
        else:
            attempts_left = self._policy.of(claim.record.options).attempts_left(claim.attempts)
            self._observer.unsettled(claim, decision, outcome, attempts_left)

    def release(self, claims: Iterable[Claim]) -> None:
        """Give claims back without an outcome."""
        for claim in claims:
            self._outcomes[claim.shard].release([claim])


def follow_up_of(
    claim: Claim, event: str, newly_made: int, now_ms: float, outcome: Outcome | None, error: str | None = None
) -> NewTask | None:
    """Return the task that starts with the end of a claim's task, if one does. It is of the same shard.

    `newly_made`: attempts besides those that the claim knows. `now_ms`: Redis' time.
    """
    if not told_bytes(claim.record.options):
        return None
    end = End(event, claim.attempts + newly_made, error, now_ms, claim.previous_status)
    if outcome is not None:
        # The body of the 202 by which a receiver took the job on is not kept.
        has_answer = outcome.status is not None and not claim.mark
        end.status, end.answer = outcome.status, outcome.answer if has_answer else None
    found = follow_up(claim, end)
    return None if found is None else NewTask(new_task_key(claim.shard), found.delay_ms, found.tail, found.listed)


def failures_of(
    claim: Claim, decision: Decision, outcome: Outcome | None, outcomes: Outcomes, started: str = ""
) -> bytes:
    """Return what is kept of the failed attempts of a claim; `started`: the key of the task that its end starts."""
    before = read_failed(claim.failure)
    now_ms = round(outcomes.now_ms())
    comes_again = decision.transition in (Transition.RETRY, Transition.DEFER)
    attempt = Attempt(
        decision.error,
        outcome.elapsed_ms if outcome else 0,
        outcome.status if outcome else None,
        due=before[-1].again if before else claim.record.due,
        began=now_ms - outcome.elapsed_ms if outcome else 0,
        again=now_ms + decision.delay_ms if comes_again else 0,
        worker=outcomes.worker,
        started=started,
    )
    if outcome is None:
        return failure_of(attempt, before, answer_bytes=outcomes.answer_bytes)
    attempt = msgspec.structs.replace(attempt, **outcome.phases._asdict(), detail=outcome.detail)
    return failure_of(attempt, before, outcome.answer, outcomes.answer_bytes)
