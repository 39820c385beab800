"""The benchmark of options runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from benchmarks import options
from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_each_kind_of_task_is_measured_in_each_round(tmp_path: Path) -> None:
    found = run("options", tmp_path, "--tasks", "200", "--concurrency", "20", "--rounds", "2")
    assert found["settings"] == {"tasks": 200, "concurrency": 20, "rounds": 2}
    assert tuple(found["kinds"]) == tuple(options.KINDS)
    for rounds in found["kinds"].values():
        assert len(rounds) == 2
        for one in rounds:
            assert one["checks"]["missing"] == one["checks"]["duplicates"] == one["checks"]["unknown"] == 0
            assert all(us > 0 for us in one["cpu_us"].values())
    assert len(found["marks"]) == 2
