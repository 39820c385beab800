"""The slots of a worker among tokens with rights: each shares what one gets, however many hosts it names."""

import pytest

from redis_scheduler.engine.capacity import SHARE
from redis_scheduler.engine.hosts import Kind
from redis_scheduler.engine.slots import Slots
from redis_scheduler.task.claim import Claim
from tests.support.slots import NOW, begun, claim, end, pass_periods

A, B = "aaaaaaaaaa", "bbbbbbbbbb"


def flood(slots: Slots, token: str | None, hosts: int = 400, now: float = NOW, tasks: int = 2) -> list[Claim]:
    """Let a token have tasks for so many hosts; return those that began."""
    for number in range(hosts * tasks):
        slots.add(claim(f"of-{token}-{number % hosts}", token=token), now)
    return begun(slots)


@pytest.mark.parametrize("tokens", [(A, B), (None, B), (A, None)])
@pytest.mark.parametrize("concurrency", [4, 10, 200])
def test_a_token_leaves_slots_to_a_new_host_of_another(tokens: tuple[str | None, str | None], concurrency: int) -> None:
    slots = Slots(concurrency)
    # The other has been here, so that tokens are known to be in use.
    end(slots, flood(slots, tokens[1], hosts=1, tasks=1))
    running = flood(slots, tokens[0])
    for _ in range(3):
        now = pass_periods(slots)
        slots.surplus(now)
        running += flood(slots, tokens[0], now=now)
    assert len(running) >= concurrency // 2
    slots.add(claim("of-another", token=tokens[1]), now)
    assert [one.record.origin for one in begun(slots)] == ["http://of-another"]


def test_hosts_that_were_well_and_hang_at_once_leave_slots_to_other_tokens() -> None:
    slots = Slots(200)
    names = [f"of-{A}-{number}" for number in range(400)]
    for name in names:
        slots.add(claim(name, token=A), NOW)
        end(slots, begun(slots))
    held = flood(slots, A)
    assert len(held) == 168 == max(n for n in range(200) if n - 1 < SHARE * (200 - (n - 1) - 12))
    slots.add(claim("of-another", token=B), NOW)
    assert len(begun(slots)) == 1


def test_many_tokens_leave_one_that_was_well_its_slot() -> None:
    slots = Slots(200)
    slots.add(claim("well", token=B), NOW)
    end(slots, begun(slots))
    for number in range(100):
        flood(slots, f"{number:010d}", hosts=20)
    slots.add(claim("well", token=B), NOW)
    assert [one.record.token for one in begun(slots)] == [B]


def test_a_host_has_a_line_for_each_token() -> None:
    slots = Slots(10)
    flood(slots, A, hosts=1, tasks=50)
    slots.add(claim(f"of-{A}-0", token=B), NOW)
    [one] = begun(slots)
    assert one.record.token == B


def test_without_tokens_the_slots_are_shared_as_ever() -> None:
    slots = Slots(200)
    end(slots, flood(slots, None, hosts=1, tasks=1))
    assert len(flood(slots, None, hosts=1, tasks=300)) == 178
    assert slots._hosts.tokens == {}


def test_what_is_held_and_doubtful_is_counted_for_all_tokens_together() -> None:
    slots = Slots(50)
    running = [one for token in (None, A, B) for one in flood(slots, token)]
    for _ in range(3):
        now = pass_periods(slots)
        slots.surplus(now)
    counts = [slots._held, *slots._hosts.tokens.values()]
    assert sum(map(sum, counts)) == slots.running == len(running)
    assert slots._doubtful == sum(held[Kind.DOUBTFUL] for held in counts) > 0
    slots.excuse(running[0])
    end(slots, running)
    assert (slots.running, slots._doubtful, sum(map(sum, counts))) == (0, 0, 0)
    slots.clear()
    assert (slots.in_line, slots.stuck) == (0, 0)


def test_tokens_of_hosts_that_are_forgotten_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis_scheduler.engine.hosts.HOSTS_MOST", 10)
    slots = Slots(50)
    for number in range(100):
        slots.add(claim("one", token=f"{number:010d}"), NOW)
        end(slots, begun(slots))
        assert len(slots._hosts.tokens) <= 11
    slots.add(claim("one", token=A), NOW)
    held = begun(slots)
    for number in range(20):
        end(slots, flood(slots, f"{number:010d}", hosts=1, tasks=1))
    assert sum(slots._hosts.tokens[A]) == 1
    end(slots, held)
    assert sum(slots._hosts.tokens[A]) == 0
