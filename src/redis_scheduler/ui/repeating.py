"""What repeats: series, by when they come next."""

import asyncio
from typing import Any

from redis_scheduler.api.filters import FILTERS
from redis_scheduler.ui.asking import Asker, check
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.life import next_times
from redis_scheduler.ui.searching import look
from redis_scheduler.ui.tasks import buttons_of, refuse_unknown, shown_of

PAGE = 25
"""Rows of a page: for each the API is asked for its next times, and how its last occurrence ended."""

NARROWED = tuple(name for name in FILTERS if name != "repeats")
"""Filters that the page takes."""

BUTTONS = {"run": "Run now", "pause": "Pause", "resume": "Resume", "cancel": "Delete"}
"""What may be done with a series, as its buttons call it."""


class Repeating:
    """Reads series for pages."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def rows(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of series by the filters of the address. Raises PageRefused."""
        refuse_unknown(query, NARROWED)
        page, search = await look(self._asker, visitor, "/schedules", query, PAGE, repeats="true")
        rows = await asyncio.gather(*(self._row(visitor, row.info) for row in page.data))
        return {"rows": rows, "next": page.next, "search": search, "labels": BUTTONS}

    async def _row(self, visitor: Visitor, listed: dict[str, Any]) -> dict[str, Any]:
        """Return a series with what only the answer of its own tells; without, if it is gone meanwhile."""
        answered = await self._asker.ask(visitor, "GET", f"/schedule/{listed['key']}")
        if answered.status not in (200, 404):
            check(answered)
        info = shown_of(answered).info if answered.status == 200 else listed
        if "repeat" not in info:  # it has ended
            info = listed
        return {
            "info": info,
            "times": next_times(info),
            "buttons": [name for name in buttons_of(info, visitor) if name in BUTTONS],
        }
