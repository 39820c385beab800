"""What a process counts, and what its successor takes over."""

import os
from typing import Any

import pytest

from redis_scheduler.metrics.deliveries import Deliveries
from redis_scheduler.metrics.family import (
    ATTEMPT_DURATION,
    ATTEMPTS,
    HOST_ATTEMPTS,
    LATENESS,
    REDIS_CALLS,
    REDIS_ERRORS,
    SLOTS,
)
from redis_scheduler.metrics.hosts import CANDIDATES_MOST, PERIOD_S, BusiestHosts
from redis_scheduler.metrics.meter import SUM, Meter
from redis_scheduler.metrics.snapshots import HALF_BYTES, PLACE_BYTES, Snapshots, leave_counters, shared_memory, total
from redis_scheduler.task.tally import EXACT_MS, Tally


def test_a_second_of_deliveries_is_counted_as_the_history_counts_it() -> None:
    meter, tally = Meter(), Tally()
    for ms in (0, 1, 1, 7, 1_000):
        tally.delivered[ms] += 1
    tally.late[0] += 1
    tally.late[3] += 2
    tally.count_late(70_000)
    tally.count_late(-5)
    for ms in (400, 25_000):
        tally.count_took(ms)
    tally.others["failed:5xx"] += 1
    tally.others["failed:acknowledgement"] += 4  # no attempts
    Deliveries(meter, EXACT_MS).add(tally.delivered, tally.late, tally.others, tally.took_ms, tally.late_ms)
    took, late = meter.numbers(ATTEMPT_DURATION), meter.numbers(LATENESS)
    assert [count for count in took[:SUM] if count] == [1, 2, 1, 1, 1, 1]
    assert took[SUM] == (1 + 1 + 7 + 1_000 + 400 + 25_000) * 1_000_000
    assert took[0] == 1
    assert late[:2] == [0, 2]  # nobody knows of the first whether it was less than half a millisecond
    assert late[SUM - 1] == 1
    assert late[SUM] == (2 * 3 + 70_000) * 1_000_000
    assert meter.numbers(ATTEMPTS, "5xx") == [1]
    assert meter.numbers(ATTEMPTS, "2xx") == [6]


def test_a_script_is_timed_in_one_histogram() -> None:
    meter = Meter()
    meter.called("settle", 400_000)
    meter.called("settle", 61 * 10**9)
    histogram = meter.read()[REDIS_CALLS.name, "settle"]
    assert (histogram[0], histogram[SUM - 1], histogram[SUM]) == (1, 1, 61 * 10**9 + 400_000)


def test_a_gauge_is_set_and_a_counter_is_not() -> None:
    with pytest.raises(ValueError, match="only grows"):
        Meter().set(REDIS_ERRORS, "away", value=1)


def test_a_successor_goes_on_with_the_counters_and_not_with_the_gauges() -> None:
    descriptor = shared_memory(2)
    first = Meter()
    first.add(REDIS_ERRORS, "full", number=5)
    first.set(SLOTS, "busy", value=3)
    place = Snapshots(descriptor, 1)
    for _ in range(3):
        place.write(first.read())
    again = Meter(Snapshots(descriptor, 1).own())
    again.add(REDIS_ERRORS, "full")
    assert again.numbers(REDIS_ERRORS, "full") == [6]
    assert (SLOTS.name, "busy") not in again.read()
    Snapshots(descriptor, 1).write(again.read())
    [other] = Snapshots(descriptor, 0).others()
    assert total([first.read(), other])[REDIS_ERRORS.name, "full"] == [11]
    os.close(descriptor)


