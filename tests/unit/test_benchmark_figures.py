"""What the benchmarks make of what arrived, and when a mark is met."""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    api,
    bulk,
    burst,
    failing,
    harness,
    idle,
    instant,
    kinds,
    lateness,
    limits,
    load,
    machine,
    options,
    report,
    retries,
    scale,
    series,
)
from benchmarks.harness import Arrival
from benchmarks.machine import Usage
from benchmarks.meter import Used
from benchmarks.receiver import Flights
from benchmarks.webhooks import Webhooks


def test_a_rate_is_that_from_the_first_arrival_to_the_last() -> None:
    found = instant.figure([Arrival(100 + number / 10, "") for number in range(11)], {"workers": 0.5})
    assert (found.arrivals, found.seconds, found.a_second) == (11, 1.0, 10.0)
    assert found.cpu_percent == {"workers": 50}


def test_what_is_missing_doubled_and_unknown_is_counted_and_keeps_no_figure() -> None:
    arrivals = [Arrival(1, key) for key in ("a", "b", "b", "x")]
    assert harness.checks(["a", "b", "c"], arrivals) == {"missing": 1, "duplicates": 1, "unknown": 1}
    assert report.whole(harness.checks(["a", "b"], arrivals[:2])) == {"missing": 0, "duplicates": 0, "unknown": 0}
    for wrong in ("missing", "duplicates", "unknown"):
        with pytest.raises(SystemExit, match=wrong):
            report.whole({"missing": 0, "duplicates": 0, "unknown": 0, wrong: 1})


def test_what_was_used_is_told_in_percent_of_a_core_and_for_each_of_many() -> None:
    used = Used(2.0, {"workers": 0.5, "redis": 0.0124})
    assert used.percent() == {"workers": 25, "redis": 1}
    assert used.percent(2) == {"workers": 25, "redis": 0.62}
    assert used.us_each("workers", 1_000) == 500


def test_others_took_what_was_busy_less_ones_own_of_all_cores() -> None:
    before = Usage(all_s=100, busy_s=50, steal_s=1, own_s=10)
    found = Usage(all_s=120, busy_s=56, steal_s=1.4, own_s=14).since(before)
    assert found == {"busy_by_others_percent": 10, "steal_percent": 2}
    assert Usage(120, 53, 1, 14).since(before)["busy_by_others_percent"] == 0


@pytest.mark.parametrize(("others_percent", "warns"), [(5.0, False), (5.1, True)])
def test_a_warning_says_that_others_were_busy(
    others_percent: float, warns: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {"busy_before_percent": 0, "busy_by_others_percent": others_percent, "steal_percent": 0}
    about = {"processor": "", "cores": 2, "system": "", "load_before": 0, **shares}
    versions = {"python": "3", "peer": {"node": "20"}}
    document: dict[str, Any] = {"machine": about, "versions": versions, "note": "", "commit": None}
    report.publish(document, tmp_path / "found.json")
    said = capsys.readouterr().out
    assert ("warning" in said) is warns
    assert "versions  python 3\n          peer: node 20\n" in said
    assert json.loads((tmp_path / "found.json").read_text()) == document


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_dirty_when_the_code_differs_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    git(tmp_path, "init")
    assert machine.commit() is None
    code, result = tmp_path / "src/code.py", tmp_path / "benchmarks/results/found.json"
    for file in (code, result):
        file.parent.mkdir(parents=True)
        file.write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "first")
    clean = machine.commit()
    assert clean is not None
    assert len(clean) == 40
    result.write_text("2")
    (tmp_path / "src/untracked.py").write_text("2")
    assert machine.commit() == clean
    code.write_text("2")
    assert machine.commit() == f"{clean}-dirty"
    # The repository of something else, in which this one was unpacked.
    monkeypatch.setattr(machine, "ROOT", tmp_path / "src")
    assert machine.commit() is None


def test_there_is_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() is None


def test_a_spread_and_quartiles_are_rounded() -> None:
    assert report.spread([1.004, 3, 2]) == {"min": 1.0, "p50": 2, "p99": 3, "max": 3}
    assert report.quartiles([1, 5, 2, 4, 3]) == [2, 3, 4]
    assert report.quartiles([0.7]) == [0.7, 0.7, 0.7]


def test_a_request_keeps_its_query() -> None:
    assert load.request("GET", "http://host:1/path?limit=2&cursor=a").startswith(
        b"GET /path?limit=2&cursor=a HTTP/1.1\r\n"
    )
    assert load.request("GET", "http://host:1?limit=2").startswith(b"GET /?limit=2 HTTP/1.1\r\n")
    assert load.request("GET", "http://host:1").startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(("commands", "percent", "are_met"), [(3, 0.5, [True, True]), (3.01, 0.51, [False, False])])
def test_the_marks_of_idle_ask_for_the_process_with_most(commands: float, percent: float, are_met: list[bool]) -> None:
    calm = {"commands_a_second": 1, "cpu_percent": {"worker": 0.1}}
    busy = {"commands_a_second": commands, "cpu_percent": {"supervisor": 0, "child 1": percent, "child 2": 0}}
    assert [mark["met"] for mark in idle.marks([calm, busy])] == are_met


