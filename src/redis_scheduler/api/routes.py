"""The table of routes: what the API serves, what each route takes and answers, and who may ask.

The application (app.py), its 405s and parameters (endpoint.py) and the gate (auth.py) read it. A test checks that
docs/routes.md says the same.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MethodType
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api.acknowledgements import AcknowledgementsApi
from redis_scheduler.api.bodies import (
    BatchRequest,
    BatchScheduled,
    Cancelled,
    Document,
    Found,
    Grouped,
    Listed,
    ManyDone,
    Previewed,
    PreviewRequest,
    Purged,
    PutDone,
    Ready,
    Said,
    Scheduled,
    ScheduleRequest,
    Shown,
    Statistics,
    Updated,
    UpdateRequest,
)
from redis_scheduler.api.dead_letters import DeadLettersApi
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS
from redis_scheduler.api.handlers import Api
from redis_scheduler.api.host_bodies import HostShown, HostsListed, LimitRequest
from redis_scheduler.api.hosts import HostsApi
from redis_scheduler.api.journal import Auditor, Noted
from redis_scheduler.api.many import ManyApi
from redis_scheduler.api.metrics import MetricsApi
from redis_scheduler.api.own_keys import OwnKeysApi
from redis_scheduler.api.probes import Probes
from redis_scheduler.errors import Code
from redis_scheduler.store.token import ANY_TOKEN, Right

Handler = Callable[[Request, Mapping[str, str]], Awaitable[Response]]
"""Answers a request with its query parameters, or raises an error that `answer_to` takes."""

Owner = TypeVar("Owner")


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    """Everybody may."""
    TOKEN = auto()
    """Only requests with the service's token may, or with one that has the rights that the route needs."""


