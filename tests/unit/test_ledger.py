"""The ledger of several shards."""

from dataclasses import replace

from redis_scheduler.store.ledger import Ledger, total

ONE = Ledger(1, 2, 3, 4, 5, 6, 7, 8, {"scheduled": 33, "delivered": 2, "died": 3}, 7)
OTHER = Ledger(10, 20, 30, 40, 50, 60, 70, 80, {"scheduled": 330, "lost": 50}, 70)


def test_the_ledger_of_several_shards_is_the_sum_of_theirs() -> None:
    both = {"scheduled": 363, "delivered": 2, "died": 3, "lost": 50}
    assert total([ONE, OTHER]) == Ledger(11, 22, 33, 44, 55, 66, 77, 88, both, 77)
    assert total([ONE]) == ONE
    assert [one.is_balanced for one in (ONE, OTHER, total([ONE, OTHER]))] == [True, True, True]


def test_breakers_add_up_by_their_state() -> None:
    ledgers = [replace(ONE, breakers={"open": 1, "closing": 2}), replace(OTHER, breakers={"open": 3}), OTHER]
    assert total(ledgers).breakers == {"open": 4, "closing": 2}


def test_the_keys_of_all_are_unknown_where_those_of_one_are() -> None:
    assert total([ONE, replace(OTHER, redis_keys=None)]).redis_keys is None
