"""The surplus of a worker's slots: what of a line goes back, when it comes again, and when the lines are looked at."""

import random
from collections import Counter

import pytest

from redis_scheduler.engine.hosts import Kind
from redis_scheduler.engine.slots import Slots
from redis_scheduler.engine.surplus import RETURN_STEP_S, RETURNS_PER_SLOT_S
from redis_scheduler.task.claim import Claim
from tests.support.slots import (
    NOW,
    PERIOD_S,
    begin,
    claim,
    crowd,
    end,
    hang,
    judged_slow,
    make_well,
    pass_periods,
)

# Surplus


def test_the_line_of_a_fast_host_stays() -> None:
    slots, now = Slots(90), NOW
    make_well(slots, "fast")
    running = begin(slots, 100, "fast")
    for _ in range(5):
        assert slots.surplus(now) == []
        now = pass_periods(slots, 1, now)
        assert slots.surplus(now) == []
        end(slots, running)
        running = begin(slots, 80, "fast", now)
        assert slots.in_line == 20


def test_what_waits_for_the_first_delivery_of_its_host_waits_while_there_is_room() -> None:
    slots, now = crowd()
    begin(slots, 5, "asked-for", now)
    assert slots.in_line == 4
    assert slots.surplus(now) == []
    assert slots.free > 0
    now = pass_periods(slots, 2, now)
    assert len(slots.surplus(now)) == 4


def test_the_line_of_a_slow_host_goes_back_at_a_pace_and_what_comes_next_at_once() -> None:
    slots = Slots(90)
    running = len(begin(slots, 80))
    now = pass_periods(slots, 1)
    assert slots.surplus(now) == []
    now = pass_periods(slots, 1, now)
    begin(slots, 500, now=now)
    back = slots.surplus(now)
    assert len(back) == 580 - running
    delays = [delay_s for _, delay_s in back]
    assert delays == sorted(delays)
    assert min(delays) >= PERIOD_S
    pace_per_s = RETURNS_PER_SLOT_S * running
    assert len(back) / pace_per_s <= max(delays) <= len(back) / pace_per_s + PERIOD_S + RETURN_STEP_S
    assert max(Counter(delays).values()) <= pace_per_s * RETURN_STEP_S + 1
    assert (slots.in_line, slots.reserve) == (0, 1)
    begin(slots, 3, now=now)
    [*_, (_, delay_s)] = slots.surplus(now + 0.01)
    assert delay_s >= max(delays) - RETURN_STEP_S


@pytest.mark.parametrize("concurrency", [8, 200, 1000])
def test_what_comes_back_of_a_thousand_hosts_keeps_one_pace(concurrency: int) -> None:
    slots = Slots(concurrency)
    _, now = hang(slots)
    back: list[float] = []
    for number in range(3000):
        begin(slots, 1, f"another-{number}", now)
        back += [delay_s for _, delay_s in slots.surplus(now)]
    assert max(Counter(back).values()) <= max(100, concurrency) * RETURN_STEP_S + 1


def test_a_few_of_what_may_not_begin_wait_while_slow_hosts_do_not_crowd_the_slots() -> None:
    slots = Slots(200)
    for number in range(300):
        begin(slots, 1, f"new-{number}")
        slots.surplus(NOW)
    assert slots.in_line == slots.reserve == 22
    now = pass_periods(slots, 2)
    slots.surplus(now)
    assert slots.is_crowded
    assert slots.in_line == 0


def test_what_has_lost_a_worker_stays_with_a_slow_host_and_holds_up_no_other() -> None:
    slots, _, now = judged_slow()
    free = slots.free
    slots.add(claim(tries=2), now)
    slots.add(claim(), now)
    assert len(slots.surplus(now)) == 1
    assert (slots.stuck, slots.in_line, slots.free) == (1, 0, free)


def test_a_slow_host_alone_on_one_slot_has_it() -> None:
    slots = Slots(1)
    [running] = begin(slots, 3)
    now = pass_periods(slots, 2)
    assert len(slots.surplus(now)) == 2
    slots.end(running)
    assert len(begin(slots, 1, now=now)) == 1


def test_large_tasks_come_back_more_slowly() -> None:
    slots, _, now = judged_slow()
    for _ in range(100):
        slots.add(claim(data=bytes(1_000_000)), now)
    [*_, (_, delay_s)] = slots.surplus(now)
    assert 10 <= delay_s < 11


# Counted and remembered instead of looked up each time


class Forgetful(Slots):
    """Slots that look at every line whenever they are asked for surplus."""

    @property
    def has_surplus(self) -> bool:
        self._may_have_surplus = True
        return super().has_surplus


@pytest.mark.parametrize(("concurrency", "hosts"), [(1, 3), (2, 4), (8, 10), (20, 22), (20, 60)])
@pytest.mark.parametrize("seed", range(15))
def test_what_is_remembered_of_lines_is_what_a_look_at_all_of_them_finds(
    seed: int, concurrency: int, hosts: int
) -> None:
    chance, now = random.Random(seed), NOW
    both = Slots(concurrency), Forgetful(concurrency)
    running: list[Claim] = []
    for _ in range(1_500):
        step = chance.choices(["add", "begin", "end", "excuse", "remove", "judge"], [6, 6, 3, 0.3, 0.3, 0.5])[0]
        if step == "add":
            new = claim(f"host-{chance.randrange(hosts)}", tries=2 if chance.random() < 0.1 else 1)
        elif step == "remove":
            gone = {waiting for host in both[0]._lines for waiting in host.line if chance.random() < 0.1}
        one = chance.choice(running) if running else None
        now += PERIOD_S if step == "judge" else chance.random() * 0.02
        began: list[Claim | None] = []
        for slots in both:
            slots._now = now  # as if a claim of some host without a line had come
            if step == "add":
                slots.add(new, now)
            elif step == "begin":
                began.append(slots.begin())
            elif step == "remove":
                slots.remove(gone)
            elif step == "judge":
                slots.judge(now)
            elif one is not None:
                if step == "end":
                    slots.end(one)
                elif one not in slots._excused:
                    slots.excuse(one)
        if began and began[0] is not None:
            running.append(began[0])
        elif step == "end" and one is not None:
            running.remove(one)
        assert not began or began[0] is began[1]
        # Not always at once: a worker without its lease gives nothing back.
        if chance.random() < 0.9:
            back, back_too = [slots.surplus(now) if slots.has_surplus else [] for slots in both]
            assert back == back_too
        for slots in both:
            assert slots.stuck == sum(len(host.line) for host in slots._lines if host.kind is Kind.DOUBTFUL)
        kinds = [[(host.name, host.kind, host.is_slow) for host in slots._lines] for slots in both]
        assert kinds[0] == kinds[1]
