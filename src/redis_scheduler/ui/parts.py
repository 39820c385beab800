"""Parts of pages: what each reads and by which template it is shown. Browsers ask for them again and again; each is
made once for all who may see the same."""

import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from redis_scheduler.api.app import Inside
from redis_scheduler.store.token import Right
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.dead import DeadLetters
from redis_scheduler.ui.echo import Echo
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.hosts import Hosts
from redis_scheduler.ui.overview import Overview
from redis_scheduler.ui.reference import Reference
from redis_scheduler.ui.rendering import Templates, changed, clock
from redis_scheduler.ui.repeating import Repeating
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.system import About, System
from redis_scheduler.ui.tasks import Tasks


def selectable(rights: int) -> list[str]:
    """Return what may be done with rights to tasks that are marked in the list."""
    schedules = ["run", "pause", "resume"] if rights & Right.SCHEDULE else []
    return schedules + (["cancel"] if rights & Right.CANCEL else [])


FRESH_S, SLOW_S, CHARTS_FRESH_S = 1.0, 5.0, 10.0
OVERVIEW_FRESH_S = 2.0
"""As often as one browser asks: however many leave the first page open, they cost what one does."""

MORE = "more-"
"""Before the name of a list: a step of a search in it, made for whoever searches, and not kept."""

LISTED_AT = {"tasks": "tasks", "dead": "dead", "groups": "dead", "repeating": "repeating"}
"""Parts that list tasks of all shards, and their pages."""

Read = Callable[[Visitor, dict[str, str]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a page: its template, what reads it, and for how long that counts."""

    template: str
    read: Read
    fresh_s: float = FRESH_S


class Parts:
    """All parts of all pages."""

    def __init__(self, inside: Inside, asker: Asker, templates: Templates, echo: Echo, about: About) -> None:
        self._templates, self._clients = templates, inside.clients
        self._overview = Overview(inside, asker, about.limit)
        self._echo = echo
        self._shared: Shared[str] = Shared(size=sys.getsizeof)
        self.hosts = Hosts(asker)
        self.reference = Reference(asker, about.settings)
        self.system = System(inside, asker, about, self._overview.recent)
        tasks, dead, repeating = Tasks(asker, inside.clients), DeadLetters(asker), Repeating(asker)

        async def one(visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
            return await tasks.one(visitor, query.get("key", ""))

        self._parts = {
            "overview": Part("part_overview.html", self._now, OVERVIEW_FRESH_S),
            "charts": Part("part_charts.html", self._charts, CHARTS_FRESH_S),
            "tasks": Part("part_tasks.html", tasks.rows),
            "task": Part("part_task.html", one),
            "groups": Part("part_groups.html", dead.groups, SLOW_S),
            "dead": Part("part_dead.html", dead.rows),
            "letter": Part("part_letter.html", one),
            "repeating": Part("part_repeating.html", repeating.rows, SLOW_S),
            "hosts": Part("part_hosts.html", self.hosts.rows, 2.0),
            "reference": Part("part_reference.html", self.reference.read, 3600.0),
            "system": Part("part_system.html", self.system.read, SLOW_S),
            "echo": Part("part_echo.html", self._arrivals, 0.5),
        }
        self._steps = {f"{MORE}{name}": self._parts[name] for name in ("tasks", "dead", "repeating")}

    def __contains__(self, name: str) -> bool:
        return name in self._parts or name in self._steps

    def forget(self) -> None:
        """Read all anew: something was changed."""
        self._shared.forget()
        self._overview.forget()

    def is_for_all(self, visitor: Visitor) -> bool:
        """Whether the visitor may see figures of all tasks."""
        return self._overview.is_for(visitor)

    def address(self, name: str, query: dict[str, str]) -> str:
        """Return where a browser asks for a part, below the dashboard's own path."""
        return f"/part/{name}" + (f"?{urlencode(query)}" if query else "")

    async def get(self, visitor: Visitor, name: str, query: dict[str, str]) -> str:
        """Return a part; one that could not be made anew says since when it stands. Raises PageRefused,
        StoreUnavailable."""
        part = self._parts.get(name) or self._steps[name]

        async def make() -> str:
            shown = await part.read(visitor, query)
            rights = visitor.rights
            may = {
                "may_admin": bool(rights & Right.ADMIN),
                "selects": selectable(rights),
                "verbs": [
                    verb
                    for verb, right in (("replay", Right.REPLAY), ("delete", Right.CANCEL))
                    if rights & Right.BULK and rights & right
                ],
            }
            return self._templates.page(part.template, visitor=visitor, query=query, **may, **shown)

        if name in self._steps:
            return await make()
        key = (name, tuple(sorted(query.items())), visitor.sight)
        seen = await self._shared.get(key, part.fresh_s, make)
        if seen.since is None:
            return seen.value
        since, lists = clock(seen.since * 1000, "%H:%M:%S"), self.lists(LISTED_AT.get(name, ""), query)
        return self._templates.page("stale.html", part=seen.value, since=since, error=seen.error, lists=lists)

    @property
    def away_since(self) -> str:
        """Since when Redis is away, or that of a shard, to be said behind that it is; empty where none is."""
        since = [client.outage.since_s for client in self._clients if client.outage.is_away]
        return f" since {clock(min(since) * 1000, '%H:%M:%S')}" if since else ""

    def lists(self, page: str, query: dict[str, str]) -> list[tuple[str, str]]:
        """Return where what each shard has is listed alone, which answers while others do not; nothing for pages that
        are no lists."""
        if len(self._clients) == 1 or "shard" in query or page not in LISTED_AT.values():
            return []
        there = [number for number, client in enumerate(self._clients) if not client.outage.is_away]
        return [(f"shard {one}", f"{page}?{urlencode(changed(query, 'cursor', shard=str(one)))}") for one in there]

    async def _now(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return {**await self._overview.now(visitor), "at": clock(time.time() * 1000, "%H:%M:%S")}

    async def _charts(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return await self._overview.charts()

    def _refuse_others(self, visitor: Visitor) -> None:
        if not self._overview.is_for(visitor):
            raise PageRefused(403, "Figures of all tasks are for tokens with the right metrics, and without types")

    async def _arrivals(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        if not visitor.rights & Right.READ or (visitor.caller and visitor.caller.types):
            raise PageRefused(403, "What arrived is for tokens with the right read, and without types")
        return {"arrivals": list(self._echo.arrivals)}
