"""Answers at one path: finds the handler of the method, reads the query, and turns every error into an answer."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from redis_scheduler.api.answers import answer_to
from redis_scheduler.api.callers import CALLER, Caller
from redis_scheduler.api.headers import headers_of
from redis_scheduler.api.journal import ALWAYS, BY_PERSON, UNCHANGING, Auditor
from redis_scheduler.api.own_types import kept_to_types
from redis_scheduler.api.reading import check_is_empty, has_body
from redis_scheduler.api.requests import parameters
from redis_scheduler.api.routes import CONDITIONS, METHODS, OTHER_METHOD, ROUTES, Handler, Route
from redis_scheduler.errors import Code, InvalidField, RequestRefused
from redis_scheduler.metrics.family import REQUESTS
from redis_scheduler.metrics.meter import UNREAD, Meter, observe
from redis_scheduler.store.token import Right
from redis_scheduler.task.given import quoted

NOT_ALLOWED = (Code.MISSING_RIGHT, Code.OTHER_TYPE, Code.OTHER_LIMIT_KEY)
"""Requests that their token may not make are counted and logged as those without a token."""


class Endpoint:
    """Answers at one path. Without routes it answers 404.

    It is an ASGI application itself: the layers that Starlette puts around functions cost as much as a schedule's own
    work. `note_refused` is called with what a token may not ask for. `meter` counts requests.
    """

    def __init__(
        self,
        handlers: Mapping[Route[Any], Handler],
        note_refused: Callable[[Scope], None] = lambda _: None,
        meter: Meter = UNREAD,
        auditor: Auditor | None = None,
    ) -> None:
        self._note_refused = note_refused
        self._auditor = auditor
        self._meter = meter
        self._path = next((route.path for route in handlers), "")
        self._seen: dict[tuple[str, int], list[int]] = {}
        """The histograms of methods and statuses."""
        self._routes = {method: route for route in handlers for method in route.methods}
        self._served = {
            method: (
                handler,
                route.parameters,
                _unserved_headers(route),
                route.body is None and method != "GET",
                int(route.needs),
                _noted(route),
            )
            for route, handler in handlers.items()
            for method in route.methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        began_ns = time.monotonic_ns()
        method, caller = scope["method"], scope.get(CALLER)
        noted: tuple[str, bool] | None = None
        given: dict[str, str] = {}
        try:
            request = Request(scope, receive, send)
            served = self._served.get(method) or self._unserved(method)
            handler, known, refused, is_bare, needs, noted = served
            if caller is not None and needs & ~caller.rights:
                _refuse(caller, needs)
            if not refused.isdisjoint(headers_of(scope)):
                _refuse_header(scope, refused)
            if known is not None:
                given = parameters(request, known)
            if is_bare and has_body(request):
                await check_is_empty(request)
            if caller is not None and (caller.types or "type" in given):
                given = kept_to_types(self._routes[method], caller, given)
            response = await handler(request, given)
        except Exception as error:
            if isinstance(error, RequestRefused) and error.code in NOT_ALLOWED:
                self._note_refused(scope)
            response = answer_to(error, scope)
        if noted is not None and self._auditor is not None:
            named, is_always = noted
            notes_all = self._auditor.notes_api if caller is None else caller.rights & Right.ADMIN
            if is_always or notes_all or BY_PERSON in scope:
                await self._auditor.note(scope, named, given, response)
        try:
            await response(scope, receive, send)
        finally:
            observe(
                self._seen.get((method, response.status_code)) or self._numbers_of(method, response.status_code),
                time.monotonic_ns() - began_ns,
            )

    def _numbers_of(self, method: str, status: int) -> list[int]:
        # A stranger may send any word for a method.
        known = method if method in METHODS else OTHER_METHOD
        found = self._meter.numbers(REQUESTS, self._path, known, str(status))
        if known == method:
            self._seen[method, status] = found
        return found

    def _unserved(self, method: str) -> NoReturn:
        if not self._served:
            raise RequestRefused(Code.PATH_NOT_FOUND, "There is nothing at this path")
        taken = ", ".join(self._served)
        error = f"This path does not take {method}, but {taken}"
        raise RequestRefused(Code.METHOD_NOT_ALLOWED, error, headers={"Allow": taken})


def _noted(route: Route[Any]) -> tuple[str, bool] | None:
    """Return what is noted of who changes something by a route, and whether it is of everybody; see journal.py."""
    if route.method == "GET" or route.path in UNCHANGING:
        return None
    return f"{route.method} {route.path}", bool(route.needs & ALWAYS)


def _refuse(caller: Caller, needs: int) -> NoReturn:
    raise caller.refused(needs)


def _unserved_headers(route: Route[Any]) -> frozenset[bytes]:
    """Return the headers that the route would pass over, in lower case, as the server gives names."""
    served = CONDITIONS if route.headers is None else route.headers
    return frozenset(name.lower().encode() for name in CONDITIONS if name not in served)


def _refuse_header(scope: Scope, refused: frozenset[bytes]) -> NoReturn:
    given, value = next(header for header in scope["headers"] if header[0] in refused)
    [name] = [one for one in CONDITIONS if one.lower().encode() == given]
    serving = ", ".join(f"{route.method} {route.path}" for route in ROUTES if name in (route.headers or ()))
    problem = f"is not served by {scope['method']} here, but by {serving}, got {quoted(value.decode('latin-1'))}"
    raise InvalidField(name, problem, Code.UNSERVED_HEADER)
