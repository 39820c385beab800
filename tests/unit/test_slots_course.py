"""What a worker's rules come to in many courses of a minute, in virtual time: a healthy host beside hundreds that hang.

The faults of Redis and the network are not in it: for these see tests/chaos/test_slow_receiver.py.
"""

import pytest

from tests.chaos.figures import Spread
from tests.support.simulation import course


@pytest.mark.parametrize("seed", [5, 8, 13])
def test_a_healthy_host_that_begins_with_hundreds_that_hang_is_on_time(seed: int) -> None:
    came = course(seed, hosts=400, retry_time_s=1, steady_per_s=100, steady_s=3, timeout_s=3, watched_s=5)
    assert Spread.of(came.late_s).p99 < 1
    assert Spread.of(came.retries_late_s).p99 < 1
    assert 100 < came.held_most < 200, "those that hang use what they may, and not all"


def test_a_host_of_which_a_part_hangs_delays_no_other() -> None:
    came = course(1, 0, 1, steady_per_s=100, steady_s=4, timeout_s=5, mixed_per_s=500, mixed_hang=0.2, watched_s=3)
    assert Spread.of(came.late_s).p99 < 0.1
    assert Spread.of(came.retries_late_s).p99 < 0.2


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_token_whose_hosts_hang_delays_no_other(seed: int) -> None:
    """Of several tasks each: so each of them looks like one with steady work."""
    came = course(
        seed, 400, 1, steady_per_s=50, steady_s=3, tasks_each=5, timeout_s=3, watched_s=5, tokens=("hangs", "steady")
    )
    assert Spread.of(came.late_s).p99 < 0.5
    assert Spread.of(came.retries_late_s).p99 < 0.5
    assert 100 < came.held_most < 180, "it uses what it may, and not all"
