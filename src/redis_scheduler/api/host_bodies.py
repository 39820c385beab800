"""The bodies of requests and answers that are of hosts and their limits. bodies.py has all others."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from redis_scheduler.api.bodies import Answer
from redis_scheduler.api.view import BreakerView
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


class SeenView(msgspec.Struct, kw_only=True):
    """What workers saw of a host in the last five minutes. in_flight: attempts under way; attempts: those that ended,
    and how many did in a second; success: the share that was well; p95_ms: of 20 attempts 19 took at most so long;
    slow: whether a worker finds it slow; last_error: how the last that failed did."""

    in_flight: int
    attempts: int
    per_second: float
    slow: bool
    success: float | UnsetType = UNSET
    p95_ms: int | UnsetType = UNSET
    last_error: str | UnsetType = UNSET
    last_error_at: str | UnsetType = UNSET


class HostView(msgspec.Struct, kw_only=True):
    """A host, or `@` and a limit_key: its limit, tasks that are held, and attempts that run, where these are counted;
    seen: of one of those that workers have been busiest with, or that fail."""

    host: str
    concurrency: int | UnsetType = UNSET
    rate: int | float | UnsetType = UNSET
    per: int | float | UnsetType = UNSET
    paused: bool = False
    held: int
    running: int
    breaker: BreakerView | UnsetType = UNSET
    seen: SeenView | UnsetType = UNSET


class HostShown(Answer):
    """A host as it stands. away: the numbers of the shards that are away, whose part is not in it."""

    data: HostView
    away: list[int] | UnsetType = UNSET


class HostsListed(Answer):
    """Hosts by their names: with a limit, with tasks that are held, and those that workers have been busiest with
    or that fail. more: whether there are further ones for which no limit is set. away: the numbers of the shards that
    are away, whose part is not in it; without shard 0 it is not known what workers saw."""

    data: list[HostView]
    more: bool
    away: list[int] | UnsetType = UNSET
