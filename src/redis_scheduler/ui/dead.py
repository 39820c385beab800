"""Dead letters: in groups by host and error, and one by one."""

from typing import Any

from redis_scheduler.api.filters import DEAD_FILTERS
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Asker, content_of
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.tasks import PAGE, page_of


class DeadLetters:
    """Reads dead letters for pages."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def groups(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return the groups of those that the filters want. Raises PageRefused."""
        filters = {name: value for name, value in query.items() if name != "cursor"}
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
        unknown = [name for name in query if name not in (*DEAD_FILTERS, "cursor")]
        if unknown:
            raise PageRefused(400, f"{unknown[0]}: is no filter; known: {', '.join(DEAD_FILTERS)}")
        page = page_of(await self._asker.ask(visitor, "GET", "/dead", {**query, "limit": str(PAGE)}))
        return {"rows": [row.info for row in page.data], "next": page.next}
