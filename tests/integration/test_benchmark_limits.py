"""The benchmark of limits runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_a_host_with_a_rate_gets_that_rate_and_others_theirs(tmp_path: Path) -> None:
    found = run("limits", tmp_path, "--workers", "1", "--rate", "50", "--others", "20", "--window", "2")
    assert found["settings"] == {"workers": 1, "rate": 50.0, "others": 20.0, "window": 2.0}
    assert 40 <= found["a_second"] <= 60
    for beside in ("others_alone", "others_beside"):
        assert not any(found[beside]["checks"].values())
        assert 0 <= found[beside]["p50_ms"] <= found[beside]["p99_ms"]
