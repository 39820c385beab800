"""The benchmark of the metrics runs, and counting adds about a hundredth to a delivery."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_counting_adds_about_a_hundredth_to_a_delivery(tmp_path: Path) -> None:
    found = run("metrics", tmp_path, "--rounds", "100")
    assert found["settings"] == {"rounds": 100, "deliveries": 5000}
    assert 0 < found["added"]["history_us"] < found["added"]["delivery_us"] <= 0.8  # twice the mark: others run, too
    assert found["answer"]["bytes"] > 100_000
    assert found["answer"]["asking_redis_ms"] >= found["answer"]["within_the_second_ms"] > 0
    assert len(found["marks"]) == 4
