"""The handlers of the routes to dead letters: tasks whose attempts all failed."""

from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import reading, requests
from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Cancelled, DeadGroup, Grouped, Updated, UpdateRequest
from redis_scheduler.api.callers import (
    Caller,
    caller_of,
    refuse_other_options,
    refuse_without,
    visible,
    whose,
)
from redis_scheduler.api.filters import filters_of, without_alerts
from redis_scheduler.api.handlers import Api
from redis_scheduler.api.pages import look_s
from redis_scheduler.errors import LetterNotFound
from redis_scheduler.logs import rfc3339
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.token import Right
from redis_scheduler.store.written import DiscardAnswer, ReplayAnswer
from redis_scheduler.task.due import due_after


class DeadLettersApi(Api):
    """What Api does, and what may be done with dead letters."""

    async def dead(self, request: Request, given: Mapping[str, str]) -> Response:
        """GET /dead?limit=&cursor=, and filters: dead letters, the newest first."""
        limit, wanted, views = requests.page_limit(given), filters_of(given), await self._listed(given)
        read = partial(views.dead_page, limit, given.get("cursor"), wanted)
        return await self._answer_page(request, read, wanted.types is None and wanted.may_skip_many(True))

    async def dead_groups(self, request: Request, given: Mapping[str, str]) -> Response:
        """GET /dead/groups, with the filters of GET /dead: how many dead letters there are of each host and error."""
        wanted = without_alerts(filters_of(given), caller_of(request))
        async with self._one_grouping.held(whose=whose(request)):
            found = await (await self._listed(given)).groups(wanted, look_s(request))
        groups = [
            DeadGroup(group.host, group.error, group.count, group.newest, rfc3339(group.died_ms))
            for group in found.groups
        ]
        looked_at, dead = found.looked_at, found.dead
        if wanted.types is not None:  # such a token may not see how many others there are
            looked_at = dead = sum(group.count for group in groups) + found.others
        return answer(Grouped(groups, found.others, looked_at, dead, found.is_complete))

    async def dead_letter(self, request: Request, _given: Mapping[str, str]) -> Response:
        """GET /dead/{key}: one dead letter."""
        key = requests.task_key(request)
        return await self._shown(request, key, await self._places.find(key), _dead)

    async def discard(self, request: Request, _given: Mapping[str, str]) -> Response:
        """DELETE /dead/{key}: delete a dead letter, and no task that is alive again."""
        key = requests.task_key(request)
        calls = await self._places.of_key(key)
        found = await self._guarded(
            request, key, lambda expected: calls.discard.submit((key, expected)), LetterNotFound
        )
        if found is DiscardAnswer.NOT_FOUND:
            raise LetterNotFound
        return answer(Cancelled("deleted", key))

    async def replay(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /dead/{key}/replay: bring a dead letter back, at once or after a new ttl, with what is given changed."""
        key, caller = requests.task_key(request), caller_of(request)
        body = await reading.read_body(request, self._max_body) if reading.has_body(request) else b""
        wanted = requests.replay_request(body)
        if not requests.is_moved_at_most(wanted):
            refuse_without(caller, Right.SCHEDULE)
        refuse_other_options(caller, wanted)
        if reading.may_be_deep(body):
            await reading.check_nesting(body)
        await self._quotas.rated(caller, 1)
        return await self._changed(request, key, lambda stored: self._replayed(stored, wanted, caller))

    async def _replayed(self, stored: Stored | None, wanted: UpdateRequest, caller: Caller | None) -> Response | None:
        """Bring a dead letter back; None where another process was first. Raises LetterNotFound."""
        stored = _dead(visible(caller, stored))
        calls, change = self._places.of(stored), await self._change_of(stored, wanted, caller)
        async with await self._within_its_token(caller, stored, change):
            now_ms, found = await calls.replay.submit(change)
        if found is not ReplayAnswer.REPLAYED:
            return None
        return answer(Updated(stored.key, stored.key, rfc3339(due_after(now_ms, change.ttl_ms or 0)), "replayed"))


def _dead(stored: Stored | None) -> Stored:
    if stored is None or stored.state != "dead":
        raise LetterNotFound
    return stored
