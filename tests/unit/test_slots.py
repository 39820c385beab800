"""The slots of a worker: shares, lines, what is known of hosts, and what of a line goes back."""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import count

import pytest

from redis_scheduler.engine.hosts import Kind, host_of
from redis_scheduler.engine.observer import NOBODY, Log, Observer
from redis_scheduler.engine.slots import PATIENCE, RETURN_STEP_S, RETURNS_PER_SLOT_S, Slots
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import Record
from redis_scheduler.task.timing import DEFAULT

NUMBERS = count(1)
PERIOD_S = DEFAULT.period_s
NOW = 1000.0


def claim(host: str = "slow", tries: int = 1, data: bytes | None = None) -> Claim:
    number = next(NUMBERS)
    record = Record(due=0, webhook=f"http://{host}/", ttl=0, data=data, origin=f"http://{host}", target="/")
    return Claim(f"{number}-0", f"key-{number}", record, 0, tries)


def begun(slots: Slots) -> list[Claim]:
    found = []
    while (one := slots.begin()) is not None:
        found.append(one)
    return found


def begin(slots: Slots, number: int, host: str = "slow", now: float = NOW) -> list[Claim]:
    """Add claims of one host; return those that began."""
    for _ in range(number):
        slots.add(claim(host), now)
    return begun(slots)


def end(slots: Slots, claims: Iterable[Claim]) -> None:
    for one in claims:
        slots.end(one)


def pass_periods(slots: Slots, periods: int = 1, now: float = NOW) -> float:
    """Let periods pass; return what time it is then."""
    for _ in range(periods):
        now += PERIOD_S
        slots.judge(now)
    return now


def make_well(slots: Slots, *hosts: str, now: float = NOW) -> None:
    """Let a delivery of each host end in time."""
    for host in hosts:
        end(slots, begin(slots, 1, host, now))


def hang(slots: Slots, hosts: int = 300, now: float = NOW) -> tuple[list[Claim], float]:
    """Let so many hosts hang with a task each; return what began, and what time it is when all are found out."""
    running = []
    for number in range(hosts):
        running += begin(slots, 1, f"hangs-{number}", now)
        slots.surplus(now)
    now = pass_periods(slots, 2, now)
    slots.surplus(now)
    return running, now


def judged_slow(concurrency: int = 90, observer: Observer = NOBODY) -> tuple[Slots, list[Claim], float]:
    """Return slots of which `slow` holds all it may, its line gone back; what runs; and what time it is."""
    slots = Slots(concurrency, observer=observer)
    running = begin(slots, concurrency)
    now = pass_periods(slots, 2)
    assert slots.surplus(now) or concurrency == 1
    return slots, running, now


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


def crowd() -> tuple[Slots, float]:
    """Return slots that hosts crowd which hang, known or not; and what time it is."""
    slots = Slots(200)
    _, now = hang(slots)
    for number in range(100):  # some of the new ones still find a slot
        begin(slots, 1, f"new-{number}", now)
        slots.surplus(now)
    assert slots.is_crowded
    return slots, now


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


# What may come here


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
    ("slots", "loading", "unwritten", "limit"),
    [
        # All but the reserve, and what is loading will take.
        (holding(0, 0), 0, 0, 89),
        (holding(0, 0), 30, 0, 59),
        (holding(60, 9), 0, 0, 20),
        # One where nothing stands in line and nothing is loading, also for a host that would have to wait.
        (holding(90, 0), 0, 0, 1),
        (holding(90, 0), 1, 0, 0),
        (holding(90, 1), 0, 0, 0),
        (holding(89, 20), 0, 0, 0),
        # As many more as come free meanwhile.
        (holding(89, 20, coming_free=60), 0, 0, 40),
        # Past what went back, but not behind a long line.
        (holding(60, 0, sent_back=10), 0, 0, 49),
        (holding(60, 11, sent_back=10), 0, 0, 38),
        (holding(60, 12, sent_back=10), 0, 0, 17),
        (holding(60, 12, sent_back=10, coming_free=1), 0, 0, 38),
        # A batch at most, and nothing while two batches of failures are unwritten.
        (holding(0, 0, sent_back=500), 0, 0, 200),
        (holding(0, 0), 0, 390, 10),
        (holding(0, 0), 0, 400, 0),
    ],
)
def test_how_much_a_claim_may_bring(slots: Slots, loading: int, unwritten: int, limit: int) -> None:
    assert slots.claimable(loading, 200, unwritten) == limit


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
        new = claim(f"host-{chance.randrange(hosts)}", tries=chance.choices([1, 2], [9, 1])[0])
        one = chance.choice(running) if running else None
        gone = {waiting for host in both[0]._lines for waiting in host.line if chance.random() < 0.1}
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
