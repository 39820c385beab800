"""What a process counts, and what its successor takes over."""

import os

import pytest

from redis_scheduler.metrics.deliveries import Deliveries
from redis_scheduler.metrics.family import ATTEMPT_DURATION, ATTEMPTS, LATENESS, REDIS_CALLS, REDIS_ERRORS, SLOTS
from redis_scheduler.metrics.meter import SUM, Meter
from redis_scheduler.metrics.snapshots import HALF_BYTES, PLACE_BYTES, Snapshots, shared_memory, total
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


def test_one_that_is_killed_while_it_writes_leaves_what_it_wrote_before() -> None:
    descriptor = shared_memory(1)
    meter, place = Meter(), Snapshots(descriptor, 0)
    for number in (1, 2):
        meter.add(REDIS_ERRORS, "away")
        place.write(meter.read())
        for half in range(2):  # the one that is not read is spoilt
            if place._half != half:
                os.pwrite(descriptor, b"\xff" * 40, half * HALF_BYTES + 16)
        assert Snapshots(descriptor, 0).own()[REDIS_ERRORS.name, "away"] == [number]
        place = Snapshots(descriptor, 0)
    os.close(descriptor)


def test_what_is_too_large_for_its_place_is_counted_and_spoils_no_other() -> None:
    descriptor = shared_memory(2)
    place = Snapshots(descriptor, 0)
    place.write({("x" * HALF_BYTES,): [1]})
    assert place.dropped == 1
    assert os.pread(descriptor, 2 * PLACE_BYTES, 0).strip(b"\0") == b""
    os.close(descriptor)
