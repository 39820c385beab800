"""What repeats: the series among the tasks that wait."""

import time
from typing import Any

from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.tasks import page_of

LOOK_S = 0.1
"""So long tasks are looked through; then the page says where to go on."""

LOOKED_AT = "500"
SHOWN = 100


class Repeating:
    """Reads series for pages."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def rows(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return series, by when they fire next. Raises PageRefused."""
        found: list[dict[str, Any]] = []
        cursor, looked_at, until = query.get("cursor"), 0, time.monotonic() + LOOK_S
        while True:
            asked = {"limit": LOOKED_AT, **({"cursor": cursor} if cursor else {})}
            page = page_of(await self._asker.ask(visitor, "GET", "/schedules", asked))
            looked_at += len(page.data)
            found += [row.info for row in page.data if "repeat" in row.info]
            cursor = page.next
            if cursor is None or len(found) >= SHOWN or time.monotonic() > until:
                return {"rows": found, "next": cursor, "looked_at": looked_at}
