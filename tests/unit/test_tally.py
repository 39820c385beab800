"""What happened in a few seconds, as numbers of the history."""

import pytest

from redis_scheduler.task.tally import BOUNDS_MS, EXACT_MS, Tally


def test_nothing_is_no_number() -> None:
    assert Tally().numbers() == {}


@pytest.mark.parametrize(
    ("ms", "name"),
    [
        *((0, "1"), (1, "1"), (2, "2"), (3, "5"), (5, "5"), (6, "10"), (999, "1000"), (1_000, "1000")),
        *((1_001, "2000"), (20_001, "60000"), (60_000, "60000"), (60_001, "more"), (10**9, "more"), (-5, "1")),
    ],
)
def test_each_duration_has_its_bucket(ms: int, name: str) -> None:
    tally = Tally()
    tally.count_took(ms)
    tally.count_late(ms)
    assert tally.numbers() == {f"took:{name}": 1, f"late:{name}": 1}


def test_what_is_counted_by_the_ms_stands_in_the_same_buckets() -> None:
    tally, other = Tally(), Tally()
    for ms in range(EXACT_MS + 1):
        tally.delivered[ms] += 1
        tally.late[ms] += 2
        other.count_took(ms)
        other.count_late(ms)
        other.count_late(ms)
    assert tally.numbers() == other.numbers() | {"delivered": EXACT_MS + 1}
    assert len(tally.numbers()) == 1 + 2 * (BOUNDS_MS.index(EXACT_MS) + 1)
