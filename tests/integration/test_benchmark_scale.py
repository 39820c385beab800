"""The benchmark of many waiting tasks runs and tells the truth; its figures at this size mean nothing."""

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run

SMALL = {
    **{"few": 200, "tasks": 2_000, "requests": 10, "rate": 1_000, "wave": 300, "rounds": 1},
    **{"retries": 200, "retry-time": 4, "window": 0.3},
}


@pytest.mark.long
def test_scale_compares_few_with_many_and_every_task_arrives_once(tmp_path: Path) -> None:
    found = run("scale", tmp_path, *(text for name, size in SMALL.items() for text in (f"--{name}", str(size))))
    assert [one["tasks"] for one in found["memory"]] == [200, 2_000]
    assert all(0 < one["record_bytes"] < one["bytes_a_task"] for one in found["memory"])
    assert list(found["times_ms"]) == [
        *("first page", "middle page", "get", "schedule", "update data", "update ttl", "cancel"),
    ]
    for one in found["times_ms"].values():
        assert all(0 < one[name]["p50"] <= one[name]["p99"] for name in ("few", "many"))
        assert all(0 < us < 1_000 * one[name]["max"] for name, us in one["redis_us"].items())
    for name in ("few", "many"):
        [wave] = found["wave"][name]["runs"]
        assert wave["arrivals"] == 300
        assert (
            0
            <= wave["late_ms"]["first"]
            <= wave["late_ms"]["median"]
            <= 1_000 * wave["seconds"] + wave["late_ms"]["first"]
        )
    assert not any(found["wave"]["checks"].values())
    retries = found["retries"]
    assert retries["places"]["waiting"] == 200
    assert not any(retries["checks"].values())
    assert retries["late_ms"]["min"] <= retries["late_ms"]["p50"] <= retries["late_ms"]["max"]
    assert len(found["marks"]) == 2 + 7 + 1
