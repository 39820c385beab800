"""The dashboard: finds what answers at a path, for who is signed in."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from redis_scheduler import __version__
from redis_scheduler.api.app import Inside
from redis_scheduler.api.auth import ECHO, INSTANCE_HEADER, PAGES
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.errors import RequestRefused, StoreFull, StoreUnavailable
from redis_scheduler.host import HOST_LENGTH
from redis_scheduler.logs import Events
from redis_scheduler.store.filters import LISTED
from redis_scheduler.store.refusal import UNREACHABLE
from redis_scheduler.store.token import Right
from redis_scheduler.task.key import is_task_key
from redis_scheduler.ui.answers import NO_STORE, PageAnswer, PageRefused, moved_to, said_of
from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.changing import change, change_marked, schedule
from redis_scheduler.ui.echo import BODY_BYTES, TAKEN_BYTES, Echo
from redis_scheduler.ui.entering import Entrance, Visitor, is_at_loopback
from redis_scheduler.ui.forms import STRANGERS_BYTES, body_of, check_same_origin, fields_of, query_of
from redis_scheduler.ui.hosts import LIMITS
from redis_scheduler.ui.many import do_many, put_off
from redis_scheduler.ui.parts import Parts, selectable
from redis_scheduler.ui.proxies import as_asked
from redis_scheduler.ui.rendering import Templates
from redis_scheduler.ui.repeating import NARROWED
from redis_scheduler.ui.static import Static
from redis_scheduler.ui.system import About

logger = Events(__name__)

OVER_HTTP = "Over http a browser keeps nobody signed in, but on this machine: ask for this page over https."

HERE = {"overview.html": "", "task.html": "tasks"}
"""The page that the navigation marks, where it has another name than the template."""

NO_OTHERS: Mapping[str, dict[str, str]] = MappingProxyType({})

LISTS = {
    "tasks": (["tasks"], FILTERS),
    "dead": (["groups", "dead"], DEAD_FILTERS),
    "repeating": (["repeating"], NARROWED),
}
SIMPLE = {"reference": ["reference"], "system": ["system"]}
"""Pages by their names: the parts that they have, and the filters."""


class Dashboard:
    """Answers under PAGES."""

    def __init__(self, inside: Inside, about: About) -> None:
        self._base = about.base + PAGES
        self._static = Static()
        common = {"version": __version__, "states": LISTED, "environment": about.environment}
        self._templates = Templates(self._static, self._base, common)
        self._entrance = Entrance(inside, f"{self._base}/")
        self._asker = Asker(inside.api)
        self._echo = Echo(inside.tokens)
        self._proxies = about.proxies
        self._has_echo, self._delivers, self._reached_at = about.has_echo, about.delivers, about.reached_at
        self._parts = Parts(inside, self._asker, self._templates, self._echo, about)

    def close(self) -> None:
        """End what was begun."""
        self._echo.close()
        self._parts.system.doctor.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope = as_asked(scope, self._proxies)
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except PageRefused as error:
            response = self._error(request, error.status, str(error))
        except RequestRefused as error:
            response = self._error(request, error.code.status, str(error))
        except (StoreUnavailable, StoreFull) as error:
            text = said_of(error)
            text += self._parts.away_since if text.endswith(UNREACHABLE) else ""
            response = self._error(request, 503, f"{text}. What is scheduled is kept there; this page tries again.")
        except ClientDisconnect:
            return
        except Exception as error:
            logger.fault("fault", error, path=scope["path"], request_id=request_id_of(scope))
            response = self._error(request, 500, "Internal error; the service's log has the details")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> PageAnswer:
        path = request.scope["path"].removeprefix(PAGES)
        if not path:
            return moved_to(f"{self._base}/")
        first, _, rest = path[1:].partition("/")
        method = "GET" if request.method == "HEAD" else request.method
        if request.scope["path"] == ECHO and self._has_echo and self._echo.is_for(request.scope["query_string"]):
            return await self._take(request)
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
        if first == "logout" and method == "POST":
            # Whether it is signed in, while that cannot be said, or not: no cookie is to stay behind.
            return await self._left(request)
        if first == "many" and method == "POST":
            return await self._many(request, rest)
        visitor = await self._entrance.visitor(request)
        fields: dict[str, str] = {}
        if visitor is not None and method == "POST":
            fields = await fields_of(request)
            # It may have come slowly, and whoever sends it be signed out by now.
            visitor = await self._entrance.visitor(request)
        if visitor is None:
            return self._to_login(request)
        if method == "POST":
            return await self._changed(request, visitor, first, rest, fields)
        return await self._page(request, visitor, first, rest)

    async def _take(self, request: Request) -> PageAnswer:
        """Take a delivery, which its query tells from what others send. What is sent here is only shown."""
        body = await body_of(request, TAKEN_BYTES, BODY_BYTES + 1)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
        self._echo.take(request.method, headers, body)
        return PageAnswer("", 200, content_type="text/plain")

    async def _enter(self, request: Request) -> PageAnswer:
        fields = await fields_of(request, STRANGERS_BYTES)
        origin = fields.get("origin", "")
        if origin.startswith("http://") and not is_at_loopback(request, origin):
            return self._login(request, 403, OVER_HTTP, fields.get("next", ""))
        cookie = await self._entrance.enter(request, fields)
        if cookie is None:
            return self._login(request, 401, "This token is wrong, or was revoked.", fields.get("next", ""))
        return moved_to(self._own_page(fields.get("next", "")), [cookie])

    async def _left(self, request: Request) -> PageAnswer:
        """Sign out: here and, where Redis can be told, everywhere."""
        cookies = [self._entrance.without_cookie()]
        try:
            await self._entrance.leave(request)
        except StoreUnavailable as error:
            text = f"This browser is signed out. A copy of its cookie is not, for 12 hours at most: {said_of(error)}"
            page = self._templates.page("error.html", text=text, status="Signed out here only", lists=[])
            return PageAnswer(page, 503, cookies=cookies)
        return moved_to(f"{self._base}/login", cookies)

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
        if _is_part(request):
            return PageAnswer("", 401, {"HX-Redirect": place, **NO_STORE})
        query = request.scope["query_string"].decode("latin-1")
        wanted = quote(self._base + request.scope["path"].removeprefix(PAGES)) + (f"?{query}" if query else "")
        return moved_to(f"{place}?{urlencode({'next': wanted})}")

    async def _page(self, request: Request, visitor: Visitor, first: str, rest: str) -> PageAnswer:
        query = query_of(request)
        match first, rest:
            case "", "":
                is_for = self._parts.is_for_all(visitor)
                return await self._show(
                    visitor, "overview.html", ["overview", "charts"] if is_for else [], {}, is_for_all=is_for
                )
            case name, "" if name in LISTS:
                parts, filters = LISTS[name]
                letter = query.pop("letter", "") if name == "dead" else ""
                own = {"letter": {"key": letter}} if is_task_key(letter) else {}
                return await self._show(visitor, f"{name}.html", parts, query, own, query=query, filters=filters)
            case name, "" if name in SIMPLE:
                return await self._show(visitor, f"{name}.html", SIMPLE[name], query)
            case "hosts", "":
                limit = {name: query.get(name, "")[:HOST_LENGTH] for name in ("host", *LIMITS)}
                return await self._show(visitor, "hosts.html", ["hosts"], {}, limit=limit)
            case "task", key if is_task_key(key):
                return await self._show(visitor, "task.html", ["task"], {"key": key}, key=key)
            case "try", "":
                sees = visitor.rights & Right.READ and not (visitor.caller and visitor.caller.types)
                parts = ["echo"] if self._has_echo and sees else []
                url, allowed = await self._echo_at(request)
                return await self._show(
                    visitor, "try.html", parts, {}, has_echo=bool(parts), echo_url=url, allowed=allowed
                )
            case "find", "":
                key = query.get("key", "")
                if not is_task_key(key):
                    raise PageRefused(400, "A key has letters, digits, and . : _ ~ -: nothing was looked for")
                return moved_to(f"{self._base}/task/{key}")
            case "part", name if name in self._parts:
                return PageAnswer(await self._parts.get(visitor, name, query))
        raise PageRefused(404, "There is no such page")

    async def _echo_at(self, request: Request) -> tuple[str, str]:
        """Return where the echo receiver takes deliveries, as far as this process knows, empty if there is none; and
        what EGRESS_ALLOW of workers elsewhere must name for that."""
        if not self._has_echo:
            return "", ""
        if self._delivers:
            return f"http://127.0.0.1:{await self._echo.listen()}/?{self._echo.query}", ""
        if (own := self._reached_at()) is not None:
            return f"http://{own}{ECHO}?{self._echo.query}", own
        host = headers_of(request.scope).get(b"host", b"").decode("latin-1")
        url = f"{request.scope['scheme']}://{host}{self._base}/echo?{self._echo.query}"
        return url, "address:port of this API, such as 10.0.0.7:8080"

    async def _show(
        self,
        visitor: Visitor,
        template: str,
        parts: list[str],
        asked: dict[str, str],
        own: Mapping[str, dict[str, str]] = NO_OTHERS,
        **shown: Any,
    ) -> PageAnswer:
        """Return a page with its parts, as they are now; `own`: others, and what each of them is asked."""
        made = {name: await self._parts.get(visitor, name, asked) for name in parts}
        for name, query in own.items():
            try:
                made[name] = await self._parts.get(visitor, name, query)
            except PageRefused as error:
                made[name] = self._templates.page("said.html", is_done=False, text=str(error))
        addresses = {name: self._base + self._parts.address(name, asked) for name in parts}
        here = HERE.get(template, template.removesuffix(".html"))
        may: dict[str, Any] = {
            "may_schedule": bool(visitor.rights & Right.SCHEDULE),
            "may_admin": bool(visitor.rights & Right.ADMIN),
            "may_bulk": bool(visitor.rights & Right.BULK),
        }
        may["selects"] = selectable(visitor.rights)
        page = self._templates.page(
            template, visitor=visitor, here=here, parts=made, addresses=addresses, **may, **shown
        )
        return PageAnswer(page)

    async def _many(self, request: Request, verb: str) -> PageAnswer:
        """Do something to many tasks. The form goes on once Redis is back, without which nobody knows who asks."""
        fields, visitor = await fields_of(request, STRANGERS_BYTES), None
        try:
            visitor = await self._entrance.visitor(request)
            if visitor is None:
                return self._to_login(request)
            shown = await do_many(self._asker, visitor, verb, fields)
        except (StoreUnavailable, StoreFull) as error:
            shown = put_off(verb, fields, said_of(error))
        return self._shown_of_many(request, visitor, shown)

    def _shown_of_many(self, request: Request, visitor: Visitor | None, shown: dict[str, Any]) -> PageAnswer:
        if visitor is not None:
            self._parts.forget()
        name = "many.html" if _is_part(request) else "many_page.html"
        return PageAnswer(self._templates.page(name, visitor=visitor, here="", **shown))

    async def _changed(
        self, request: Request, visitor: Visitor, first: str, rest: str, fields: dict[str, str]
    ) -> PageAnswer:
        if first == "marked":
            return self._shown_of_many(request, visitor, await change_marked(self._asker, visitor, fields))
        if first == "call":
            shown = await self._parts.reference.call(visitor, rest, fields)
            self._parts.forget()
            name = "answer.html" if _is_part(request) else "answer_page.html"
            return PageAnswer(self._templates.page(name, visitor=visitor, here="reference", **shown))
        back = first
        if first == "do":
            verb, _, key = rest.partition("/")
            is_done, text = await change(self._asker, visitor, verb, key, fields)
            back = f"task/{key}"
        elif first == "hosts":
            is_done, text = await self._parts.hosts.change(visitor, fields)
        elif first == "doctor":
            is_done, text = self._parts.system.begin_look(visitor)
            back = "system"
        elif first == "try":
            is_done, text = await schedule(self._asker, visitor, fields)
        else:
            raise PageRefused(404, "There is no such page")
        self._parts.forget()
        if _is_part(request):
            return PageAnswer(self._templates.page("said.html", is_done=is_done, text=text))
        if not is_done:
            raise PageRefused(409, text)
        return moved_to(f"{self._base}/{back}")

    def _error(self, request: Request, status: int, error: str) -> PageAnswer:
        name = "said.html" if _is_part(request) else "error.html"
        page = request.scope["path"].removeprefix(f"{PAGES}/")
        lists = self._parts.lists(page, query_of(request)) if status == 503 else []
        return PageAnswer(self._templates.page(name, is_done=False, text=error, status=status, lists=lists), status)


def _is_part(request: Request) -> bool:
    """Whether htmx asks, which puts the answer into a page."""
    return b"hx-request" in headers_of(request.scope)
