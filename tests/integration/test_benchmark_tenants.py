"""The benchmark of tenants runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_a_token_is_measured_alone_and_beside_one_that_floods(tmp_path: Path) -> None:
    given = "--hosts 20 --each 2 --rate 20 --window 2 --patience 2 --limit 20 --backlog 40"
    found = run("tenants", tmp_path, *given.split())
    of_load = {"hosts": 20, "each": 2, "rate": 20.0, "window": 2.0, "patience": 2.0}
    assert found["settings"] == {**of_load, "limit": 20, "backlog": 40}
    for name in ("alone", "beside", "limited", "backlog", "instant"):
        assert found[name]["missing"] == 0
        assert 0 <= found[name]["p50_ms"] <= found[name]["p99_ms"]
    assert 0 <= found["as_one"]["missing"] <= 40
