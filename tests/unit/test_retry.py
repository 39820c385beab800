"""The policy, as a table: RETRIES and RETRY_TIME against the attempts that failed before."""

import pytest

from redis_scheduler.task.retry import Policy, Transition, is_poison
from redis_scheduler.task.timing import DEFAULT


@pytest.mark.parametrize(
    ("retries", "delay_ms", "attempts", "step"),
    [
        (0, 1000, 0, Transition.BURY),
        (1, 1000, 0, Transition.RETRY),
        (1, 1000, 1, Transition.BURY),
        (5, 1000, 4, Transition.RETRY),
        (5, 1000, 5, Transition.BURY),
        (5, 1000, 6, Transition.BURY),
        (-1, 1000, 1_000_000, Transition.RETRY),
        (-1, 0, 3, Transition.RETRY),
        (5, DEFAULT.window_ms, 0, Transition.RETRY),
        (5, DEFAULT.window_ms + 1, 0, Transition.DEFER),
        (5, DEFAULT.window_ms + 1, 5, Transition.BURY),
        (-1, 86_400_000, 9, Transition.DEFER),
    ],
)
def test_what_follows_a_failed_attempt(retries: int, delay_ms: int, attempts: int, step: Transition) -> None:
    assert Policy(retries, delay_ms).after_failure(attempts) is step


def test_a_task_is_poison_after_five_lost_workers() -> None:
    assert [is_poison(claims) for claims in (1, 5, 6)] == [False, False, True]
