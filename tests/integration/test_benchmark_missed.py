"""The benchmark of what series have missed runs, and counts what it says."""

from pathlib import Path

import pytest

from benchmarks import missed
from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_each_series_has_missed_as_many_times_as_were_asked_for(tmp_path: Path) -> None:
    found = run("missed", tmp_path, "--series", "120", "--times", "40", "--walked", "2")
    for name in ("few", "own"):
        assert found[name]["skipped"] == 40, "the last one is made, late; the first one was due when the outage began"
        assert 0 < found[name]["longest_ms"] < 1000 * found[name]["cpu_s"]
    assert found["walked_ms"] > 0
    assert len(found["marks"]) == 1


def test_each_series_has_times_of_its_own() -> None:
    times = set[tuple[frozenset[str], str]]()
    for number in range(10_000):
        minutes, hour, *_ = str(missed.rule_of(number).cron).split()
        times.add((frozenset(minutes.split(",")), hour))
        assert len(minutes.split(",")) == missed.TIMES_A_DAY
    assert len(times) == 10_000
