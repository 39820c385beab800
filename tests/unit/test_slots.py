"""The slots of a worker: shares, lines, and what of a slow host goes back."""

from collections import Counter
from itertools import count

import pytest

from redis_scheduler import slots
from redis_scheduler.models import Record
from redis_scheduler.slots import JUDGED_FOR_S, RETURN_STEP_S, RETURNS_PER_SLOT_S, TURN_S, Slots, host_of
from redis_scheduler.store import Claim

NUMBERS = count(1)


def claim(host: str = "slow", claims: int = 1, data: bytes | None = None) -> Claim:
    number = next(NUMBERS)
    return Claim(f"{number}-0", f"key-{number}", Record(due=0, webhook=f"http://{host}/", ttl=0, data=data), 0, claims)


def begun(slots: Slots) -> list[Claim]:
    found = []
    while (one := slots.begin()) is not None:
        found.append(one)
    return found


def begin(slots: Slots, number: int, host: str = "slow") -> list[Claim]:
    """Add claims of one host; return those that began."""
    for _ in range(number):
        slots.add(claim(host))
    return begun(slots)


def judged_slow(concurrency: int = 90) -> Slots:
    """Slots of which `slow` holds all it may, for longer than a turn, with a line that has gone back."""
    slots = Slots(concurrency)
    begin(slots, concurrency)
    slots.surplus(1000)
    assert slots.surplus(1000 + TURN_S)
    return slots


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (8, 7), (9, 8), (10, 9), (90, 80), (200, 178)])
def test_a_host_alone_takes_eight_of_nine_slots_and_never_all_of_several(concurrency: int, most: int) -> None:
    slots = Slots(concurrency)
    assert len(begin(slots, 2 * concurrency)) == most
    assert (slots.running, slots.waiting, slots.free) == (most, 2 * concurrency - most, -concurrency)


