"""What is made of an outcome beside its decision: the task that starts with the end, and what is kept of failures."""

import msgspec

from redis_scheduler.engine.outcomes import Outcomes
from redis_scheduler.store.new_task import NewTask
from redis_scheduler.task.attempts import Attempt, failure_of, read_failed
from redis_scheduler.task.callback import End, follow_up, told_bytes
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.key import new_task_key
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.retry import Decision, Transition


def follow_up_of(
    claim: Claim, event: str, newly_made: int, now_ms: float, outcome: Outcome | None, error: str | None = None
) -> NewTask | None:
    """Return the task that starts with the end of a claim's task, if one does.

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
    return None if found is None else NewTask(new_task_key(), found.delay_ms, found.tail, found.listed)


def failures_of(claim: Claim, decision: Decision, outcome: Outcome | None, outcomes: Outcomes) -> bytes:
    """Return what is kept of the failed attempts of a claim."""
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
    )
    if outcome is None:
        return failure_of(attempt, before, answer_bytes=outcomes.answer_bytes)
    attempt = msgspec.structs.replace(attempt, **outcome.phases._asdict(), detail=outcome.detail)
    return failure_of(attempt, before, outcome.answer, outcomes.answer_bytes)
