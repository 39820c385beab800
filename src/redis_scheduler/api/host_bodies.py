"""The bodies of requests and answers that are of hosts and their limits. bodies.py has all others."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from redis_scheduler.api.bodies import Answer
from redis_scheduler.task.limit import CONCURRENCY_MOST, PER_MOST_S, RATE_MOST

_Concurrency = Annotated[int, Meta(ge=0, le=CONCURRENCY_MOST)]
_Rate = Annotated[int, Meta(ge=0, le=RATE_MOST)] | Annotated[float, Meta(ge=0, le=RATE_MOST)]
_Per = Annotated[int, Meta(ge=1, le=PER_MOST_S)] | Annotated[float, Meta(ge=0.001, le=PER_MOST_S)]

LIMIT_RULES = {
    "concurrency": f"must be a whole number from 0 (no limit) to {CONCURRENCY_MOST}",
    "rate": f"must be a number from 0 (no limit) to {RATE_MOST}",
    "per": f"must be a number of seconds from 0.001 to {PER_MOST_S} (a day)",
    "paused": "must be true or false",
}
"""What each field of LimitRequest must be, as errors say it."""


class LimitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /hosts/{host}: attempts at once, attempts in so many seconds, and whether none begins."""

    concurrency: _Concurrency | UnsetType = UNSET
    rate: _Rate | UnsetType = UNSET
    per: _Per | UnsetType = UNSET
    paused: bool | UnsetType = UNSET


class BreakerView(msgspec.Struct):
    """The breaker of a host: `open`, and how often it was probed, or `closing`, in which step; since when, and when the
    next probe or step may be (RFC 3339)."""

    state: str
    since: str
    next: str
    step: int | UnsetType = UNSET
    probes: int | UnsetType = UNSET


class HostView(msgspec.Struct, kw_only=True):
    """A host, or `@` and a limit_key: its limit, tasks that are held, and attempts that run, where these are
    counted."""

    host: str
    concurrency: int | UnsetType = UNSET
    rate: int | float | UnsetType = UNSET
    per: int | float | UnsetType = UNSET
    paused: bool = False
    held: int
    running: int
    breaker: BreakerView | UnsetType = UNSET


class HostShown(Answer):
    """A host as it stands."""

    data: HostView


class HostsListed(Answer):
    """Hosts by their names. more: whether there are further ones for which no limit is set."""

    data: list[HostView]
    more: bool
