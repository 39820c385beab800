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
from redis_scheduler.ui.rendering import Templates, clock
from redis_scheduler.ui.repeating import Repeating
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.system import About, System
from redis_scheduler.ui.tasks import Tasks


def selectable(rights: int) -> list[str]:
    """Return what may be done with rights to tasks that are marked in the list."""
    schedules = ["run", "pause", "resume"] if rights & Right.SCHEDULE else []
    return schedules + (["cancel"] if rights & Right.CANCEL else [])


FRESH_S, SLOW_S, CHARTS_FRESH_S = 1.0, 5.0, 10.0

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
        self._templates = templates
        self._overview = Overview(inside, asker)
        self._echo = echo
        self._shared: Shared[str] = Shared(size=sys.getsizeof)
        self.hosts = Hosts(asker)
        tasks, dead, repeating, system = (
            Tasks(asker),
            DeadLetters(asker),
            Repeating(asker),
            System(inside, asker, about),
        )
        self._parts = {
            "overview": Part("part_overview.html", self._now),
            "charts": Part("part_charts.html", self._charts, CHARTS_FRESH_S),
            "tasks": Part("part_tasks.html", tasks.rows),
            "task": Part("part_task.html", lambda visitor, query: tasks.one(visitor, query.get("key", ""))),
            "groups": Part("part_groups.html", dead.groups, SLOW_S),
            "dead": Part("part_dead.html", dead.rows),
            "repeating": Part("part_repeating.html", repeating.rows, SLOW_S),
            "hosts": Part("part_hosts.html", self.hosts.rows),
            "reference": Part("part_reference.html", Reference(asker).read, 3600.0),
            "system": Part("part_system.html", system.read, SLOW_S),
            "echo": Part("part_echo.html", self._arrivals, 0.5),
        }

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def forget(self) -> None:
        """Read all anew: something was changed."""
        self._shared.forget()

    def is_for_all(self, visitor: Visitor) -> bool:
        """Whether the visitor may see figures of all tasks."""
        return self._overview.is_for(visitor)

    def address(self, name: str, query: dict[str, str]) -> str:
        """Return where a browser asks for a part, below the dashboard's own path."""
        return f"/part/{name}" + (f"?{urlencode(query)}" if query else "")

    async def get(self, visitor: Visitor, name: str, query: dict[str, str]) -> str:
        """Return a part; one that could not be made anew says since when it stands. Raises PageRefused,
        StoreUnavailable."""
        part = self._parts[name]

        async def make() -> str:
            shown = await part.read(visitor, query)
            rights = visitor.rights
            may = {
                "may_schedule": bool(rights & Right.SCHEDULE),
                "may_admin": bool(rights & Right.ADMIN),
                "selects": selectable(rights),
                "verbs": [
                    verb
                    for verb, right in (("replay", Right.REPLAY), ("delete", Right.CANCEL))
                    if rights & Right.BULK and rights & right
                ],
            }
            return self._templates.page(part.template, visitor=visitor, query=query, **may, **shown)

        key = (name, tuple(sorted(query.items())), visitor.sight)
        seen = await self._shared.get(key, part.fresh_s, make)
        if seen.since is None:
            return seen.value
        since = clock(seen.since * 1000, "%H:%M:%S")
        return self._templates.page("stale.html", part=seen.value, since=since, error=seen.error)

    async def _now(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return {**await self._overview.now(visitor), "at": clock(time.time() * 1000, "%H:%M:%S")}

    async def _charts(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return {"charts": await self._overview.charts()}

    def _refuse_others(self, visitor: Visitor) -> None:
        if not self._overview.is_for(visitor):
            raise PageRefused(403, "Figures of all tasks are for tokens with the right metrics, and without types")

    async def _arrivals(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        if not visitor.rights & Right.READ or (visitor.caller and visitor.caller.types):
            raise PageRefused(403, "What arrived is for tokens with the right read, and without types")
        return {"arrivals": list(self._echo.arrivals)}
