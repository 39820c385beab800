"""The application: the handlers at their paths, behind the gate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from redis_scheduler.api.auth import Gate, Refusals, is_page
from redis_scheduler.api.callers import Callers
from redis_scheduler.api.endpoint import Endpoint
from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.api.journal import Auditor
from redis_scheduler.api.limits import DEFAULT as DEFAULT_LIMITS
from redis_scheduler.api.limits import Limits
from redis_scheduler.api.metrics import MetricsApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.api.routes import AUDIT_ROUTE, METRICS_ROUTE, OPEN_ROUTES, TASK_ROUTES, Handler, Route
from redis_scheduler.api.spanned import Spanned
from redis_scheduler.metrics.meter import UNREAD, Meter
from redis_scheduler.metrics.snapshots import Snapshots
from redis_scheduler.spans import Tracer
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.deployment import Deployment
from redis_scheduler.store.journal import Journal
from redis_scheduler.store.tokens import Tokens
from redis_scheduler.task.timing import DEFAULT, Timing


@dataclass(frozen=True, slots=True)
class Inside:
    """What the dashboard stands on: the API behind its gate, which takes requests with a CALLER as they come; who may
    ask; and the shards.

    `tokens`: the service's own. `note_refused` counts and logs a token that is wrong.
    """

    api: ASGIApp
    tokens: Sequence[str]
    callers: Callers
    note_refused: Callable[[Scope], None]
    clients: Sequence[RedisClient]


class Paths:
    """Passes a request on to what answers at its path, which is a text, or has `{key}` for its second word; any other
    to `otherwise`.

    Starlette's router tries one pattern after another: it took 4 µs, a tenth of a schedule.
    """

    def __init__(self, at: Mapping[str, ASGIApp], otherwise: ASGIApp) -> None:
        self._at = {path: app for path, app in at.items() if "{key}" not in path}
        self._of_key = {path: app for path, app in at.items() if "{key}" in path}
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on."""
        app = self._at.get(scope["path"]) or self._with_key(scope)
        await app(scope, receive, send)

    def _with_key(self, scope: Scope) -> ASGIApp:
        parts = scope["path"].split("/", 3)
        if len(parts) < 3 or not parts[2]:
            return self._otherwise
        scope["path_params"] = {"key": parts[2]}
        parts[2] = "{key}"
        return self._of_key.get("/".join(parts), self._otherwise)


def _document() -> tuple[bytes, str]:
    from redis_scheduler.api.openapi import rendered  # few processes are asked for it

    return rendered()


def create_app(
    clients: Sequence[RedisClient],
    name: str,
    token: str,
    max_body: int,
    deployments: Sequence[Deployment],
    is_stopping: Callable[[], bool] = lambda: False,
    timing: Timing = DEFAULT,
    limits: Limits = DEFAULT_LIMITS,
    meter: Meter = UNREAD,
    snapshots: Snapshots | None = None,
    pages: Callable[[Inside], ASGIApp] | None = None,
    tracer: Tracer | None = None,
) -> ASGIApp:
    """Return the application.

    `clients`, `deployments`: one of each shard. `name` is this process's id as a writer, new at every start. `token`:
    the service's own; while it is changed two, with a space between. `meter`, `snapshots`: what this process
    has counted, and what its siblings have. `pages` makes the dashboard; None: there is none.
    `tracer` is told of requests that schedule.
    """
    api = HostsApi(clients, name, max_body, timing, limits, token)
    probes = Probes(list(zip(deployments, clients, strict=True)), is_stopping, _document)
    at: dict[str, dict[Route[Any], Handler]] = {}
    handlers: list[tuple[Route[Any], Handler]] = [(route, route.handler_of(api)) for route in TASK_ROUTES]
    auditor = Auditor(Journal(clients[0], limits.audit_entries))
    handlers.append((AUDIT_ROUTE, AUDIT_ROUTE.handler_of(auditor)))
    handlers.append((METRICS_ROUTE, METRICS_ROUTE.handler_of(MetricsApi(clients, meter, snapshots))))
    handlers += [(route, route.handler_of(probes)) for route in OPEN_ROUTES]
    for route, handler in handlers:
        at.setdefault(route.path, {})[route] = handler
    refusals = Refusals(limits.refusals_interval_s)
    callers = Callers(Tokens(clients[0]), limits.token_grace_s)
    dashboard: ASGIApp | None = None
    if pages is not None:
        # What it asks for its pages are no requests of clients: they are not counted.
        uncounted = {path: Endpoint(of_path, refusals.note, auditor=auditor) for path, of_path in at.items()}
        dashboard = pages(Inside(Paths(uncounted, Endpoint({})), token.split(" "), callers, refusals.note, clients))
    paths = Paths(
        {path: Endpoint(of_path, refusals.note, meter, auditor) for path, of_path in at.items()},
        _elsewhere(dashboard, Endpoint({}, meter=meter)),
    )
    routes = paths if tracer is None else Spanned(paths, tracer)
    gate = _gate(routes, callers, token, probes, refusals, limits, dashboard, meter)
    if not limits.origins:
        return gate
    from redis_scheduler.api.cors import Cors

    return Cors(gate, limits.origins)


def create_metrics_app(
    client: RedisClient, token: str, deployment: Deployment, limits: Limits, metrics: MetricsApi
) -> ASGIApp:
    """Return an application that answers /metrics alone, to whom `create_app` does."""
    probes, refusals = Probes([(deployment, client)], lambda: False, _document), Refusals(limits.refusals_interval_s)
    at = {METRICS_ROUTE.path: Endpoint({METRICS_ROUTE: METRICS_ROUTE.handler_of(metrics)}, refusals.note)}
    callers = Callers(Tokens(client), limits.token_grace_s)
    return _gate(Paths(at, Endpoint({})), callers, token, probes, refusals, limits)


def _elsewhere(dashboard: ASGIApp | None, nothing: ASGIApp) -> ASGIApp:
    """Return what answers at all other paths."""
    if dashboard is None:
        return nothing

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await (dashboard if is_page(scope["path"]) else nothing)(scope, receive, send)

    return answer


def _gate(
    paths: ASGIApp,
    callers: Callers,
    token: str,
    probes: Probes,
    refusals: Refusals,
    limits: Limits,
    dashboard: ASGIApp | None = None,
    meter: Meter = UNREAD,
) -> Gate:
    also_open = [METRICS_ROUTE.path] if limits.has_open_metrics else []
    return Gate(paths, token.split(" "), probes.is_own, refusals, callers, also_open, dashboard, meter)