def test_lateness_is_that_of_first_arrivals() -> None:
    due_times = {str(number): 10 + number / 100 for number in range(101)}
    arrivals = [Arrival(due + number / 1000, key) for number, (key, due) in enumerate(due_times.items())]
    found = lateness.figures(due_times, [*arrivals, Arrival(99, "0")])
    assert found["late_ms"] == {"min": 0, "p50": 50, "p99": 99, "max": 100}
    assert found["due_a_second"] == 100
    assert found["duplicates"] == 1
    assert lateness.figures({"a": 1.0}, [Arrival(1.001, "a")])["late_ms"]["p50"] == 1


def bursts(ratio: float = 1, worker_us: float = 1, redis_us: float = 1, distinct: float = 1) -> list[dict[str, Any]]:
    cpu_us = {"worker": worker_us, "redis": redis_us}
    rates = {"one": (100, 1, 100), "distinct": (100 * distinct, 2, 10)}
    return [
        {"workers": workers, "urls": urls, "ratio": ratio if workers == 1 else 0.1, "cpu_us": cpu_us}
        | {"rounds": [{"a_second": rate} for rate in rates[urls]]}
        for workers in (1, 2)
        for urls in rates
    ]


@pytest.mark.parametrize(
    ("ratio", "worker_us", "redis_us", "distinct", "are_met"),
    [(0.75, 50, 28, 0.9, 4 * [True]), (0.749, 50.1, 28.1, 0.899, 4 * [False])],
)
def test_the_marks_of_a_burst(
    ratio: float, worker_us: float, redis_us: float, distinct: float, are_met: list[bool]
) -> None:
    found = bursts(ratio, worker_us, redis_us, distinct)
    assert [mark["met"] for mark in burst.marks(found)] == are_met


def test_a_burst_has_the_marks_of_what_was_measured_alone() -> None:
    found = bursts()
    assert len(burst.marks([one for one in found if one["urls"] == "one"])) == 3
    assert burst.marks([one for one in found if one["urls"] == "distinct"]) == []
    assert burst.marks([one for one in found if one["workers"] == 2]) == []


@pytest.mark.parametrize(("kept_us", "callbacks_us", "are_met"), [(4, 15, [True, True]), (4.1, 15.1, [False, False])])
def test_the_marks_of_options_are_medians_of_what_a_round_had_more(
    kept_us: float, callbacks_us: float, are_met: list[bool]
) -> None:
    def rounds(worker_us: float, redis_us: float) -> list[dict[str, Any]]:
        return [{"cpu_us": {"worker": base + worker_us, "redis": base + redis_us}} for base in (1, 50, 1_000)]

    plain = {options.PLAIN: rounds(0, 0), options.KEPT: rounds(1, kept_us)}
    found = options.marks({**plain, options.WITH_CALLBACKS: rounds(1 + callbacks_us, 50)})
    assert [mark["met"] for mark in found] == are_met
    assert [mark["found"] for mark in found] == [kept_us, callbacks_us]


def test_the_mark_of_memory_asks_for_what_a_task_takes_besides_its_record() -> None:
    found = {kinds.SPREAD: {"bytes_a_task": 400, "record_bytes": 200}}
    assert kinds.marks(found) == []
    for taken, is_met in ((760, True), (760.1, False)):
        (mark,) = kinds.marks({**found, kinds.SPREAD_CALLBACKS: {"bytes_a_task": taken, "record_bytes": 500}})
        assert (mark["found"], mark["met"]) == (round(taken - 700, 1), is_met)


@pytest.mark.parametrize(("ratio", "schedule_us", "are_met"), [(0.7, 50, [True, True]), (0.699, 50.1, [False, False])])
def test_the_marks_of_the_api(ratio: float, schedule_us: float, are_met: list[bool]) -> None:
    assert [mark["met"] for mark in api.marks(ratio, schedule_us)] == are_met


def test_each_task_has_the_one_webhook_or_its_own() -> None:
    assert Webhooks(["http://a/"]).first(2) == ["http://a/", "http://a/"]
    signature = "0" * 63
    assert Webhooks(["http://a/", "http://b/"]).first(2) == [
        f"http://a/orders/0?id=0&signature={signature}0",
        f"http://b/orders/1?id=1&signature={signature}1",
    ]


@pytest.mark.parametrize(
    ("p50_ms", "p99_ms", "due_a_second", "are_met"),
    [(2, 10, 300, [True, True]), (2.01, 10.01, 300, [False, False]), (1, 1, 290, [False, False])],
)
def test_the_marks_of_lateness(p50_ms: float, p99_ms: float, due_a_second: float, are_met: list[bool]) -> None:
    run = {"roles": "all", "rate": 300, "late_ms": {"p50": p50_ms, "p99": p99_ms}, "due_a_second": due_a_second}
    assert [mark["met"] for mark in lateness.marks([run, run | {"rate": 100}])] == are_met


