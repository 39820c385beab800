"""Retry options that contradict each other, and what a policy says besides when a task comes again (test_retry)."""

import json
from typing import Any

import pytest

from redis_scheduler.task.options import Options
from redis_scheduler.task.policy import Policy, contradiction, contradiction_with, retries


@pytest.mark.parametrize(
    ("given", "field", "problem"),
    [
        (
            {"retry_times": (1,), "retries": 3},
            "retries",
            "cannot be given beside retry_times, which says how often and when a task is retried, got 3",
        ),
        (
            {"retry_times": (1,), "retry_time": 3},
            "retry_time",
            "cannot be given beside retry_times, which says how often and when a task is retried, got 3",
        ),
        (
            {"retry_times": (1,), "retry_backoff": "fixed"},
            "retry_backoff",
            'cannot be given beside retry_times, which says how often and when a task is retried, got "fixed"',
        ),
        (
            {"retry_times": (1,), "retry_max": 3},
            "retry_max",
            "cannot be given beside retry_times, which says how often and when a task is retried, got 3",
        ),
        ({"retries": 0, "retry_time": 5}, "retry_time", "has no effect with retries 0, got 5"),
        ({"retries": 0, "retry_for": 5}, "retry_for", "has no effect with retries 0, got 5"),
        ({"retries": 0, "retry_jitter": 0.5}, "retry_jitter", "has no effect with retries 0, got 0.5"),
        (
            {"retry_max": 60},
            "retry_max",
            "has an effect only with a retry_backoff of linear or exponential, beside it, got 60",
        ),
        (
            {"retry_max": 60, "retry_backoff": "fixed"},
            "retry_max",
            "has an effect only with a retry_backoff of linear or exponential, beside it, got 60",
        ),
        (
            {"retry_max": 5, "retry_time": 60, "retry_backoff": "linear"},
            "retry_max",
            "must be at least retry_time, which is 60, got 5",
        ),
        (
            {"retry_time": 0, "retry_backoff": "linear"},
            "retry_backoff",
            'has no effect with a retry_time of 0, got "linear"',
        ),
        ({"retry_time": 0, "retry_jitter": 0.5}, "retry_jitter", "has no effect on delays of 0, got 0.5"),
        ({"retry_times": (0, 0), "retry_jitter": 1}, "retry_jitter", "has no effect on delays of 0, got 1"),
        (
            {"retry_time": 60, "retry_for": 59},
            "retry_for",
            "must be at least the first delay, which is 60, or no retry is ever made, got 59",
        ),
        (
            {"retry_times": (60, 1), "retry_for": 59},
            "retry_for",
            "must be at least the first delay, which is 60, or no retry is ever made, got 59",
        ),
        (
            {"retry_time": 60, "expire": 59},
            "expire",
            "must be at least the first delay, which is 60, or no retry is ever made, got 59",
        ),
        (
            {"retry_for": 60, "expire": 60},
            "retry_for",
            "has no effect beside an expire of 60: no attempt is made after that, got 60",
        ),
        ({"final_statuses": "410-404"}, "final_statuses", 'has a range that is empty, 410-404, got "410-404"'),
        ({"retries": 0, "final_statuses": "410"}, "final_statuses", 'has no effect with retries 0, got "410"'),
    ],
)
def test_options_that_contradict_each_other_or_have_no_effect_are_named(
    given: dict[str, Any], field: str, problem: str
) -> None:
    assert contradiction(Options(**given)) == (field, problem)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"retries": 0},
        {"retries": -1, "retry_time": 0},
        {"retry_backoff": "linear"},
        {"retry_backoff": "fixed", "retry_jitter": 0, "retry_time": 0},
        {"retry_time": 60, "retry_backoff": "exponential", "retry_max": 60},
        {"retry_time": 60, "retry_for": 60},
        {"retry_time": 60, "retry_jitter": 1, "retry_for": 1},
        {"retry_time": 60, "retry_backoff": "exponential", "retry_for": 55},
        {"retry_times": (0, 5), "retry_jitter": 1, "retry_for": 5},
        {"retry_times": (0,)},
        {"retries": 0, "expire": 1},
        {"retry_for": 59, "expire": 60},
        {"retry_times": (0,), "final_statuses": "400-499,!429"},
    ],
)
def test_options_that_go_together_are_taken(given: dict[str, Any]) -> None:
    assert contradiction(Options(**given)) is None


SERVICE = Policy(5, 60_000)
NO_RETRIES, AT_ONCE = Policy(0, 60_000), Policy(5, 0)
GROWING, BOUNDED = Policy(5, 60_000, "exponential"), Policy(5, 1_000, for_ms=100_000)