@dataclass(frozen=True, slots=True)
class Route(Generic[Owner]):
    """A method of a path.

    `handler`: the method of one of the classes that answer. `answer`: the body of a 200; `str`: no JSON.
    `parameters`: the known ones of the query, all others are 400; `headers`: those of CONDITIONS that it serves, the
    others are 400. None: query and such headers are ignored. A path that is OPEN has no part that varies. `needs`: the
    rights that a token must have. `beside`: a right that some requests need, too, and what these ask for; the handler
    looks. `has_no_type`: a token with types gets no more than another may see; else own_types.py keeps it to these.
    `required`: parameters and headers that must be given. `refused`: codes of its own, beside those that openapi.py
    works out from the rest.
    """

    method: str
    path: str
    handler: Callable[[Owner, Request, Mapping[str, str]], Awaitable[Response]]
    answer: type[msgspec.Struct | str]
    body: type[msgspec.Struct] | None = None
    parameters: tuple[str, ...] | None = ()
    headers: tuple[str, ...] | None = ()
    access: Access = Access.TOKEN
    needs: Right = Right.ADMIN
    beside: tuple[Right, str] | None = None
    has_no_type: bool = False
    required: tuple[str, ...] = ()
    refused: tuple[Code, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers: HEAD as GET (RFC 9110, section 9.3.2)."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    def handler_of(self, owner: Owner) -> Handler:
        """Return the handler as the owner's own method: a request costs no more by it."""
        return MethodType(self.handler, owner)


IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY = CONDITIONS = ("If-Match", "If-None-Match", "Idempotency-Key")
"""The headers that say whether a request is to have an effect. Who sends one that is not served would take a change for
guarded that is not."""

MANY = (*FILTERS, "cursor", "dry_run", "operation")
"""The parameters of what is done to many tasks."""

MANY_DEAD = (*DEAD_FILTERS, "cursor", "dry_run", "operation")
"""The same of dead letters."""

_NEW_TASK = (Code.OTHER_LIMIT_KEY, Code.OLDER_WORKER, Code.TOKEN_RATE, Code.TOKEN_FULL, Code.LABELS_FULL)
_CHANGE = (
    *(Code.OTHER_LIMIT_KEY, Code.OLDER_WORKER, Code.TASK_CHANGED, Code.NEWER_RECORD, Code.UNREADABLE_RECORD),
    *(Code.TOKEN_RATE, Code.TOKEN_FULL, Code.LABELS_FULL),
)
_MOVE = (Code.IN_DELIVERY, Code.TASK_DEAD, Code.TASK_CHANGED)
_SAID_OF_IT: dict[str, Any] = {
    "needs": ANY_TOKEN,
    "required": ("Schedule-Ack",),
    "refused": (Code.WRONG_ACKNOWLEDGEMENT, Code.ALL_PAUSED),
}


def _of_many(
    path: str,
    handler: Callable[..., Any],
    right: Right,
    parameters: tuple[str, ...] = MANY,
    required: tuple[str, ...] = (),
    refused: tuple[Code, ...] = (),
) -> Route[Any]:
    """Return the route of something that is done to many tasks: a token needs the right `bulk`, too."""
    needs, refused = Right.BULK | right, (Code.CONTRADICTION, *refused)
    return Route("POST", path, handler, ManyDone, None, parameters, needs=needs, required=required, refused=refused)


TASK_ROUTES = (
    Route(
        "POST",
        "/schedule",
        Api.schedule,
        Scheduled,
        ScheduleRequest,
        ("type",),
        (IDEMPOTENCY_KEY,),
        needs=Right.SCHEDULE,
        refused=_NEW_TASK,
    ),
    Route("GET", "/schedule/{key}", Api.get, Shown, needs=Right.READ),
    Route(
        "PUT",
        "/schedule/{key}",
        OwnKeysApi.put,
        PutDone,
        ScheduleRequest,
        ("type",),
        (IF_MATCH, IF_NONE_MATCH),
        needs=Right.SCHEDULE,
        beside=(Right.REPLAY, "to replace a dead task"),
        refused=(*_NEW_TASK, Code.TASK_CHANGED, Code.SERVICE_KEY),
    ),
    Route(
        "PATCH",
        "/schedule/{key}",
        Api.update,
        Updated,
        UpdateRequest,
        headers=(IF_MATCH,),
        needs=Right.SCHEDULE,
        beside=(Right.REPLAY, "to bring a dead task back"),
        refused=(*_CHANGE, Code.NOTHING_TO_CHANGE),
    ),
    Route(
        "DELETE",
        "/schedule/{key}",
        Api.cancel,
        Cancelled,
        headers=(IF_MATCH,),
        needs=Right.CANCEL,
        refused=(Code.TASK_CHANGED,),
    ),
    Route("POST", "/schedule/{key}/pause", Api.pause, Found, needs=Right.SCHEDULE, refused=_MOVE),
    Route("POST", "/schedule/{key}/resume", Api.resume, Found, needs=Right.SCHEDULE, refused=_MOVE),
    Route(
        "POST",
        "/schedule/{key}/run",
        Api.run,
        Found,
        needs=Right.SCHEDULE,
        refused=(*_MOVE, Code.SERIES_QUEUED, Code.TOKEN_RATE, Code.TOKEN_FULL),
    ),
    Route(
        "POST",
        "/schedules",
        OwnKeysApi.schedule_batch,
        BatchScheduled,
        BatchRequest,
        ("type",),
        (IDEMPOTENCY_KEY,),
        needs=Right.SCHEDULE,
        beside=(Right.REPLAY, "for an own key of a dead task"),
        refused=(*_NEW_TASK, Code.TASK_CHANGED, Code.SERVICE_KEY),
    ),
    Route("POST", "/schedule/{key}/done", AcknowledgementsApi.done, Found, **_SAID_OF_IT),
    Route("POST", "/schedule/{key}/fail", AcknowledgementsApi.fail, Found, **_SAID_OF_IT),
    Route("POST", "/schedule/{key}/extend", AcknowledgementsApi.extend, Found, **_SAID_OF_IT),
    Route("GET", "/schedules", Api.list, Listed, parameters=(*FILTERS, "shard", "limit", "cursor"), needs=Right.READ),
    _of_many("/schedules/cancel", ManyApi.cancel_many, Right.CANCEL),
    _of_many("/schedules/pause", ManyApi.pause_many, Right.SCHEDULE),
    _of_many("/schedules/resume", ManyApi.resume_many, Right.SCHEDULE),
    _of_many("/schedules/run", ManyApi.run_many, Right.SCHEDULE, (*MANY, "rate")),
    _of_many("/schedules/shift", ManyApi.shift_many, Right.SCHEDULE, ("by", *MANY), ("by",)),
    # Without parameters: a client that gives a filter wants to delete less than everything.
    Route("DELETE", "/schedules", ManyApi.purge, Purged, needs=Right.PURGE),
    Route("POST", "/purge", ManyApi.purge, Purged, needs=Right.PURGE),
    Route("POST", "/repeat/preview", Api.preview, Previewed, PreviewRequest, needs=Right.SCHEDULE, has_no_type=True),
    Route(
        "GET",
        "/dead",
        DeadLettersApi.dead,
        Listed,
        parameters=(*DEAD_FILTERS, "shard", "limit", "cursor"),
        needs=Right.READ,
    ),
    _of_many("/dead/replay", ManyApi.replay_many, Right.REPLAY, (*MANY_DEAD, "rate"), refused=(Code.TOKEN_RATE,)),
    _of_many("/dead/delete", ManyApi.discard_many, Right.CANCEL, MANY_DEAD),
    Route(
        "GET",
        "/dead/groups",
        DeadLettersApi.dead_groups,
        Grouped,
        parameters=(*DEAD_FILTERS, "shard"),
        needs=Right.READ,
    ),
    Route("GET", "/dead/{key}", DeadLettersApi.dead_letter, Shown, needs=Right.READ),
    Route("DELETE", "/dead/{key}", DeadLettersApi.discard, Cancelled, needs=Right.CANCEL, refused=(Code.TASK_CHANGED,)),
    Route(
        "POST",
        "/dead/{key}/replay",
        DeadLettersApi.replay,
        Updated,
        UpdateRequest,
        needs=Right.REPLAY,
        beside=(Right.SCHEDULE, "to change more than its time"),
        refused=_CHANGE,
    ),
    Route("GET", "/hosts", HostsApi.hosts, HostsListed, needs=Right.METRICS),
    Route("GET", "/hosts/{key}", HostsApi.host, HostShown, needs=Right.METRICS),
    Route(
        "PUT",
        "/hosts/{key}",
        HostsApi.put_host,
        HostShown,
        LimitRequest,
        needs=Right.ADMIN,
        refused=(Code.NOTHING_TO_CHANGE, Code.LIMITS_FULL),
    ),
    Route("DELETE", "/hosts/{key}", HostsApi.delete_host, HostShown, needs=Right.ADMIN, refused=(Code.HOST_NOT_FOUND,)),
    Route("GET", "/stats", Api.stats, Statistics, needs=Right.METRICS, has_no_type=True),
)
_OPEN: dict[str, Any] = {
    "parameters": None,
    "headers": None,
    "access": Access.OPEN,
    "needs": ANY_TOKEN,
    "has_no_type": True,
}
"""What anybody may ask for: so may any token, of whatever rights and types, that asks by the dashboard."""
OPEN_ROUTES = (
    Route("GET", "/", Probes.root, Said, **_OPEN),
    Route("GET", "/healthz", Probes.health, Said, **_OPEN),
    Route("GET", "/readyz", Probes.readiness, Ready, refused=(Code.NOT_READY,), **_OPEN),
    Route("GET", "/openapi.json", Probes.openapi, Document, **_OPEN),
)
AUDIT_ROUTE = Route("GET", "/audit", Auditor.audit, Noted, parameters=("limit", "cursor"), needs=Right.ADMIN)
METRICS_ROUTE = Route("GET", "/metrics", MetricsApi.metrics, str, needs=Right.METRICS)
ROUTES: tuple[Route[Any], ...] = (*TASK_ROUTES, AUDIT_ROUTE, METRICS_ROUTE, *OPEN_ROUTES)

METHODS = frozenset(method for route in ROUTES for method in route.methods)
OTHER_METHOD = "other"
"""What /metrics calls a method that no route has: a stranger may send any word."""
