"""The benchmark of shards runs: all is delivered once, and each shard has about as much."""

import os
from pathlib import Path

import pytest

from tests.integration.test_benchmarks import run


@pytest.mark.long
def test_tasks_are_spread_evenly_and_all_are_delivered_once(tmp_path: Path) -> None:
    sizes = ("--tasks", "400", "--throttled-tasks", "100")
    found = run("shards", tmp_path, *sizes, "--shards", "1", "2", "--idle", "1")
    assert [one["shards"] for one in found["found"]] == [1, 2]
    for one in found["found"]:
        assert one["checks"] == {"missing": 0, "duplicates": 0, "unknown": 0}
        assert one["refused"] == []
        assert all(cpu_us > 0 for cpu_us in one["cpu_us"].values())
        assert one["evenness"] < 1.3
        assert one["idle_commands_a_second"] > 0
    assert len(found["marks"]) == 5 + len(found["throttled"][1:])
    for one in found["throttled"]:
        assert one["checks"] == {"missing": 0, "duplicates": 0, "unknown": 0}
        assert one["lives_a_second"] > 0
    if os.geteuid() == 0 and Path("/sys/fs/cgroup/cpu/cgroup.procs").exists():
        assert [one["shards"] for one in found["throttled"]] == [1, 2]
