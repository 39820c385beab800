"""The timing refuses what cannot work together."""

from dataclasses import replace
from typing import Any

import pytest

from redis_scheduler.store.workers import SEEN_MS
from redis_scheduler.task.key import SHARDS_MOST
from redis_scheduler.task.timing import DEFAULT, Timing


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lease_ms": DEFAULT.window_ms}, "shorter than the window"),
        ({"renew_interval_s": DEFAULT.lease_ms / 2000}, "longer than two renewals"),
        ({"batch_limit": 0}, "one task at least"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(DEFAULT, **changes)


def test_a_lease_is_over_when_its_entry_has_been_idle_for_the_window() -> None:
    assert DEFAULT.lease_idle_ms + DEFAULT.lease_ms == DEFAULT.window_ms


def commands_a_second(timing: Timing) -> float:
    """What an idle worker sends, apart from what it sends once in minutes."""
    of_each = 1_000 / timing.look_interval_ms + 1_000 / timing.reader_block_ms + 1 / timing.trim_s
    joins = 1 / timing.rejoin_s(True) + (timing.served.joined - 1) / timing.rejoin_s(False)
    return timing.served.shards * of_each + joins


def test_a_process_over_many_shards_looks_less_often_at_each_so_that_all_of_them_cost_as_much_as_two() -> None:
    for shards in range(1, SHARDS_MOST + 1):
        timing = DEFAULT.over(shards)
        assert timing.look_interval_ms == 1_000 * max(1, shards / 2)
        assert commands_a_second(timing) < 3


def test_looks_of_many_shards_are_no_gap_in_the_sweeps_and_a_gap_is_noticed_before_leases_run_out() -> None:
    for shards in range(1, SHARDS_MOST + 1):
        timing = DEFAULT.over(shards)
        assert timing.look_interval_ms + 1_000 < timing.sweep_gap_ms < timing.lease_ms - 1_000 * timing.renew_interval_s
        assert 2 * timing.look_interval_ms <= SEEN_MS, "what says that a worker lives is missed once at most"


def test_a_process_that_serves_few_of_many_shards_looks_at_these_often_and_joins_the_others_seldom() -> None:
    timing = DEFAULT.over(SHARDS_MOST)
    for shards in range(1, SHARDS_MOST + 1):
        timing.served.shards = shards
        assert timing.look_interval_ms == 1_000 * max(1, shards / 2)
        assert commands_a_second(timing) < 3


def test_the_timing_goes_by_the_shards_that_come_while_the_process_runs() -> None:
    timing = DEFAULT.over(1)
    before = timing.look_interval_ms
    timing.served.shards = timing.served.joined = 8
    assert timing.look_interval_ms == 4 * before
    assert DEFAULT.look_interval_ms == before
