"""The handlers of /hosts: the limits of receivers, and of what tasks name as their `limit_key`."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import reading
from redis_scheduler.api.answers import answer
from redis_scheduler.api.diagnosis import examined, quoted
from redis_scheduler.api.host_bodies import BreakerView, HostShown, HostsListed, HostView, LimitRequest
from redis_scheduler.api.many import ManyApi
from redis_scheduler.api.reading import TOO_DEEP
from redis_scheduler.errors import Code, InvalidField, InvalidRequest, RequestRefused
from redis_scheduler.host import host_of
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.limiting import LIMITS_MOST, HostState
from redis_scheduler.task.limit import KEY_MARK, Limit
from redis_scheduler.task.options import LIMIT_KEY

HOST_LENGTH = 300

_RULE = "must be a host with its port, such as example.com:443, or @ and a limit_key"


class HostsApi(ManyApi):
    """What ManyApi does, and the limits of hosts and limit keys."""

    async def hosts(self, _request: Request, _given: Mapping[str, str]) -> Response:
        """GET /hosts: all for which a limit is set, and others under which tasks are held."""
        limiting = self._only.limiting
        names, has_more = await limiting.names()
        return answer(HostsListed([_view(state) for state in await limiting.states(names)], has_more))

    async def host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /hosts/{host}: one, whether a limit is set for it or not."""
        [state] = await self._only.limiting.states([_limit_name(request)])
        return answer(HostShown(_view(state)))

    async def put_host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """PUT /hosts/{host}: set its limit; what is absent goes by HOST_CONCURRENCY and HOST_RATE."""
        name = _limit_name(request)
        body = await reading.read_body(request, self._max_body)
        if await self._only.limiting.say(name, _limit(body)) is None:
            problem = f"Limits are kept of {LIMITS_MOST} hosts and limit keys, which is as many as may be: delete one"
            raise RequestRefused(Code.LIMITS_FULL, problem)
        [state] = await self._only.limiting.states([name])
        return answer(HostShown(_view(state)))

    async def delete_host(self, request: Request, _given: Mapping[str, str]) -> Response:
        """DELETE /hosts/{host}: forget its limit; tasks that it holds go on."""
        name = _limit_name(request)
        if not await self._only.limiting.say(name, None):
            raise RequestRefused(Code.HOST_NOT_FOUND, f"No limit is set for {name}")
        [state] = await self._only.limiting.states([name])
        return answer(HostShown(_view(state)))


def _limit(body: bytes) -> Limit:
    """Return the limit that a body sets. Raises InvalidRequest."""
    try:
        wanted = examined(body, LimitRequest)
    except RecursionError as error:
        raise InvalidRequest(Code.TOO_DEEP, TOO_DEEP) from error
    if wanted.per is not UNSET and not wanted.rate:
        raise InvalidField("per", "must be given beside a rate: alone it has no effect", Code.CONTRADICTION)
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
    elif len(given) <= HOST_LENGTH and given.isprintable() and re.search(r":[0-9]{1,5}\Z", given):
        try:
            parts = urlsplit(f"http://{given}")
            is_host = parts.hostname and parts.port and parts.netloc == given and "@" not in given
        except ValueError:
            is_host = False
        if is_host:
            return host_of(f"http://{given}")
    raise InvalidField("host", f"{_RULE}, got {quoted(given)}")


def _shortest(value: float) -> int | float:
    """Return a whole number as such: it is shown as it was given."""
    return int(value) if value.is_integer() else value


def _view(state: HostState) -> HostView:
    said = state.said
    view = HostView(host=state.name, held=state.held, running=state.running)
    if (breaker := state.breaker) is not None:
        view.breaker = BreakerView(
            breaker.state,
            rfc3339(breaker.since_ms),
            rfc3339(breaker.next_ms),
            breaker.step or UNSET,
            breaker.probes if breaker.state == "open" else UNSET,
        )
    if said is None:
        return view
    return msgspec.structs.replace(
        view,
        concurrency=UNSET if said.concurrency is None else said.concurrency,
        rate=UNSET if said.rate is None else _shortest(said.rate),
        per=UNSET if not said.rate else _shortest(said.per_s),
        paused=said.is_paused,
    )
