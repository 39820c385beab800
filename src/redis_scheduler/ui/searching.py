"""Lists whose filters want few of many tasks: a page looks for a moment, says how far it is, and asks for the next
step, until it has all its rows or there are no more."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from redis_scheduler.ui.asking import Answered, Asker, check
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.rendering import changed, clock, without

STEP_S = 0.05
"""So long a step looks: a page is there at once, and others' requests wait no longer."""

LIVE_MOST = 1_000
"""A list for which more tasks are looked at is not read again by itself."""

IN_A_ROW_MOST, STEPS_MOST = 20_000_000, 10_000
"""After so many tasks, or steps, a page goes on only if it is asked to: it might never come to an end, since new tasks
may come as fast as it looks at them."""

NUMBERS = ("rows", "looked", "steps")
"""What the address of a further step has besides the filters: rows that are shown, tasks looked at before (which tokens
with types are not told), and the steps before."""

LISTED = frozenset({"type", "cursor", "shard"})
"""Parameters with which a page has all its rows at once. (Of all types only the default one has no index.)"""


class Row(msgspec.Struct):
    """A task in a list: without its data."""

    info: dict[str, Any]


class Page(msgspec.Struct):
    """A page of a list."""

    data: list[Row]
    next: str | None
    looked_at: int = 0


_page = msgspec.json.Decoder(Page)


@dataclass(frozen=True, slots=True)
class Search:
    """How far a page is: rows found and tasks looked at (0: not told) since it began, the steps that took, and the
    parameters of the next step, None if it is at its end. `filters`: those of the page; `at`: the time of day."""

    rows: int
    looked: int
    steps: int
    onward: dict[str, str] | None
    filters: dict[str, str]
    at: str

    @property
    def is_first(self) -> bool:
        """Whether this is its first step."""
        return self.steps == 1


async def look(
    asker: Asker, visitor: Visitor, path: str, query: Mapping[str, str], most: int, **always: str
) -> tuple[Page, Search | None]:
    """Return what a step adds to a page of so many rows by the filters of a query, and those that are always there; and
    how far the page is, None where it had not far to look. Raises PageRefused, StoreUnavailable."""
    filters = without(query, *NUMBERS)
    rows, looked, steps = (_number(query.get(name, "")) for name in NUMBERS)
    asked = {**filters, **always, "limit": str(max(1, most - rows))}
    page = _page_of(await asker.ask(visitor, "GET", path, asked, look_s=STEP_S))
    rows, looked, steps = rows + len(page.data), looked + page.looked_at, steps + 1
    looks_far = bool((filters | always).keys() - LISTED) or bool(visitor.caller and visitor.caller.types)
    is_short = looks_far and page.next is not None and rows < most
    if steps == 1 and not is_short and looked <= LIVE_MOST:
        return page, None
    onward = None
    if is_short and looked < IN_A_ROW_MOST and steps < STEPS_MOST:
        so_far = {name: str(number) for name, number in zip(NUMBERS, (rows, looked, steps), strict=True)}
        onward = changed(filters, cursor=page.next or "", **so_far)
    return page, Search(rows, looked, steps, onward, filters, clock(time.time() * 1000, "%H:%M:%S"))


def _page_of(answered: Answered) -> Page:
    check(answered)
    return answered.read(_page)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
