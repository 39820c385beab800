"""A list that goes on by itself: what ends it where it never has all its rows."""

from typing import Any

import msgspec
import pytest

from redis_scheduler.ui import searching
from redis_scheduler.ui.asking import Answered, Asker
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.searching import Search, look


class Endless(Asker):
    """An API whose list has no end. A token with types is not told how many it looked at."""

    def __init__(self, looked_at: int | None) -> None:
        self._told = {} if looked_at is None else {"looked_at": looked_at}

    async def ask(self, *_: Any, **__: Any) -> Answered:
        return Answered(200, msgspec.json.encode({"data": [], "next": "onward", **self._told}))


@pytest.mark.parametrize(("looked_at", "bound", "steps"), [(None, "STEPS_MOST", 7), (10, "IN_A_ROW_MOST", 1)])
async def test_a_search_without_an_end_stops_until_it_is_asked_to_go_on(
    looked_at: int | None, bound: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, bound, 7)
    query, taken = {"host": "a.example"}, list[Search]()
    while not taken or taken[-1].onward:
        _, search = await look(Endless(looked_at), Visitor(None), "/schedules", query, 50)
        assert search is not None
        taken.append(search)
        query = search.onward or {}
    assert [one.is_first for one in taken] == [True] + [False] * (steps - 1)
    assert (taken[-1].steps, taken[-1].looked) == (steps, looked_at or 0)
    assert taken[-1].filters == {"host": "a.example"} | ({} if steps == 1 else {"cursor": "onward"})