def test_one_that_is_killed_while_it_writes_leaves_what_it_wrote_before(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor, pwrite, written = shared_memory(1), os.pwrite, 0

    def write_once(*arguments: Any) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise SystemExit  # the content is written, and nothing says so
        return pwrite(*arguments)

    meter, place = Meter(), Snapshots(descriptor, 0)
    for number in (1, 2, 3):
        meter.add(REDIS_ERRORS, "away")
        place.write(meter.read())
        meter.add(REDIS_ERRORS, "away", number=100)
        written = 0
        monkeypatch.setattr(os, "pwrite", write_once)
        with pytest.raises(SystemExit):
            place.write(meter.read())
        monkeypatch.setattr(os, "pwrite", pwrite)
        place = Snapshots(descriptor, 0)
        assert place.own()[REDIS_ERRORS.name, "away"] == [number]
        meter = Meter(place.own())
    os.close(descriptor)


def test_a_snapshot_that_is_not_whole_does_not_count() -> None:
    descriptor = shared_memory(1)
    meter, place = Meter(), Snapshots(descriptor, 0)
    for _ in range(2):
        meter.add(REDIS_ERRORS, "away")
        place.write(meter.read())
    os.pwrite(descriptor, b"\xff" * 8, place._half * HALF_BYTES + 40)
    assert Snapshots(descriptor, 0).own()[REDIS_ERRORS.name, "away"] == [1]
    os.close(descriptor)


def test_of_a_child_that_has_ended_the_counters_are_told_and_not_the_gauges() -> None:
    descriptor = shared_memory(2)
    meter = Meter()
    meter.set(SLOTS, "busy", value=3)
    meter.add(REDIS_ERRORS, "away")
    Snapshots(descriptor, 1).write(meter.read())
    leave_counters(descriptor, 1)
    [left] = Snapshots(descriptor, 0).others()
    assert left[REDIS_ERRORS.name, "away"] == [1]
    assert (SLOTS.name, "busy") not in left
    os.close(descriptor)


def test_what_is_too_large_for_its_place_is_counted_and_spoils_no_other() -> None:
    descriptor = shared_memory(2)
    place = Snapshots(descriptor, 0)
    place.write({("x" * HALF_BYTES,): [1]})
    assert place.dropped == 1
    assert os.pread(descriptor, 2 * PLACE_BYTES, 0).strip(b"\0") == b""
    os.close(descriptor)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def attempts_by_host(meter: Meter) -> dict[tuple[str, ...], int]:
    return {key[1:]: numbers[0] for key, numbers in meter.read().items() if key[0] == HOST_ATTEMPTS.name}


def test_the_busiest_hosts_have_names_and_the_others_have_one_together() -> None:
    meter, clock = Meter(), Clock()
    hosts = BusiestHosts(meter, 2, clock)
    hosts.add({("a:1", "2xx"): 1, ("b:1", "5xx"): 10, ("c:1", "2xx"): 3, ("d:1", "5xx"): 1})
    assert attempts_by_host(meter) == {
        ("a:1", "2xx"): 1,
        ("b:1", "5xx"): 10,
        ("other", "2xx"): 3,
        ("other", "5xx"): 1,
    }
    clock.now = 60
    hosts.add({("a:1", "tls"): 0})  # c got more than twice as many as a
    assert attempts_by_host(meter) == {
        ("b:1", "5xx"): 10,
        ("other", "2xx"): 4,
        ("other", "5xx"): 1,
        ("other", "tls"): 0,
    }
    hosts.add({("c:1", "2xx"): 5, ("a:1", "2xx"): 1})
    assert attempts_by_host(meter)["c:1", "2xx"] == 5
    assert attempts_by_host(meter)["other", "2xx"] == 5


def test_a_host_that_is_no_busier_takes_no_place_and_all_attempts_are_told() -> None:
    meter, clock = Meter(), Clock()
    hosts = BusiestHosts(meter, 3, clock)
    told = 0
    for minute in range(30):
        clock.now = minute * PERIOD_S
        counts = {(f"{host}:1", "2xx"): 10 + (host * minute) % 7 for host in range(40)}
        hosts.add(counts)
        told += sum(counts.values())
        assert {host for host, _ in attempts_by_host(meter)} == {"0:1", "1:1", "2:1", "other"}
    assert sum(attempts_by_host(meter).values()) == told


def test_any_number_of_hosts_take_a_bounded_room() -> None:
    meter, clock = Meter(), Clock()
    hosts = BusiestHosts(meter, 20, clock)
    for turn in range(50):
        clock.now = turn * 10
        hosts.add({(f"{turn}-{host}:1", "2xx"): host for host in range(1_000)})
    assert len(attempts_by_host(meter)) <= 21
    assert len(hosts._candidates) <= CANDIDATES_MOST
    assert sum(attempts_by_host(meter).values()) == 50 * sum(range(1_000))


def test_a_successor_tells_of_the_same_hosts() -> None:
    first = Meter()
    BusiestHosts(first, 1).add({("a:1", "2xx"): 7})
    again = Meter(first.read())
    BusiestHosts(again, 1).add({("b:1", "2xx"): 1, ("a:1", "2xx"): 1})
    assert attempts_by_host(again) == {("a:1", "2xx"): 8, ("other", "2xx"): 1}
