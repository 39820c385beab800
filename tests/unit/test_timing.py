"""The timing refuses what cannot work together."""

from dataclasses import replace

import pytest

from redis_scheduler.task.timing import DEFAULT


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lease_ms": DEFAULT.window_ms}, "shorter than the window"),
        ({"renew_interval_s": DEFAULT.lease_ms / 2000}, "longer than two renewals"),
        ({"batch_limit": 0}, "one task at least"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(DEFAULT, **changes)


def test_a_lease_is_over_when_its_entry_has_been_idle_for_the_window() -> None:
    assert DEFAULT.lease_idle_ms + DEFAULT.lease_ms == DEFAULT.window_ms