@pytest.mark.parametrize("host", ["slow", "another"])
@pytest.mark.parametrize("concurrency", [*range(3, 30), 89, 90, 91])
def test_one_claim_brings_no_host_more_than_it_may_begin(concurrency: int, host: str) -> None:
    for running in range(concurrency * 8 // 9):
        slots = judged_slow(concurrency)
        while slots.running > running:
            slots.end(claim(), 10)
        if not slots.is_crowded:
            begin(slots, slots.free - slots.reserve, host)
            assert not slots.waiting


@pytest.mark.parametrize(
    ("concurrency", "margin"), [(3, 1), (8, 1), (9, 1), (10, 1), (18, 1), (19, 1), (90, 8), (200, 18)]
)
def test_slots_are_crowded_until_a_tenth_ends_of_what_slow_hosts_hold(concurrency: int, margin: int) -> None:
    slots = Slots(concurrency)
    running = begin(slots, concurrency)
    slots.surplus(1000)
    assert not slots.is_crowded, "its host is not known to be slow"
    slots.surplus(1000 + TURN_S)
    for one in running[:margin]:
        assert slots.is_crowded
        slots.end(one, 10)
    assert slots.is_crowded
    slots.end(running[margin], 10)
    assert not slots.is_crowded
    for one in running[margin + 1 :]:
        slots.end(one, 10)
    begin(slots, concurrency, "another")
    assert not slots.is_crowded, "no slow host holds any"


def test_two_hosts_that_hang_leave_slots_to_a_third() -> None:
    slots = Slots(200)
    for _ in range(300):
        slots.add(claim("a"))
        slots.add(claim("b"))
    held = Counter(host_of(one.record.webhook) for one in begun(slots))
    assert abs(held["a"] - held["b"]) <= 1
    assert len(begin(slots, 10, "c")) == 7


def test_lines_take_turns_and_keep_their_order() -> None:
    slots = Slots(1)
    [running] = begin(slots, 1)
    wanted = [claim("a"), claim("a"), claim("b"), claim("b")]
    for one in wanted:
        slots.add(one)
    order = []
    for _ in wanted:
        slots.end(running, 0)
        [running] = begun(slots)
        order.append(running)
    assert order == [wanted[0], wanted[2], wanted[1], wanted[3]]


def test_what_ends_makes_room_for_the_line_of_its_host() -> None:
    slots = Slots(90)
    running = begin(slots, 90)
    assert (len(running), slots.waiting) == (80, 10)
    slots.end(running[0], 0.01)
    assert len(begun(slots)) == 1
    assert (slots.running, slots.waiting) == (80, 9)


def test_the_line_of_a_fast_host_stays() -> None:
    slots = Slots(90)
    running = begin(slots, 100)
    assert slots.surplus(1000) == []
    for one in running:
        slots.end(one, 0.1)
        begin(slots, 1)
    assert slots.waiting
    assert slots.surplus(1000 + TURN_S) == []
    assert slots.reserve == 10


def test_the_line_of_a_slow_host_goes_back_at_a_pace_and_what_comes_next_at_once() -> None:
    slots = Slots(90)
    begin(slots, 580)
    assert slots.surplus(1000) == []
    assert slots.surplus(1000 + TURN_S / 2) == []
    back = slots.surplus(1000 + TURN_S)
    assert len(back) == 500
    delays = [delay_s for _, delay_s in back]
    assert delays == sorted(delays)
    assert min(delays) >= TURN_S
    pace_per_s = RETURNS_PER_SLOT_S * 80
    assert 500 / pace_per_s <= max(delays) <= 500 / pace_per_s + TURN_S + RETURN_STEP_S
    assert max(Counter(delays).values()) <= pace_per_s * RETURN_STEP_S + 1
    assert (slots.waiting, slots.reserve) == (0, 1)
    begin(slots, 3)
    [*_, (_, delay_s)] = slots.surplus(1000 + TURN_S + 0.01)
    assert delay_s >= max(delays)


def test_what_has_lost_a_worker_stays_in_the_line_of_a_slow_host() -> None:
    slots = judged_slow()
    slots.add(claim(claims=2))
    slots.add(claim())
    assert len(slots.surplus(1000 + 1.1 * TURN_S)) == 1
    assert slots.waiting == 1


def test_many_deliveries_that_end_late_and_at_once_make_no_fast_host() -> None:
    slots = Slots(90)
    running = begin(slots, 100)
    slots.surplus(1000)
    assert slots.surplus(1000 + TURN_S)
    for one in running:
        slots.end(one, 10)
    begin(slots, 100)
    assert len(slots.surplus(1000 + 1.5 * TURN_S)) == 20


def test_a_slow_host_that_heals_keeps_its_line_again(caplog: pytest.LogCaptureFixture) -> None:
    slots = judged_slow()
    assert [record.message for record in caplog.records] == ["receiver-slow"]
    running = begin(slots, 1)
    assert running == []
    host = slots._hosts["slow"]
    for _ in range(2 * host.running):
        one = claim()
        slots.add(one)
        slots.end(one, 0.01)
        begun(slots)
    slots.surplus(1000 + 2 * TURN_S)
    assert caplog.records[-1].message == "receiver-recovered"
    begin(slots, 5)
    assert slots.surplus(1000 + 2 * TURN_S + 0.01) == []
    assert slots.reserve == 10


def test_a_host_that_was_slow_long_ago_is_judged_afresh() -> None:
    slots = judged_slow()
    begin(slots, 5)
    assert len(slots.surplus(1000 + JUDGED_FOR_S - 1)) == 5
    begin(slots, 5)
    assert slots.surplus(1001 + TURN_S + JUDGED_FOR_S) == []


def test_a_line_after_a_quiet_hour_is_not_taken_for_an_hour_of_slowness() -> None:
    slots = Slots(90)
    begin(slots, 100)
    slots.surplus(1000)
    assert slots.surplus(5000) == []
    assert slots.waiting == 20


def test_hosts_that_are_known_to_hang_leave_the_last_tenth_to_others() -> None:
    slots = Slots(200)
    hanging = ["a", "b", "c"]
    running = {host: begin(slots, 200, host) for host in hanging}
    slots.surplus(1000)
    assert slots.surplus(1000 + TURN_S)
    for host in hanging:
        for one in running[host]:
            slots.end(one, 10)
    for host in hanging:
        begin(slots, 200, host)
    assert slots.running == 180
    assert sum(len(begin(slots, 2, f"fast-{number}")) for number in range(30)) == 20


def test_a_slow_host_alone_on_one_slot_has_it() -> None:
    slots = Slots(1)
    [running] = begin(slots, 3)
    slots.surplus(1000)
    assert len(slots.surplus(1000 + TURN_S)) == 2
    slots.end(running, 10)
    assert len(begin(slots, 1)) == 1


def test_large_tasks_come_back_more_slowly() -> None:
    slots = Slots(90)
    begin(slots, 80)
    for _ in range(100):
        slots.add(claim(data=bytes(1_000_000)))
    slots.surplus(1000)
    [*_, (_, delay_s)] = slots.surplus(1000 + TURN_S)
    assert 10 <= delay_s < 11


def test_what_stands_in_lines_is_given_back_at_a_stop() -> None:
    slots = Slots(10)
    begin(slots, 20)
    assert len(slots.clear()) == 11
    assert (slots.waiting, slots.begin()) == (0, None)


def test_removed_claims_leave_their_lines() -> None:
    slots = Slots(1)
    begin(slots, 1)
    stay, go = claim("a"), claim("a")
    slots.add(stay)
    slots.add(go)
    assert slots.remove({go.id, "0-0"}) == [go]
    assert slots.remove({stay.id}) == [stay]
    assert (slots.waiting, len(slots._lines)) == (0, 0)


def test_hosts_with_nothing_here_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "HOSTS_MOST", 10)
    busy = Slots(90)
    begin(busy, 1, "busy")
    for number in range(100):
        for one in begin(busy, 1, f"host-{number}"):
            busy.end(one, 0.01)
    assert "busy" in busy._hosts
    assert len(busy._hosts) <= 10


@pytest.mark.parametrize(
    ("webhook", "host"),
    [
        ("http://example.com/a/b", "example.com"),
        ("https://Example.COM:8443", "example.com:8443"),
        ("http://example.com?x=http://other/", "example.com"),
        ("http://example.com#x", "example.com"),
        ("http://[::1]:80/", "[::1]:80"),
    ],
)
def test_a_host_is_named_by_its_authority(webhook: str, host: str) -> None:
    assert host_of(webhook) == host
