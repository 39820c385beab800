"""The handlers of /hosts: the limits of receivers, and of what tasks name as their `limit_key`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import reading
from redis_scheduler.api.answers import answer
from redis_scheduler.api.diagnosis import examined
from redis_scheduler.api.host_bodies import HostShown, HostsListed, HostView, LimitRequest, SeenView
from redis_scheduler.api.many import ManyApi
from redis_scheduler.api.reading import TOO_DEEP
from redis_scheduler.api.there import There
from redis_scheduler.api.view import breaker_view
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.host import host_named
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.limiting import LIMITS_MOST, HostState, in_all
from redis_scheduler.store.seen_hosts import HostSeen, SeenHosts, worth_telling
from redis_scheduler.task.given import quoted, shown
from redis_scheduler.task.limit import KEY_MARK, WHOLE_MARK, Limit
from redis_scheduler.task.options import LIMIT_KEY
from redis_scheduler.task.tally import bound_at

SEEN_MOST = 200
"""So many of the hosts that workers tell of are listed: the busiest of them, and those that fail."""

_RULE = "must be a host with its port, such as example.com:443, or @ and a limit_key"


class HostsApi(ManyApi):
    """What ManyApi does, and the limits of hosts and limit keys."""

    @cached_property
    def _seen_hosts(self) -> SeenHosts:
        return SeenHosts(self._places.first.writes.client)

    async def hosts(self, _request: Request, _given: Mapping[str, str]) -> Response:
        """GET /hosts: all for which a limit is set, others under which tasks are held, the busiest, and those that
        fail."""
        there = There(await self._places.all())
        seen, found = await asyncio.gather(self._seen(there), there.each(lambda calls: calls.limiting.names()))
        names = {name for of_shard, _ in found.values() for name in of_shard}
        shown = sorted({*names, *worth_telling(seen, SEEN_MOST)})
        views = [_view(state, seen.get(state.name)) for state in await self._states(shown, there)]
        has_more = len(seen) > SEEN_MOST or any(has_others for _, has_others in found.values())
        return answer(HostsListed(views, has_more, there.away))

    async def host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /hosts/{host}: one, whether a limit is set for it or not."""
        name, there = _limit_name(request), There(await self._places.all())
        return await self._answer(name, there, (await self._seen(there)).get(name))

    async def put_host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """PUT /hosts/{host}: set its limit; what is absent goes by HOST_CONCURRENCY and HOST_RATE."""
        name = _limit_name(request)
        body = await reading.read_body(request, self._max_body)
        if await self._places.first.limiting.say(name, _limit(body)) is None:
            problem = f"Limits are kept of {LIMITS_MOST} hosts and limit keys, which is as many as may be: delete one"
            raise RequestRefused(Code.LIMITS_FULL, problem)
        return await self._answer(name, There(await self._places.all()))

    async def delete_host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """DELETE /hosts/{host}: forget its limit; tasks that it holds go on."""
        name = _limit_name(request)
        if not await self._places.first.limiting.say(name, None):
            raise RequestRefused(Code.HOST_NOT_FOUND, f"No limit is set for {name}")
        return await self._answer(name, There(await self._places.all()))

    async def _seen(self, there: There) -> Mapping[str, HostSeen]:
        """Return what workers saw of hosts, which the first shard keeps; nothing while that is away."""
        return (await there.each(lambda _: self._seen_hosts.all(), 1)).get(0, {})

    async def _answer(self, name: str, there: There, seen: HostSeen | None = None) -> Response:
        [state] = await self._states([name], there)
        return answer(HostShown(_view(state, seen), there.away))

    async def _states(self, names: Sequence[str], there: There) -> list[HostState]:
        """Return how limits stand in all shards that are there together."""
        found = await there.each(lambda calls: calls.limiting.states(names))
        states = [in_all(states) for states in zip(*found.values(), strict=True)]
        if there.is_single:
            return states
        # Under a limit that the first shard keeps as a whole, each of them has a permit for one that may only wait.
        marked = [WHOLE_MARK + name for name in names]
        for wholes in (await there.each(lambda calls: calls.limiting.states(marked), 1)).values():
            states = [
                replace(state, running=whole.running or state.running)
                for state, whole in zip(states, wholes, strict=True)
            ]
        return states


def _limit(body: bytes) -> Limit:
    """Return the limit that a body sets. Raises InvalidRequest."""
    try:
        wanted = examined(body, LimitRequest)
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, TOO_DEEP) from error
    if wanted.per is not UNSET and not wanted.rate:
        problem = f"must be given beside a rate: alone it has no effect, got {shown(wanted.per)}"
        raise InvalidField("per", problem, Code.CONTRADICTION)
    if wanted == LimitRequest():
        raise InvalidRequest(Code.NOTHING_TO_CHANGE, "Give concurrency, rate, per or paused; to forget all, DELETE it")
    return Limit(
        None if wanted.concurrency is UNSET else wanted.concurrency,
        None if wanted.rate is UNSET else wanted.rate,
        1.0 if wanted.per is UNSET else wanted.per,
        wanted.paused is True,
    )


def _limit_name(request: Request) -> str:
    """Return the canonical name of the host in the path, or of a limit_key. Raises InvalidField."""
    given: str = request.path_params["key"]
    if given.startswith(KEY_MARK):
        if re.search(LIMIT_KEY, given[1:]):
            return given
    elif re.search(r":[0-9]{1,5}\Z", given) and (name := host_named(given)) and not name.endswith(":0"):
        return name
    raise InvalidField("host", f"{_RULE}, got {quoted(given)}")


def _shortest(value: float) -> int | float:
    """Return a whole number as such: it is shown as it was given."""
    return int(value) if value.is_integer() else value


def _view(state: HostState, seen: HostSeen | None = None) -> HostView:
    said = state.said
    view = HostView(host=state.name, held=state.held, running=state.running)
    if seen is not None:
        view.seen = seen_view(seen)
    if state.breaker is not None:
        view.breaker = breaker_view(state.breaker)
    if said is None:
        return view
    return msgspec.structs.replace(
        view,
        concurrency=UNSET if said.concurrency is None else said.concurrency,
        rate=UNSET if said.rate is None else _shortest(said.rate),
        per=UNSET if not said.rate else _shortest(said.per_s),
        paused=said.is_paused,
    )


def seen_view(seen: HostSeen) -> SeenView:
    """Return what is shown of a host that workers saw."""
    attempts = seen.attempts
    return SeenView(
        in_flight=seen.running,
        attempts=attempts,
        per_second=round(seen.per_s, 3),
        slow=seen.is_slow,
        success=round(1 - seen.failed / attempts, 4) if attempts else UNSET,
        p95_ms=bound_at(seen.took, 0.95) or UNSET,
        last_error=seen.error or UNSET,
        last_error_at=rfc3339(seen.error_ms) if seen.error_ms else UNSET,
    )
