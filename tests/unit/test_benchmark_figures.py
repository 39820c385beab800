"""What the benchmarks make of what arrived, and when a mark is met."""

import pytest

from benchmarks import burst, failing, harness, lateness, report, retries, scale
from benchmarks.harness import Arrival


def test_a_rate_is_that_from_the_first_arrival_to_the_last() -> None:
    found = burst.figure([Arrival(100 + number / 10, "") for number in range(11)], {"workers": 0.5})
    assert (found.arrivals, found.seconds, found.a_second) == (11, 1.0, 10.0)
    assert found.cpu_percent == {"workers": 50}


def test_what_is_missing_doubled_and_unknown_is_counted_and_keeps_no_figure() -> None:
    arrivals = [Arrival(1, key) for key in ("a", "b", "b", "x")]
    assert harness.checks(["a", "b", "c"], arrivals) == {"missing": 1, "duplicates": 1, "unknown": 1}
    assert report.whole(harness.checks(["a", "b"], arrivals[:2])) == {"missing": 0, "duplicates": 0, "unknown": 0}
    for wrong in ("missing", "duplicates", "unknown"):
        with pytest.raises(SystemExit, match=wrong):
            report.whole({"missing": 0, "duplicates": 0, "unknown": 0, wrong: 1})


def test_lateness_is_that_of_first_arrivals() -> None:
    due_times = {str(number): 10 + number / 100 for number in range(101)}
    arrivals = [Arrival(due + number / 1000, key) for number, (key, due) in enumerate(due_times.items())]
    found = lateness.figures(due_times, [*arrivals, Arrival(99, "0")])
    assert found["late_ms"] == {"min": 0, "p50": 50, "p99": 99, "max": 100}
    assert found["due_a_second"] == 100
    assert found["duplicates"] == 1
    assert lateness.figures({"a": 1.0}, [Arrival(1.001, "a")])["late_ms"]["p50"] == 1


@pytest.mark.parametrize(("ratio", "is_met"), [(0.75, True), (0.749, False)])
def test_the_mark_of_a_burst(ratio: float, is_met: bool) -> None:
    [mark] = burst.marks([{"workers": 1, "ratio": ratio}, {"workers": 2, "ratio": 0.1}])
    assert mark["met"] is is_met


@pytest.mark.parametrize(
    ("p50_ms", "p99_ms", "due_a_second", "are_met"),
    [(2, 10, 300, [True, True]), (2.01, 10.01, 300, [False, False]), (1, 1, 290, [False, False])],
)
def test_the_marks_of_lateness(p50_ms: float, p99_ms: float, due_a_second: float, are_met: list[bool]) -> None:
    run = {"roles": "all", "rate": 300, "late_ms": {"p50": p50_ms, "p99": p99_ms}, "due_a_second": due_a_second}
    assert [mark["met"] for mark in lateness.marks([run, run | {"rate": 100}])] == are_met


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
