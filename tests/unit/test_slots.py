"""The slots of a worker: shares, lines, and what is known of hosts."""

from collections import Counter
from dataclasses import replace

import pytest

from redis_scheduler.engine.observer import Log
from redis_scheduler.engine.slots import PATIENCE, Slots
from redis_scheduler.engine.surplus import RETURN_STEP_S
from redis_scheduler.host import host_of
from redis_scheduler.task.claim import Claim
from tests.support.slots import (
    NOW,
    PERIOD_S,
    begin,
    begun,
    claim,
    crowd,
    end,
    hang,
    judged_slow,
    make_well,
    pass_periods,
)

# Shares


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (8, 7), (9, 8), (10, 9), (90, 80), (200, 178)])
def test_a_well_host_alone_takes_eight_of_nine_slots_and_never_all_of_several(concurrency: int, most: int) -> None:
    slots = Slots(concurrency)
    make_well(slots, "fast")
    assert len(begin(slots, 2 * concurrency, "fast")) == most
    assert (slots.running, slots.in_line, slots.free) == (most, 2 * concurrency - most, -concurrency)


@pytest.mark.parametrize(
    ("concurrency", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 5), (20, 16), (90, 75), (200, 168)]
)
def test_a_new_host_alone_leaves_what_is_kept_for_others(concurrency: int, most: int) -> None:
    assert len(begin(Slots(concurrency), 2 * concurrency)) == most


