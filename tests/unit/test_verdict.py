"""What the dashboard's first sentence says: the worst first, with a remedy; or that all is well."""

from dataclasses import replace
from typing import Any

import pytest

from redis_scheduler.ui.verdict import Readings, percentile, problems, sentence

WELL = Readings(
    now_ms=1_000_000,
    states={"due": 12_000, "queued": 400, "in_delivery": 31, "dead": 7},
    is_balanced=True,
    all_paused_since=None,
    next_due_ms=1_004_000,
    oldest_ms=0,
    workers=2,
    memory_share=0.1,
    recent={"delivered": 100, "late:2": 98, "late:5": 2, "failed:timeout": 3},
)

WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"workers": 0, "oldest_ms": 40_000},
        "No worker runs, and the oldest task is due since 40.0 s",
        "redis-scheduler worker",
    ),
    (
        {"all_paused_since": "2026-11-28T09:00:00Z"},
        "All is paused since 2026-11-28T09:00:00Z",
        "redis-scheduler resume-all",
    ),
    ({"is_balanced": False}, "The ledger does not balance", "doctor --repair"),
    ({"memory_share": 0.85}, "Redis uses 85% of the memory", "MAX_MEMORY"),
    ({"oldest_ms": 12_000}, "Late: the oldest task is due since 12.0 s, and 400 are queued", "CONCURRENCY"),
    (
        {"recent": {"delivered": 5, "failed:connect": 40, "failed:timeout": 5}},
        "90% of attempts fail",
        "See whether they run",
    ),
    ({"recent": {"delivered": 900, "died": 3}, "worst": [("a.example:443", "answered 500", 3)]}, "3 died", "replay"),
    ({"open_breakers": ["a.example:443"]}, "a.example:443 is only probed", "go on once it answers"),
]


@pytest.mark.parametrize(("changes", "said", "remedy"), WRONG)
def test_what_is_wrong_is_said_with_what_to_do(changes: dict[str, Any], said: str, remedy: str) -> None:
    [first, *others] = problems(replace(WELL, **changes))
    assert first.text.startswith(said)
    assert remedy in first.remedy
    assert others == []


def test_the_worst_comes_first() -> None:
    changes: dict[str, Any] = {}
    for more, _, _ in reversed(WRONG[:4]):
        changes |= more
    found = problems(replace(WELL, **changes))
    assert [one.text[:6] for one in found] == ["All is", "The le", "Redis "]
    found = problems(replace(WELL, workers=0, oldest_ms=9_000, open_breakers=["a"]))
    assert [one.text[:9] for one in found] == ["No worker", "a is only"]


def test_no_workers_is_said_only_where_it_is_true() -> None:
    idle = replace(WELL, workers=0, states={"due": 12_431, "paused": 3})
    assert problems(idle) == []
    assert problems(replace(idle, oldest_ms=1_000)) == []
    for state in ("queued", "in_delivery", "waiting"):
        [problem] = problems(replace(idle, states={"due": 5, state: 200}))
        assert problem.text == "No worker runs, and 200 wait for one."


def test_all_is_well_in_a_sentence() -> None:
    assert problems(WELL) == []
    assert sentence(WELL) == "All well: 12,431 waiting, next in 4.0 s, p99 at most 5 ms late, none died in 24 h."
    nothing = replace(WELL, states={}, next_due_ms=None, recent={}, died_in_day=1_234)
    assert sentence(nothing) == "All well: 0 waiting, 1,234 died in 24 h."


def test_a_percentile_is_the_bound_that_holds_it() -> None:
    numbers = {"late:1": 50, "late:10": 49, "late:more": 1}
    assert [percentile(numbers, "late", share) for share in (0.5, 0.51, 0.99, 1)] == [1, 10, 10, 120_000]
    assert percentile({}, "late", 0.5) is None
