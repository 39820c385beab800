"""The benchmarks run and tell the truth about what arrived; their figures at this size mean nothing."""

import json
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from benchmarks import harness
from benchmarks.report import percentile
from benchmarks.webhooks import HOSTS
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
LIMIT_S = 200
"""A benchmark that hangs is ended before the run of all tests is (faulthandler_timeout)."""

ROUNDED = 0.001
"""How far apart two ratios may be that were rounded, to three digits, at different steps."""


WITH_STARTER = """
import os, runpy, sys
from tests.support import starter
starter.variables, starter.is_used = dict(os.environ), True
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""Runs a module that starts the service often without importing it each time."""


def start(name: str, output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", f"benchmarks.{name}", "--output", str(output), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def run(name: str, folder: Path, *arguments: str, whole_start: bool = False) -> dict[str, Any]:
    """Run a benchmark to its end; return its JSON."""
    output = folder / "results" / "found.json"
    runs = ("-m", f"benchmarks.{name}") if whole_start else ("-c", WITH_STARTER, f"benchmarks.{name}")
    command = [sys.executable, "-W", "error", *runs, "--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    assert found["benchmark"] == name
    machine = found["machine"]
    assert machine["cores"] > 0
    assert all(0 <= machine[f"{who}_percent"] <= 100 for who in ("busy_before", "busy_by_others", "steal"))
    assert found["commit"] is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", found["commit"])
    assert {"redis-scheduler", "python", "server", "aiohttp"} <= found["versions"].keys()
    return found


@pytest.mark.long
def test_the_burst_arrives_whole_and_is_compared_with_a_bare_client(tmp_path: Path) -> None:
    sizes = ("--tasks", "200", "--concurrency", "20", "--rounds", "2")
    found = run("burst", tmp_path, *sizes, "--workers", "1", "2", "--urls", "one")
    assert found["settings"] == {"tasks": 200, "workers": [1, 2], "urls": ["one"], "concurrency": 20, "rounds": 2}
    assert [one["workers"] for one in found["bursts"]] == [1, 2]
    bursts = [figure for one in found["bursts"] for figure in one["rounds"]]
    bare = found["aiohttp"]
    assert (len(bursts), len(bare)) == (4, 6)
    for one in (*bursts, *bare, *found["deliverer"]["one"], found["receiver_ceiling"]):
        assert one["arrivals"] == 200
        assert one["a_second"] > 0
    # In each round: bare, a burst, bare, a burst, bare; 1 worker is first in one round, 2 are in the next.
    around = [(bare[1], bare[2]), (bare[3], bare[4])]
    for one, (before, after) in zip(found["bursts"][1]["rounds"], around, strict=True):
        assert one["checks"]["missing"] == one["checks"]["duplicates"] == 0
        beside = statistics.mean(figure["a_second"] for figure in (before, after))
        assert one["ratio"] == pytest.approx(one["a_second"] / beside, abs=ROUNDED)
    for one in found["bursts"]:
        median = statistics.median(figure["ratio"] for figure in one["rounds"])
        assert one["ratio"] == pytest.approx(median, abs=ROUNDED)
        assert one["cpu_us"]["worker"] > 0
        assert one["cpu_us"]["redis"] > 0


@pytest.mark.long
def test_tasks_with_a_url_each_are_compared_with_those_that_share_one(tmp_path: Path) -> None:
    found = run("burst", tmp_path, "--tasks", "200", "--concurrency", "20", "--workers", "1", "--rounds", "2")
    one, distinct = found["bursts"]
    assert (one["urls"], distinct["urls"]) == ("one", "distinct")
    assert all(not each["checks"]["missing"] for each in (*one["rounds"], *distinct["rounds"]))
    ratios = [
        each["a_second"] / other["a_second"] for each, other in zip(distinct["rounds"], one["rounds"], strict=True)
    ]
    *_, mark = found["marks"]
    assert mark["found"] == pytest.approx(statistics.median(ratios), abs=ROUNDED)
    assert {urls: len(its) for urls, its in found["deliverer"].items()} == {"one": 2, "distinct": 2}


async def test_the_receiver_is_reached_by_many_hosts_and_each_task_has_a_url_of_its_own() -> None:
    async with harness.receiving() as receiver:
        webhooks = receiver.webhooks("distinct").first(2 * HOSTS)
        assert len(set(webhooks)) == 2 * HOSTS
        assert len({urlsplit(webhook).netloc for webhook in webhooks}) == HOSTS
        for webhook in webhooks:
            async with receiver.session.post(webhook) as response:
                assert response.status == 200
        assert await receiver.count() == 2 * HOSTS
        assert set(receiver.webhooks("one").first(3)) == {receiver.url}


@pytest.mark.long
def test_every_delivery_of_the_lateness_run_arrives_and_none_early(tmp_path: Path) -> None:
    found = run("lateness", tmp_path, "--rate", "50", "80", "--seconds", "1", "--ttl", "0.3", "--roles", "all")
    assert [(one["roles"], one["rate"]) for one in found["runs"]] == [("all", 50), ("all", 80)]
    assert [one["rate"] for one in found["references"]] == [50, 80]
    for one in (*found["runs"], *found["references"]):
        assert one["arrivals"] == one["rate"]
        assert one["missing"] == one["duplicates"] == 0
        late_ms = one["late_ms"]
        assert 0 <= late_ms["min"] <= late_ms["p50"] <= late_ms["p99"] <= late_ms["max"]


@pytest.mark.long
def test_every_series_fires_once_at_its_time(tmp_path: Path) -> None:
    found = run("series", tmp_path, "--series", "150", "--rounds", "2", "--kinds", "instant-every")
    rounds = found["kinds"]["instant-every"]
    assert len(rounds) == 2
    for one in rounds:
        assert (one["arrivals"], one["missing"], one["duplicates"]) == (150, 0, 0)
        assert 0 <= one["late_ms"]["min"] <= one["late_ms"]["p99"] <= one["late_ms"]["max"]
        assert all(us > 0 for us in one["cpu_us"].values())
    assert [mark["wanted"] for mark in found["marks"]] == ["instant-every: max late <= 1,500 ms"]


@pytest.mark.long
async def test_an_interrupted_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    # A shell's background job ignores it, and so would what the job starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with start("burst", output, "--tasks", "2000") as benchmark:
        process = psutil.Process(benchmark.pid)
        try:
            started = await wait_until(
                lambda: len(found := process.children()) == 4 and found, "Redis, receiver, API and worker run", 60
            )
            benchmark.send_signal(signal.SIGINT)
            _, said = benchmark.communicate(timeout=30)
        finally:
            benchmark.kill()
    assert said == "interrupted\n"
    assert benchmark.returncode == 1
    assert [child for child in started or [] if child.is_running()] == []
    assert not output.exists()


def test_a_percentile_is_one_of_the_values() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7.0
