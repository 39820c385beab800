"""The slots of a worker: how much a claim, a promotion and a step of the sweep may bring."""

import pytest

from redis_scheduler.engine.slots import Slots
from tests.support.slots import NOW, begun, claim, crowd, judged_slow, make_well


def holding(running: int, in_line: int, sent_back: int = 0, coming_free: int = 0) -> Slots:
    """Return a hundred slots with so much of hosts that are well."""
    slots = Slots(100)
    hosts = [f"fast-{number % 20}" for number in range(running)]
    make_well(slots, *set(hosts))
    for host in hosts:
        slots.add(claim(host), NOW)
    assert len(begun(slots)) == running
    slots.sent_back, slots.coming_free = sent_back, coming_free
    for _ in range(in_line):
        slots.add(claim("fast-0"), NOW)
    assert (slots.running, slots.in_line, slots.reserve, slots.is_crowded) == (running, in_line, 11, False)
    return slots


@pytest.mark.parametrize(
    ("slots", "loading", "limit"),
    [
        # All but the reserve, and what is loading will take.
        (holding(0, 0), 0, 89),
        (holding(0, 0), 30, 59),
        (holding(60, 9), 0, 20),
        # One where nothing stands in line and nothing is loading, also for a host that would have to wait.
        (holding(90, 0), 0, 1),
        (holding(90, 0), 1, 0),
        (holding(90, 1), 0, 0),
        (holding(89, 20), 0, 0),
        # As many more as come free meanwhile.
        (holding(89, 20, coming_free=60), 0, 40),
        # Past what went back, but not behind a long line.
        (holding(60, 0, sent_back=10), 0, 49),
        (holding(60, 11, sent_back=10), 0, 38),
        (holding(60, 12, sent_back=10), 0, 17),
        (holding(60, 12, sent_back=10, coming_free=1), 0, 38),
    ],
)
def test_how_much_a_claim_may_bring(slots: Slots, loading: int, limit: int) -> None:
    assert slots.claimable(loading) == limit


@pytest.mark.parametrize(
    ("slots", "loading", "claim_limit", "most", "limit"),
    [
        # A tenth beyond what the claim under way may bring.
        (holding(0, 0), 0, 0, 50, 10),
        (holding(0, 0), 0, 89, 50, 10),
        (holding(5, 0), 0, 89, 50, 5),
        (holding(20, 0), 0, 89, 50, 0),
        # No more than is free, nor than may be.
        (holding(83, 0), 0, 0, 50, 6),
        (holding(83, 0), 4, 0, 50, 2),
        (holding(89, 5), 0, 0, 50, 0),
        (holding(0, 0), 0, 0, 3, 3),
        (crowd()[0], 0, 0, 50, 0),
    ],
)
def test_how_much_a_promotion_may_claim(slots: Slots, loading: int, claim_limit: int, most: int, limit: int) -> None:
    assert slots.promotable(loading, claim_limit, most) == limit


@pytest.mark.parametrize(
    ("slots", "limit"),
    [
        (holding(0, 0), 89),
        (holding(60, 9), 20),
        # The reserve of claims is left, or as much as the sweep's own.
        (holding(80, 0), 11),
        (holding(89, 4), 7),
        # One may wait where no line stands.
        (Slots(1), 1),
        (holding(89, 11), 0),
    ],
)
def test_how_much_the_sweep_may_take(slots: Slots, limit: int) -> None:
    assert slots.reclaimable == limit


def test_the_sweep_takes_no_more_where_as_much_is_stuck_as_there_are_slots() -> None:
    slots, _, now = judged_slow()
    for stuck in range(90):
        assert slots.reclaimable == min(14, 90 - stuck)
        slots.add(claim(tries=2), now)
        assert slots.surplus(now) == []
    assert (slots.stuck, slots.reclaimable) == (90, 0)
