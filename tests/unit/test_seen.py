"""What a worker saw of hosts: the last five minutes, bounded, the busiest first, and those that fail."""

from collections import deque

import pytest

from redis_scheduler.engine.hosts import Host
from redis_scheduler.engine.seen import FAILED, HOSTS_MOST, ORIGINS_MOST, PERIOD_S, HostsSeen
from redis_scheduler.store.processes import HOSTS_TOLD
from redis_scheduler.task.outcome import Outcome
from tests.support.slots import claim


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_attempts_are_told_by_host_with_their_failures(clock: Clock) -> None:
    seen = HostsSeen(clock)
    for _ in range(3):
        seen.count("http://h:80", Outcome(None, 200, 7))
    seen.count("http://h", Outcome("answered 503", 503, 1_500))
    seen.count("https://i", Outcome("timeout", None, 90_000, fault="timeout"))
    clock.now += 3
    span_ms, [second, first] = seen.told()
    assert (span_ms, first.host, sum(first.took), first.failed, first.error) == (3_000, "h:80", 4, 1, "answered 503")
    assert (second.host, second.took[-1], second.failed, second.error) == ("i:443", 1, 1, "timeout")
    assert first.error_ms > 1_600_000_000_000


def test_what_is_older_than_five_minutes_is_forgotten(clock: Clock) -> None:
    seen = HostsSeen(clock)
    for period in range(5):
        seen.count("http://h", Outcome("answered 500", 500, period))
        seen.told()
        clock.now += PERIOD_S
    totals = []
    for _ in range(6):
        totals.append([(one.host, sum(one.took), one.error) for one in seen.told()[1]])
        clock.now += PERIOD_S
    assert [found[0][1] if found else 0 for found in totals] == [5, 4, 3, 2, 1, 0]
    assert totals[0][0][2] == "answered 500"
    assert seen.told()[0] <= 6 * PERIOD_S * 1000
    assert not seen._errors


def test_what_runs_and_who_is_slow_is_told_first(clock: Clock) -> None:
    seen = HostsSeen(clock)
    for number in range(HOSTS_TOLD + 10):
        seen.count(f"http://h{number}", Outcome(None, 200, 1))
    hosts = [
        Host("s:80", [0] * 4, is_slow=True),
        Host("r:80", [0] * 4, running=3),
        Host("r:80", [0] * 4, "t", running=2),
        Host("l:80", [0] * 4, running=1, line=deque([claim()] * 3)),
    ]
    told = seen.told(hosts)[1]
    assert len(told) == HOSTS_TOLD
    assert [(one.host, one.running, one.is_slow, one.waiting) for one in told[:3]] == [
        ("s:80", 0, True, 0),
        ("r:80", 5, False, 0),
        ("l:80", 1, False, 3),
    ]


def test_who_fails_is_told_of_however_little_was_sent_there(clock: Clock) -> None:
    seen = HostsSeen(clock)
    for number in range(HOSTS_TOLD + 10):
        for _ in range(3):
            seen.count(f"http://h{number}", Outcome(None, 200, 1))
    for number in range(HOSTS_TOLD):
        seen.count(f"http://f{number}", Outcome("answered 500", 500, 1))
    told = [one.host[0] for one in seen.told()[1]]
    assert told == ["f"] * (HOSTS_TOLD // 2) + ["h"] * (HOSTS_TOLD // 2)


def test_hosts_beyond_the_bounds_are_not_counted(clock: Clock) -> None:
    seen = HostsSeen(clock)
    for number in range(2 * ORIGINS_MOST):
        seen.count(f"http://h{number}", Outcome("answered 500", 500, 1))
    assert len(seen.rows) == ORIGINS_MOST
    assert len(seen._errors) <= ORIGINS_MOST
    seen.told()
    for number in range(5_000, 5_000 + ORIGINS_MOST):
        seen.count(f"http://h{number}", Outcome(None, 200, 1))
    seen.told()
    assert len(seen._totals) == HOSTS_MOST
    assert seen._beyond[FAILED] == ORIGINS_MOST
