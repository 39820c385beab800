"""The dashboard: finds what answers at a path, for who is signed in."""

import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from redis_scheduler import __version__
from redis_scheduler.api.app import Inside
from redis_scheduler.api.auth import INSTANCE_HEADER, PAGES
from redis_scheduler.api.filters import FILTERS
from redis_scheduler.api.headers import headers_of
from redis_scheduler.errors import RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.logs import Events
from redis_scheduler.store.filters import LISTED
from redis_scheduler.task.key import is_task_key
from redis_scheduler.ui.answers import NO_STORE, PageAnswer, PageRefused, moved_to
from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.changing import change
from redis_scheduler.ui.entering import Entrance, Visitor
from redis_scheduler.ui.forms import check_same_origin, fields_of, query_of
from redis_scheduler.ui.overview import Overview
from redis_scheduler.ui.rendering import Templates, clock
from redis_scheduler.ui.shared import Shared
from redis_scheduler.ui.static import Static
from redis_scheduler.ui.tasks import Tasks

logger = Events(__name__)

FRESH_S, CHARTS_FRESH_S = 1.0, 10.0

HERE = {"overview.html": "", "task.html": "tasks"}
"""The page that the navigation marks, where it has another name than the template."""

Read = Callable[[Visitor, dict[str, str]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a page that browsers ask for again and again: its template, what reads it, for how long that counts."""

    template: str
    read: Read
    fresh_s: float = FRESH_S


class Dashboard:
    """Answers under PAGES."""

    def __init__(self, inside: Inside) -> None:
        self._base = PAGES
        self._static = Static()
        self._templates = Templates(self._static, self._base, {"version": __version__, "states": LISTED})
        self._entrance = Entrance(inside, f"{self._base}/")
        self._asker = Asker(inside.api)
        self._overview = Overview(inside, self._asker)
        tasks = Tasks(self._asker)
        self._shared: Shared[str] = Shared()
        self._parts = {
            "overview": Part("part_overview.html", self._now),
            "charts": Part("part_charts.html", self._charts, CHARTS_FRESH_S),
            "tasks": Part("part_tasks.html", tasks.rows),
            "task": Part("part_task.html", lambda visitor, query: tasks.one(visitor, query.get("key", ""))),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except PageRefused as error:
            response = self._error(request, error.status, str(error))
        except RequestRefused as error:
            response = self._error(request, error.code.status, str(error))
        except (StoreUnavailable, StoreFull) as error:
            response = self._error(request, 503, f"{error}. What is scheduled is kept there; this page tries again.")
        except ClientDisconnect:
            return
        except Exception as error:
            logger.fault("fault", error, path=scope["path"])
            response = self._error(request, 500, "Internal error; the service's log has the details")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> PageAnswer:
        path = request.scope["path"].removeprefix(PAGES)
        if not path:
            return moved_to(f"{self._base}/")
        first, _, rest = path[1:].partition("/")
        method = "GET" if request.method == "HEAD" else request.method
        if INSTANCE_HEADER in headers_of(request.scope):
            raise PageRefused(403, "A task cannot use the dashboard of the scheduler that delivers it")
        if first == "static" and method == "GET":
            return self._static.answer(*rest.partition("/")[::2])
        if method == "POST":
            check_same_origin(request)
        elif method != "GET":
            raise PageRefused(405, "Pages take GET and POST")
        if first == "login":
            return await self._enter(request) if method == "POST" else self._login(request, 200)
        visitor = await self._entrance.visitor(request)
        if visitor is None:
            return self._to_login(request)
        if method == "POST":
            return await self._changed(request, visitor, first, rest)
        return await self._page(request, visitor, first, rest)

    async def _enter(self, request: Request) -> PageAnswer:
        fields = await fields_of(request)
        cookie = await self._entrance.enter(request, fields)
        if cookie is None:
            return self._login(request, 401, "This token is wrong, or was revoked.", fields.get("next", ""))
        return moved_to(self._own_page(fields.get("next", "")), [cookie])

    def _own_page(self, wanted: str) -> str:
        """Return the page that somebody wanted who had to sign in first, if it is one of ours."""
        is_own = (
            wanted.startswith(f"{self._base}/") and wanted.isascii() and wanted.isprintable() and "\\" not in wanted
        )
        return wanted if is_own else f"{self._base}/"

    def _login(self, request: Request, status: int, error: str = "", wanted: str = "") -> PageAnswer:
        wanted = wanted or query_of(request).get("next", "")
        return PageAnswer(self._templates.page("login.html", error=error, wanted=wanted), status)

    def _to_login(self, request: Request) -> PageAnswer:
        place = f"{self._base}/login"
        if b"hx-request" in headers_of(request.scope):
            return PageAnswer("", 401, {"HX-Redirect": place, **NO_STORE})
        query = request.scope["query_string"].decode("latin-1")
        wanted = quote(self._base + request.scope["path"].removeprefix(PAGES)) + (f"?{query}" if query else "")
        return moved_to(f"{place}?{urlencode({'next': wanted})}")

    async def _page(self, request: Request, visitor: Visitor, first: str, rest: str) -> PageAnswer:
        query = query_of(request)
        show = functools.partial(self._show, visitor)
        match first, rest:
            case "", "":
                is_for = self._overview.is_for(visitor)
                return await show("overview.html", ["overview", "charts"] if is_for else [], query, is_for_all=is_for)
            case "tasks", "":
                return await show("tasks.html", ["tasks"], query, query=query, filters=FILTERS)
            case "task", key if is_task_key(key):
                return await show("task.html", ["task"], {"key": key}, key=key)
            case "find", "":
                key = query.get("key", "")
                if not is_task_key(key):
                    raise PageRefused(400, "A key has letters, digits, and . : _ ~ -: nothing was looked for")
                return moved_to(f"{self._base}/task/{key}")
            case "part", name if name in self._parts:
                return PageAnswer(await self._part(visitor, name, query))
        raise PageRefused(404, "There is no such page")

    async def _show(
        self, visitor: Visitor, template: str, parts: list[str], asked: dict[str, str], **shown: Any
    ) -> PageAnswer:
        """Return a page with its parts, as they are now."""
        made = {name: await self._part(visitor, name, asked) for name in parts}
        addresses = {name: f"{self._base}/part/{name}" + (f"?{urlencode(asked)}" if asked else "") for name in parts}
        here = HERE.get(template, template.removesuffix(".html"))
        page = self._templates.page(template, visitor=visitor, here=here, parts=made, addresses=addresses, **shown)
        return PageAnswer(page)

    async def _part(self, visitor: Visitor, name: str, query: dict[str, str]) -> str:
        """Return a part of a page, made once for all who may see the same; one that could not be made anew says since
        when it stands."""
        part = self._parts[name]

        async def make() -> str:
            shown = await part.read(visitor, query)
            return self._templates.page(part.template, visitor=visitor, query=query, **shown)

        key = (name, tuple(sorted(query.items())), visitor.sight)
        seen = await self._shared.get(key, part.fresh_s, make)
        if seen.since is None:
            return seen.value
        return self._templates.page(
            "stale.html", part=seen.value, since=clock(seen.since * 1000, "%H:%M:%S"), error=seen.error
        )

    async def _now(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return {**await self._overview.now(visitor), "at": clock(time.time() * 1000, "%H:%M:%S")}

    async def _charts(self, visitor: Visitor, _query: dict[str, str]) -> dict[str, Any]:
        self._refuse_others(visitor)
        return {"charts": await self._overview.charts()}

    def _refuse_others(self, visitor: Visitor) -> None:
        if not self._overview.is_for(visitor):
            raise PageRefused(403, "Figures of all tasks are for tokens with the right metrics, and without types")

    async def _changed(self, request: Request, visitor: Visitor, first: str, rest: str) -> PageAnswer:
        if first == "logout":
            return moved_to(f"{self._base}/login", [self._entrance.leaving()])
        if first != "do":
            raise PageRefused(404, "There is no such page")
        verb, _, key = rest.partition("/")
        is_done, text = await change(self._asker, visitor, verb, key, await fields_of(request))
        self._shared.forget()
        if b"hx-request" in headers_of(request.scope):
            return PageAnswer(self._templates.page("said.html", is_done=is_done, text=text))
        if not is_done:
            raise PageRefused(409, text)
        return moved_to(f"{self._base}/task/{key}")

    def _error(self, request: Request, status: int, error: str) -> PageAnswer:
        name = "said.html" if b"hx-request" in headers_of(request.scope) else "error.html"
        return PageAnswer(self._templates.page(name, is_done=False, text=error, status=status), status)
