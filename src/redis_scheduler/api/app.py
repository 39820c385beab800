"""The application: the handlers at their paths, behind the gate."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from redis_scheduler.api.answers import telling_replicas
from redis_scheduler.api.auth import Gate, Refusals, is_page
from redis_scheduler.api.bodies import Written
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
from redis_scheduler.store.deployment import Deployment, refresh_first
from redis_scheduler.store.generations import Generations
from redis_scheduler.store.glance import Glance
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
    glance: Glance
    generations: Generations


class Paths:
    """Passes a request on to what answers at its path, which is a text, or has `{key}` for its second word; any other
    to `otherwise`.

    Starlette's router tries one pattern after another: it took 4 µs, a tenth of a schedule.
    """

    def __init__(self, at: Mapping[str, ASGIApp], otherwise: ASGIApp) -> None:
        self._at = {path: app for path, app in at.items() if "{key}" not in path}
        self._of_key = {path: app for path, app in at.items() if "{key}" in path}
        self._otherwise = otherwise

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass it on."""
        app = self._at.get(scope["path"]) or self._with_key(scope)
        return app(scope, receive, send)

    def _with_key(self, scope: Scope) -> ASGIApp:
        parts = scope["path"].split("/", 3)
        if len(parts) < 3 or not parts[2]:
            return self._otherwise
        scope["path_params"] = {"key": parts[2]}
        parts[2] = "{key}"
        return self._of_key.get("/".join(parts)) or self._of_slashed_key(scope)

    def _of_slashed_key(self, scope: Scope) -> ASGIApp:
        """Return what refuses an own key with a slash in it, by its name; else what answers where nothing is."""
        _, first, key = scope["path"].split("/", 2)
        if scope["method"] != "PUT" or first != "schedule":
            return self._otherwise
        scope["path_params"] = {"key": key}
        return self._of_key.get("/schedule/{key}", self._otherwise)


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

    `clients`, `deployments`: one of each shard; there may come more. `name` is this process's id as a writer, new at
    every start. `token`: the service's own; while it is changed two, with a space between. `meter`, `snapshots`: what
    this process has counted, and what its siblings have. `pages` makes the dashboard; None: there is none.
    `tracer` is told of requests that schedule.
    """
    first = deployments[0]
    refresh = partial(refresh_first, deployments, clients)
    api = HostsApi(clients, name, max_body, timing, limits, token, first.generations, refresh)
    probes = Probes(deployments, clients, is_stopping, _document)
    auditor, glance = Auditor(Journal(clients[0], limits.audit_entries), limits.audits_api), Glance(clients)
    at = _handlers(
        (TASK_ROUTES, api),
        ((AUDIT_ROUTE,), auditor),
        ((METRICS_ROUTE,), MetricsApi(glance, meter, snapshots)),
        (OPEN_ROUTES, probes),
        replicas=limits.replicas,
    )
    refusals = Refusals(limits.refusals_interval_s)
    callers = Callers(Tokens(clients[0], limits.allowed), limits.token_grace_s)
    dashboard: ASGIApp | None = None
    if pages is not None:
        # What it asks for its pages are no requests of clients: they are not counted.
        uncounted = {path: Endpoint(of_path, refusals.note, auditor=auditor) for path, of_path in at.items()}
        asked, tokens = Paths(uncounted, Endpoint({})), token.split(" ")
        dashboard = pages(Inside(asked, tokens, callers, refusals.note, clients, glance, first.generations))
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


def _handlers(*owned: tuple[Sequence[Route[Any]], object], replicas: int) -> dict[str, dict[Route[Any], Handler]]:
    """Return what answers each route, by their paths. `owned`: routes, and the object whose methods answer them."""
    at: dict[str, dict[Route[Any], Handler]] = {}
    for routes, owner in owned:
        for route in routes:
            handler = route.handler_of(owner)
            is_told = replicas and issubclass(route.answer, Written)
            at.setdefault(route.path, {})[route] = telling_replicas(handler, replicas) if is_told else handler
    return at


def create_metrics_app(
    client: RedisClient, token: str, deployment: Deployment, limits: Limits, metrics: MetricsApi
) -> ASGIApp:
    """Return an application that answers /metrics alone, to whom `create_app` does."""
    probes, refusals = Probes([deployment], [client], lambda: False, _document), Refusals(limits.refusals_interval_s)
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
