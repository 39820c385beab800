"""The table of routes: what the API serves, what each route takes and answers, and who may ask.

The application (app.py), its 405s and parameters (endpoint.py) and the gate (auth.py) read it. A test checks that the
README says the same.
"""

from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from redis_scheduler.api.bodies import (
    Cancelled,
    Listed,
    Purged,
    Said,
    Scheduled,
    ScheduleRequest,
    Shown,
    Statistics,
    Updated,
    UpdateRequest,
)


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    """Everybody may."""
    TOKEN = auto()
    """Only requests with the service's token may."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method of a path.

    `handler`: the method of Api or Probes that answers. `answer`: the body of a 200. `parameters`: the known ones of
    the query, all others are 400; None: the query is ignored. A path that is OPEN has no part that varies.
    """

    method: str
    path: str
    handler: str
    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    parameters: tuple[str, ...] | None = ()
    access: Access = Access.TOKEN

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers: HEAD as GET (RFC 9110, section 9.3.2)."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


ROUTES = (
    Route("POST", "/schedule", "schedule", Scheduled, ScheduleRequest, ("type",)),
    Route("GET", "/schedule/{key}", "get", Shown),
    Route("PATCH", "/schedule/{key}", "update", Updated, UpdateRequest),
    Route("DELETE", "/schedule/{key}", "cancel", Cancelled),
    Route("GET", "/schedules", "list", Listed, parameters=("type", "limit", "cursor")),
    # Without parameters: a client that gives a filter wants to delete less than everything.
    Route("DELETE", "/schedules", "purge", Purged),
    Route("POST", "/purge", "purge", Purged),
    Route("GET", "/stats", "stats", Statistics),
    Route("GET", "/", "root", Said, parameters=None, access=Access.OPEN),
    Route("GET", "/healthz", "health", Said, parameters=None, access=Access.OPEN),
    Route("GET", "/readyz", "readiness", Said, parameters=None, access=Access.OPEN),
)
