"""What a worker may begin of a rate without asking for each, and at which pace it goes on while nobody answers."""

from dataclasses import replace

from redis_scheduler.engine import allowances
from redis_scheduler.engine.allowances import KEPT_MOST, LATELY_S, Allowances
from redis_scheduler.task.timing import DEFAULT

A, B = "a.example:443", "b.example:443"


def used(begun: int, now: float = 100.0) -> Allowances:
    """Those of a worker that began so many in the second of `now`."""
    found = Allowances()
    for _ in range(begun):
        found.give(A, 1, 0, now)
    return found


def test_a_tenth_of_a_second_is_asked_for_by_what_began_lately() -> None:
    found = used(50)
    assert (found.wanted(A, 100.9), found.wanted(B, 100.9)) == (0, 0)
    assert found.wanted(A, 101.1) == 5
    assert found.wanted(A, 102.1) == 0


def test_an_allowance_is_taken_until_it_ends() -> None:
    found = used(1)
    assert not found.take(A, 100)
    found.give(A, 1, 2, 100)
    assert [found.take(limit, 100.1) for limit in (A, B, A, A)] == [True, False, True, False]
    found.give(A, 1, 5, 101)
    assert found.take(A, 101.1)
    assert not found.take(A, 101.3)
    # What is taken counts for what is asked for next.
    assert used(0).wanted(A, 101) == 0
    found.give(A, 17, 0, 101.4)
    assert found.wanted(A, 102) == 1


def test_while_nobody_answers_the_pace_goes_on() -> None:
    found, began = used(20), 0
    for step in range(100):
        while found.take_held(A, 102 + step * 0.1):
            began += 1
    assert 199 <= began <= 201
    assert not found.take_held(B, 102)
    # A long pause of this machine is not made up for.
    began = 0
    while found.take_held(A, 1_000):
        began += 1
    assert began <= 5


def test_a_pace_of_long_ago_says_nothing() -> None:
    assert used(20).take_held(A, 100 + LATELY_S)
    assert not used(20).take_held(A, 101 + LATELY_S)
    # After an answer the next outage goes by what began then.
    found = used(20)
    assert found.take_held(A, 101)
    found.give(A, 1, 0, 200)
    assert [found.take_held(A, now) for now in (200.5, 200.6, 201.6)] == [True, False, True]


def test_as_many_paces_are_kept_as_may_be() -> None:
    found = Allowances(replace(DEFAULT, allowance_s=1))
    for number in range(KEPT_MOST + 10):
        found.give(f"host-{number}:80", 1, 1, 100)
    assert len(found._paces) == KEPT_MOST == allowances.KEPT_MOST
    assert not found.take(f"host-{KEPT_MOST}:80", 100)
    found.give(A, 1, 1, 110)
    assert found.take(A, 110)
    assert len(found._paces) == 1
