"""Dead letters: in groups by host and error, and one by one."""

from typing import Any

from redis_scheduler.api.filters import DEAD_FILTERS
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.rendering import without
from redis_scheduler.ui.searching import look
from redis_scheduler.ui.tasks import PAGE, refuse_unknown


class DeadLetters:
    """Reads dead letters for pages."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def groups(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return the groups of those that the filters want. Raises PageRefused."""
        filters = without(query, "cursor")
        answered = await self._asker.ask(visitor, "GET", "/dead/groups", filters)
        found = content_of(answered)
        return {
            "groups": found["data"],
            "others": found["others"],
            "dead": found["dead"],
            "looked_at": found["looked_at"],
        }

    async def rows(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of dead letters. Raises PageRefused."""
        refuse_unknown(query, DEAD_FILTERS)
        page, search = await look(self._asker, visitor, "/dead", query, PAGE)
        return {"rows": [row.info for row in page.data], "next": page.next, "search": search}