@pytest.mark.parametrize("concurrency", [*range(3, 30), 89, 90, 91, 200])
def test_one_claim_brings_a_well_host_no_more_than_it_may_begin(concurrency: int) -> None:
    for running in range(concurrency * 8 // 9):
        slots, hanging, now = judged_slow(concurrency)
        end(slots, hanging[running:])
        make_well(slots, "fast", now=now)
        if not slots.is_crowded:
            begin(slots, slots.free - slots.reserve, "fast", now)
            assert not slots.in_line


def test_two_hosts_leave_slots_to_a_third() -> None:
    slots = Slots(200)
    make_well(slots, "a", "b", "c")
    for _ in range(300):
        slots.add(claim("a"), NOW)
        slots.add(claim("b"), NOW)
    held = Counter(host_of(one.record.origin) for one in begun(slots))
    assert abs(held["a:80"] - held["b:80"]) <= 1
    assert len(begin(slots, 10, "c")) == 7


def test_lines_take_turns_and_keep_their_order() -> None:
    slots = Slots(1)
    [running] = begin(slots, 1)
    wanted = [claim("a"), claim("a"), claim("b"), claim("b")]
    for one in wanted:
        slots.add(one, NOW)
    order = []
    for _ in wanted:
        slots.end(running)
        [running] = begun(slots)
        order.append(running)
    assert order == [wanted[0], wanted[2], wanted[1], wanted[3]]


def test_what_ends_makes_room_for_the_line_of_its_host() -> None:
    slots = Slots(90)
    make_well(slots, "fast")
    running = begin(slots, 90, "fast")
    assert (len(running), slots.in_line) == (80, 10)
    slots.end(running[0])
    assert len(begun(slots)) == 1
    assert (slots.running, slots.in_line) == (80, 9)


@pytest.mark.parametrize(
    ("concurrency", "few"), [(4, 2), (8, 2), (9, 2), (10, 2), (18, 3), (19, 3), (90, 18), (200, 40)]
)
def test_slots_are_crowded_until_more_than_a_fifth_is_free_of_slow_hosts(concurrency: int, few: int) -> None:
    slots = Slots(concurrency)
    running = [one for number in range(concurrency) for one in begin(slots, 1, f"hangs-{number}")]
    assert not slots.is_crowded, "its hosts are not known to be slow"
    pass_periods(slots, 2)
    while concurrency - slots.running <= few:
        assert slots.is_crowded
        slots.end(running.pop())
    assert not slots.is_crowded
    make_well(slots, "fast")
    begin(slots, concurrency, "fast")
    end(slots, running)
    begin(slots, concurrency, "fast")
    assert not slots.is_crowded, "no slow host holds any"


# What is known of a host


@pytest.mark.parametrize("concurrency", [4, 8, 20, 200])
@pytest.mark.parametrize("waves", [1, 3])
def test_a_thousand_hosts_that_hang_leave_slots_to_one_that_is_well(concurrency: int, waves: int) -> None:
    slots, now = Slots(concurrency), NOW
    make_well(slots, "fast")
    running: list[Claim] = []
    for wave in range(waves):
        end(slots, running)
        running, now = hang(slots, 2 * concurrency * (wave + 1), now)
        assert slots.running >= concurrency // 2, "they use what they may"
        for _ in range(20):
            [one] = begin(slots, 1, "fast", now)
            slots.end(one)


def test_hosts_that_were_well_and_hang_all_at_once_leave_slots_to_one_that_is() -> None:
    slots = Slots(200)
    hosts = [f"host-{number}" for number in range(300)]
    make_well(slots, *hosts)
    now = NOW + 2
    make_well(slots, "fast", now=now)
    for host in hosts:
        begin(slots, 1, host, now)
    assert slots.running == 195
    slots.surplus(now)
    assert len(begin(slots, 1, "fast", now)) == 1


@pytest.mark.parametrize("concurrency", [8, 20, 200])
def test_a_new_host_with_steady_work_is_found_out_in_the_midst_of_a_thousand_that_hang(concurrency: int) -> None:
    slots = Slots(concurrency)
    for number in range(300):
        begin(slots, 1, f"hangs-{number}")
        slots.surplus(NOW)
    assert begin(slots, 1, "fast") == [], "nothing tells it from the others"
    slots.surplus(NOW)
    [one] = begin(slots, 1, "fast", NOW + 0.1)
    slots.end(one)
    assert len(begin(slots, 1, "fast", NOW + 0.1)) == 1


def test_several_tasks_of_a_new_host_tell_of_steady_work() -> None:
    slots = Slots(200)
    for number in range(300):
        begin(slots, 1, f"hangs-{number}")
        slots.surplus(NOW)
    assert begin(slots, 3, "fast")


def test_a_task_that_comes_back_is_no_steady_work() -> None:
    slots, now = crowd()
    away = claim("away")
    for _ in range(3):
        slots.add(away, now)
        assert begun(slots) == []
        [(_, in_s)] = slots.surplus(now)
        now += in_s + 0.01


@pytest.mark.parametrize("after_s", [0.0, 0.5, 5.0])
def test_another_task_tells_of_steady_work_whenever_it_comes(after_s: float) -> None:
    slots, now = crowd()
    assert begin(slots, 1, "fast", now) == []
    [(away, in_s)] = slots.surplus(now)
    now += after_s
    [one] = begin(slots, 1, "fast", now)
    slots.end(one)
    slots.add(away, now + in_s)
    assert begun(slots) == [away]


def test_the_line_of_a_host_that_is_tried_is_back_soon_after_it_is_known() -> None:
    slots, now = crowd()
    assert len(begin(slots, 50, "fast", now)) == 1
    back = [delay_s for _, delay_s in slots.surplus(now)]
    assert len(back) == 49
    assert max(back) <= 2 * PERIOD_S + RETURN_STEP_S


def test_what_hangs_leaves_slots_to_what_is_new() -> None:
    slots = Slots(200)
    running, now = hang(slots)
    for _ in range(3):  # as their slots come free they are tried again
        end(slots, running)
        running, now = hang(slots, now=now)
    assert len(begin(slots, 1, "new", now)) == 1


@pytest.mark.parametrize("concurrency", [2, 3, 8])
def test_hosts_that_are_known_to_hang_leave_one_of_few_slots_to_find_out_about_another(concurrency: int) -> None:
    slots = Slots(concurrency)
    running, now = hang(slots, 1)
    while running:  # the one is slow now; so is the other
        end(slots, running)
        now = pass_periods(slots, 2, now)
        running = begin(slots, concurrency, "hangs-0", now) + begin(slots, concurrency, "hangs-1", now)
        now = pass_periods(slots, 2, now)
        slots.surplus(now)
        if all(slots._hosts.of(f"http://hangs-{number}").is_slow for number in (0, 1)):
            break
    end(slots, running)
    begin(slots, concurrency, "hangs-0", now), begin(slots, concurrency, "hangs-1", now)
    slots.surplus(now)
    assert len(begin(slots, 1, "new", now)) == 1


@pytest.mark.parametrize("periods", [0, 1])
def test_a_host_whose_delivery_ends_before_its_second_period_is_well(periods: int) -> None:
    slots = Slots(90)
    running = begin(slots, 1)
    pass_periods(slots, periods)
    end(slots, running)
    assert slots._held == [0, 0, 0, 0]
    assert len(begin(slots, 90)) == 80


def test_a_well_host_is_slow_once_it_has_lagged_for_a_second() -> None:
    slots = Slots(90)
    make_well(slots, "slow")
    begin(slots, 90)
    now = pass_periods(slots, PATIENCE)
    assert slots.surplus(now) == []
    now = pass_periods(slots, 1, now)
    assert len(slots.surplus(now)) == 10


def test_a_well_host_that_lags_now_and_then_stays_well() -> None:
    slots, now = Slots(90), NOW
    make_well(slots, "fast")
    for _ in range(5):
        running = begin(slots, 5, "fast", now)
        now = pass_periods(slots, PATIENCE, now)
        end(slots, running)
        make_well(slots, "fast", now=now)
        now = pass_periods(slots, 1, now)
        assert not slots._hosts.of("http://fast").is_slow


def test_what_a_host_that_stood_still_sends_back_comes_as_fast_as_it_was() -> None:
    slots, now = Slots(200), NOW
    for _ in range(2):
        for _ in range(25):
            make_well(slots, "fast", now=now)
        now = pass_periods(slots, 1, now)
    running = begin(slots, 20, "fast", now)
    now = pass_periods(slots, PATIENCE + 1, now)
    end(slots, running[1:])
    _, now = hang(slots, now=now)
    begin(slots, 100, "fast", now)
    assert 0.5 < max(delay_s for _, delay_s in slots.surplus(now)) <= 1


def test_a_host_of_which_few_deliveries_hang_stays_well() -> None:
    slots, now = Slots(90), NOW
    make_well(slots, "fast")
    begin(slots, 5, "fast")
    for _ in range(8):
        end(slots, begin(slots, 6, "fast", now))
        now = pass_periods(slots, 1, now)
    assert not slots._hosts.of("http://fast").is_slow


def test_a_slow_host_that_heals_keeps_its_line_again(caplog: pytest.LogCaptureFixture) -> None:
    slots, running, now = judged_slow(observer=Log(""))
    assert [record.message for record in caplog.records] == ["receiver-slow"]
    end(slots, running)
    end(slots, begin(slots, 1, now=now))
    now = pass_periods(slots, 1, now)
    assert caplog.records[-1].message == "receiver-recovered"
    begin(slots, 90, now=now)
    assert slots.in_line == 10
    assert slots.surplus(now) == []
    assert slots.reserve == 10


def test_a_slow_host_on_the_edge_does_not_change_all_the_time() -> None:
    slots, running, now = judged_slow(20)
    end(slots, running[2:])
    end(slots, begin(slots, 2, now=now))
    now = pass_periods(slots, 1, now)
    assert slots._hosts.of("http://slow").is_slow
    end(slots, begin(slots, 3, now=now))
    pass_periods(slots, 1, now)
    assert not slots._hosts.of("http://slow").is_slow


def test_one_task_that_hangs_is_not_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    slots = Slots(90, observer=Log(""))
    running, now = hang(slots)
    end(slots, running)
    for number in range(300):
        begin(slots, 1, f"hangs-{number}", now)
    slots.surplus(now)
    assert caplog.records == []


def test_what_the_machine_cannot_begin_makes_no_host_slow() -> None:
    slots, now = Slots(90), NOW
    for periods in range(3):
        running = begin(slots, 2, now=now)
        now = pass_periods(slots, periods, now)
        for one in running:
            slots.excuse(one)
        assert slots._hosts.of("http://slow").overdue == 0
        now = pass_periods(slots, 3, now)
        end(slots, running)
    assert (slots.running, slots._held) == (0, [0, 0, 0, 0])


# Out of the lines


def test_what_stands_in_lines_is_given_back_at_a_stop() -> None:
    slots = Slots(10)
    make_well(slots, "fast")
    begin(slots, 20, "fast")
    assert len(slots.clear()) == 11
    assert (slots.in_line, slots.begin()) == (0, None)


def test_removed_claims_leave_their_lines() -> None:
    slots = Slots(1)
    begin(slots, 1)
    stay, go = claim("a"), claim("a")
    slots.add(stay, NOW)
    slots.add(go, NOW)
    assert slots.remove({go, claim()}) == [go]
    assert slots.remove({stay}) == [stay]
    assert (slots.in_line, len(slots._lines)) == (0, 0)


def test_claims_of_two_shards_with_the_same_entry_id_are_two() -> None:
    slots = Slots(8)
    one, other, third = claim("a"), claim("b"), claim("c")
    other.id = third.id = one.id
    for each in (one, other):
        slots.add(each, NOW)
    assert begun(slots) == [one, other]
    slots.excuse(one)
    slots.end(other)
    slots.end(one)
    assert (slots.running, slots.free) == (0, 8)
    slots.add(other, NOW)
    slots.add(third, NOW)
    assert slots.remove({third}) == [third]
    assert begun(slots) == [other]


# Shards


def test_no_claim_of_a_shard_whose_lease_may_have_run_out_begins() -> None:
    slots = Slots(8)
    make_well(slots, "a", "b")
    shards = [1, 0, 1, 0, 0]
    claims = [replace(claim(host), shard=shard) for host, shard in zip("aaaab", shards, strict=True)]
    for one in claims:
        slots.add(one, NOW)
    began = []
    while (leased := slots.begin([1])) is not None:
        began.append(leased)
    # The lines take turns, and in each the order stays.
    assert began == [claims[1], claims[4], claims[3]]
    assert (slots.running, slots.in_line) == (3, 2)
    assert slots.begin([0, 1]) is None
    assert begun(slots) == [claims[0], claims[2]]
    assert (slots.running, slots.in_line) == (5, 0)
