"""The policy, as a table: RETRIES and RETRY_TIME against the attempts that failed before."""

import pytest

from redis_scheduler.task.retry import Policy, Step, is_poison
from redis_scheduler.task.timing import WINDOW_MS


@pytest.mark.parametrize(
    ("retries", "delay_ms", "attempts", "step"),
    [
        (0, 1000, 0, Step.BURY),
        (1, 1000, 0, Step.RETRY),
        (1, 1000, 1, Step.BURY),
        (5, 1000, 4, Step.RETRY),
        (5, 1000, 5, Step.BURY),
        (5, 1000, 6, Step.BURY),
        (-1, 1000, 1_000_000, Step.RETRY),
        (-1, 0, 3, Step.RETRY),
        (5, WINDOW_MS, 0, Step.RETRY),
        (5, WINDOW_MS + 1, 0, Step.DEFER),
        (5, WINDOW_MS + 1, 5, Step.BURY),
        (-1, 86_400_000, 9, Step.DEFER),
    ],
)
def test_what_follows_a_failed_attempt(retries: int, delay_ms: int, attempts: int, step: Step) -> None:
    assert Policy(retries, delay_ms).after_failure(attempts) is step


def test_a_task_is_poison_after_five_lost_workers() -> None:
    assert [is_poison(claims) for claims in (1, 5, 6)] == [False, False, True]