@pytest.mark.parametrize(
    ("service", "given", "field", "problem"),
    [
        *[
            (
                NO_RETRIES,
                {name: value},
                name,
                f"has no effect with the service's RETRIES=0; give retries, too, got {json.dumps(value)}",
            )
            for name, value in (("retry_time", 5), ("retry_jitter", 0.5), ("final_statuses", "410"))
        ],
        (
            AT_ONCE,
            {"retry_backoff": "linear"},
            "retry_backoff",
            'has no effect with the service\'s RETRY_TIME=0; give retry_time, too, got "linear"',
        ),
        (
            AT_ONCE,
            {"retry_jitter": 0.5},
            "retry_jitter",
            "has no effect with the service's RETRY_TIME=0; give retry_time, too, got 0.5",
        ),
        (
            SERVICE,
            {"retry_backoff": "linear", "retry_max": 59},
            "retry_max",
            "must be at least RETRY_TIME, which is 60, got 59",
        ),
        *[
            (
                service,
                {"retry_for": retry_for},
                "retry_for",
                f"must be at least RETRY_TIME, which is 60, or no retry is ever made, got {retry_for}",
            )
            for service, retry_for in ((SERVICE, 59), (GROWING, 53.9), (Policy(5, 60_000, jitter=0.5), 29))
        ],
        (
            BOUNDED,
            {"retry_time": 101},
            "retry_time",
            "must begin with at most RETRY_FOR, which is 100, or no retry is ever made, got 101",
        ),
        (
            BOUNDED,
            {"retry_times": (101, 1)},
            "retry_times",
            "must begin with at most RETRY_FOR, which is 100, or no retry is ever made, got [101,1]",
        ),
    ],
)
def test_an_option_that_has_no_effect_beside_the_services_is_named(
    service: Policy, given: dict[str, Any], field: str, problem: str
) -> None:
    assert contradiction(Options(**given)) is None
    assert contradiction_with(service, Options(**given)) == (field, problem)


@pytest.mark.parametrize(
    ("service", "given"),
    [
        (NO_RETRIES, {}),
        (NO_RETRIES, {"retries": 3, "retry_time": 5}),
        (NO_RETRIES, {"retry_times": (1, 2), "retry_jitter": 0.5}),
        (NO_RETRIES, {"expire": 5, "retries": 0}),
        (AT_ONCE, {"retry_backoff": "linear", "retry_time": 1}),
        (AT_ONCE, {"retry_jitter": 0, "retry_backoff": "fixed"}),
        (Policy(5, 0, "linear"), {"retry_for": 5}),
        (SERVICE, {"expire": 5}),
        (SERVICE, {"retry_for": 5, "retry_time": 5}),
        (SERVICE, {"retry_for": 5, "retry_times": (5, 6)}),
        (GROWING, {"retry_for": 54}),
        (BOUNDED, {"retry_time": 101, "retry_for": 200}),
        (BOUNDED, {"retry_time": 100}),
        (BOUNDED, {"retry_times": (100, 1_000)}),
        (BOUNDED, {"retry_time": 110, "retry_backoff": "exponential"}),
    ],
)
def test_options_that_have_an_effect_beside_the_services_are_taken(service: Policy, given: dict[str, Any]) -> None:
    assert contradiction_with(service, Options(**given)) is None


@pytest.mark.parametrize(
    ("options", "attempts", "left"),
    [
        *[(Options(), 0, 5), (Options(), 4, 1), (Options(), 5, 0), (Options(), 6, 0)],
        *[(Options(retries=0), 0, 0), (Options(retries=-1), 1_000, None), (Options(retry_times=(1, 2)), 1, 1)],
    ],
)
def test_how_many_attempts_are_left(options: Options, attempts: int, left: int | None) -> None:
    assert Policy(5, 1_000).of(options).attempts_left(attempts) == left


@pytest.mark.parametrize(
    ("policy", "longest_ms"),
    [
        (Policy(5, 1_000), 1_000),
        (Policy(3, 1_000, "linear"), 4_000),
        (Policy(-1, 1_000, "exponential", 60_000), 60_000),
        (Policy(3, 1_000, "exponential", 60_000), 8_000),
        (Policy(2, 1_000, "linear", 60_000).of(Options(retry_time=90)), 90_000),
        (Policy(2, 1_000, "linear", 60_000).of(Options(retry_time=25)), 60_000),
        (Policy(2, 1_000, "linear", 60_000).of(Options(retry_time=90, retry_max=91)), 91_000),
    ],
)
def test_the_longest_delay_of_a_policy(policy: Policy, longest_ms: int) -> None:
    last = policy.retries if policy.retries >= 0 else 1 << 40
    assert policy.delay_after(last, 0, lambda: 0.0) == longest_ms


@pytest.mark.parametrize("by_default", [0, 5, -1])
@pytest.mark.parametrize(
    ("options", "most"),
    [
        (Options(), None),
        (Options(retry_time=5), None),
        (Options(retries=0), 0),
        (Options(retries=1), 1),
        (Options(retries=-1), -1),
        (Options(retry_times=(1, 2)), 2),
    ],
)
def test_how_often_a_task_is_retried_at_most(options: Options, most: int | None, by_default: int) -> None:
    assert retries(options, by_default) == (by_default if most is None else most)
