"""The benchmark of the breaker runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_a_host_that_dies_is_probed_with_a_breaker(tmp_path: Path) -> None:
    sizes = ("--workers", "1", "--rate", "20", "--others", "10", "--dead", "13", "--phase", "1", "--retry-time", "0.5")
    found = run("breaker", tmp_path, *sizes, "--only", "with")
    course = found["with"]
    assert course["well"]["failed"] == course["well"]["opened"] == 0
    assert course["dead"]["opened"] == 1
    assert course["dead"]["failed"] == course["dead"]["attempts"] > 20
    for phase in course.values():
        assert sum(phase["by_second"]) <= phase["attempts"]
        assert not any(phase["others"]["checks"].values())
