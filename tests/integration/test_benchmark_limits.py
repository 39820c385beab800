"""The benchmark of limits runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run

KINDS = ("rate of a host", "concurrency of a limit_key")


@pytest.mark.long
def test_what_has_a_limit_gets_that_much_and_others_theirs(tmp_path: Path) -> None:
    sizes = "--workers 1 --rate 50 --concurrency 5 --delay 0.1 --others 20 --window 2"
    found = run("limits", tmp_path, *sizes.split(), "--kinds", *KINDS)
    rate, concurrency = (found["limited"][kind] for kind in KINDS)
    assert 10 <= rate["a_second"] <= 60
    assert 10 <= concurrency["a_second"] <= 50
    assert concurrency["at_once"] == 5
    assert 20 <= concurrency["used_percent"] <= 100.1
    assert concurrency["empty_ms"] >= 0
    for one in (found["alone"], found["unlimited"], rate["others"], concurrency["others"]):
        assert not any(one["checks"].values())
        assert 0 <= one["p50_ms"] <= one["p99_ms"]