def test_series_come_due_evenly_through_a_minute_or_all_at_once() -> None:
    assert series.due_times(series.SPREAD, series.EVERY, 4, 100.5) == [100.5, 115.5, 130.5, 145.5]
    assert series.due_times(series.INSTANT, series.EVERY, 2, 100.5) == [100.5, 100.5]
    assert series.due_times(series.INSTANT, series.CRON, 2, 120.5) == [180, 180]
    assert series.rule_of(series.EVERY, 7, 180) == {"every": 120}
    for rule, count in ((series.CRON, 60), (series.CRONS, 3_600)):
        crons = [series.rule_of(rule, number, 180)["cron"] for number in range(10_000)]
        assert len(set(crons)) == count
        assert all(cron.startswith("3,") and max(map(int, cron.split()[0].split(","))) < 60 for cron in crons)


@pytest.mark.parametrize(("p99_ms", "last_ms", "are_met"), [(50, 1_500, [True, True]), (50.1, 1_500.1, [False, False])])
def test_the_marks_of_series_are_those_of_the_median_round(p99_ms: float, last_ms: float, are_met: list[bool]) -> None:
    rounds = [{"late_ms": {"p99": p99_ms * by, "max": last_ms * by}} for by in (0.5, 1, 9)]
    found = series.marks({"spread-every": rounds, "instant-cron": rounds, "instant-crons": rounds})
    assert [mark["met"] for mark in found] == are_met
    assert [mark["found"] for mark in found] == [p99_ms, last_ms]


@pytest.mark.parametrize(
    ("longest_ms", "held_ms", "p99_ms", "are_met"),
    [(1_200, [], 6, [True, True, True]), (1_201, [5.1, 5.01], 6.1, [False, False, False])],
)
def test_the_marks_of_bulk_are_those_of_the_worst_operation(
    longest_ms: float, held_ms: list[float], p99_ms: float, are_met: list[bool]
) -> None:
    calm = {"longest_ms": 1, "redis_held_ms": [], "others_ms": {"p99": 1}}
    worst = {"longest_ms": longest_ms, "redis_held_ms": held_ms, "others_ms": {"p99": p99_ms}}
    found = bulk.marks({"operations": [calm, worst, calm], "alone_ms": {"p99": 1}})
    assert [mark["met"] for mark in found] == are_met
    assert found[1]["found"] == max(held_ms, default=0)


@pytest.mark.parametrize(("bytes_a_task", "ratio", "are_met"), [(364, 1.5, True), (364.1, 1.51, False)])
def test_the_marks_of_scale(bytes_a_task: float, ratio: float, are_met: bool) -> None:
    found = {
        "memory": [{"tasks": 1, "bytes_a_task": bytes_a_task, "record_bytes": 144}],
        "times_ms": {"get": {"ratio": ratio}},
        "retries": {"settings": {"retries": 1}, "percent": 1},
    }
    assert [mark["met"] for mark in scale.marks(found)] == [are_met, are_met, True]


@pytest.mark.parametrize(("percent", "is_met"), [(5, True), (5.01, False)])
def test_the_mark_of_what_waits_for_a_retry(percent: float, is_met: bool) -> None:
    assert retries.mark({"settings": {"retries": 1}, "percent": percent})["met"] is is_met


def test_the_lateness_of_a_retry_counts_from_the_end_of_its_attempt_and_the_retry_time() -> None:
    failures = [Arrival(10, "a"), Arrival(11, "b")]
    found = retries.lateness(failures, [Arrival(70.1, "a"), Arrival(71.3, "b")], 60)
    assert found == {"min": 100, "p50": 100, "p99": 300, "max": 300}


@pytest.mark.parametrize(("last", "is_flat"), [(104.9, True), (105.1, False)])
def test_memory_is_flat_within_its_bound(last: float, is_flat: bool) -> None:
    assert failing.growth([100] * 3 + [200] * 3 + [last] * 3)["is_flat"] is is_flat


@pytest.mark.parametrize(
    ("a_second", "at_once", "used_percent", "p99_ms", "met"),
    [
        (306, 50, 98.0, 3.0, [True] * 5),
        (294, 51, 97.9, 3.0, [True, True, False, False, True]),
        (307, 50, 100, 3.1, [False, False, True, True, True]),
    ],
)
def test_the_marks_of_limits(
    a_second: float, at_once: int, used_percent: float, p99_ms: float, met: list[bool]
) -> None:
    rate = {"a_second": a_second, "others": {"p99_ms": p99_ms}}
    concurrency = {"at_once": at_once, "used_percent": used_percent, "others": {"p99_ms": 2.0}}
    found = {
        "unlimited": {"p99_ms": 2.0},
        "limited": {"rate of a host": rate, "concurrency of a limit_key": concurrency},
    }
    options = argparse.Namespace(rate=300.0, concurrency=50)
    assert [mark["met"] for mark in limits.marks(found, options)] == met


def test_what_is_answered_at_once_is_counted_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("benchmarks.receiver.time.monotonic", lambda: now)
    flights = Flights()
    flights.read()
    for at, by in ((101, 1), (102, 1), (104, -1)):
        now = at
        flights.change(by)
    now = 105
    assert flights.read() == (2, 1 + 2 * 2 + 1)
    now = 106
    assert flights.read() == (1, 1)
