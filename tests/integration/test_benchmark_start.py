"""The benchmark of starts and stops, one try of each."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_every_role_is_started_and_stopped(tmp_path: Path) -> None:
    found = run("start", tmp_path, "--tries", "1", whole_start=True)
    for name in ("all_fresh", "all_used", "api", "worker"):
        assert found[name].keys() == {"start_ms", "stop_ms"}
    for name in ("interpreter", "packages", "own_imports"):
        assert found[name].keys() == {"start_ms"}
        median, worst = found[name]["start_ms"].values()
        assert 0 < median == worst
