"""The benchmark of a receiver that fails runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_tasks_that_fail_are_tried_again_until_the_receiver_is_well_and_arrive_once(tmp_path: Path) -> None:
    found = run("failing", tmp_path, "--tasks", "100", "--retry-time", "0.1", "--window", "1")
    assert found["settings"] == {"tasks": 100, "workers": 1, "retry_time": 0.1, "window": 1.0}
    assert found["delivered"]["arrivals"] == 100
    # More than all of them once: they are tried again.
    assert found["failing"]["attempts"] > 100
    assert set(found["failing"]["memory_mib"]) == {"workers", "redis"}
    assert not any(found["delivered"]["checks"].values())
    assert not any(found["healed"]["checks"].values())
