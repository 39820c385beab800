"""The handlers of the routes by which a receiver says what became of a task that it took on."""

import hmac
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from redis_scheduler.api import requests
from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Found
from redis_scheduler.api.callers import caller_of, visible
from redis_scheduler.api.own_keys import OwnKeysApi
from redis_scheduler.errors import Code, InvalidField, RequestRefused, TaskNotFound
from redis_scheduler.store.stored import Stored
from redis_scheduler.store.written import AcknowledgeAnswer, Acknowledgement
from redis_scheduler.task.acknowledgement import acknowledgement_token, within_ms

HEADER = "Schedule-Ack"


class AcknowledgementsApi(OwnKeysApi):
    """What OwnKeysApi does, and acknowledgements."""

    async def done(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/done: the task that was taken on is delivered."""
        return await self._acknowledge(request, "+")

    async def fail(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/fail: the attempt has failed."""
        return await self._acknowledge(request, "-")

    async def extend(self, request: Request, _given: Mapping[str, str]) -> Response:
        """POST /schedule/{key}/extend: the job goes on, for another `ack_within` from now."""
        return await self._acknowledge(request, "")

    async def _acknowledge(self, request: Request, sign: str) -> Response:
        key = requests.task_key(request)
        given = request.headers.get(HEADER, "")
        if not given:
            raise InvalidField(HEADER, "is missing: give the one that the delivery carried", Code.MISSING_FIELD)
        calls, stored = await self._places.find(key)
        caller = caller_of(request)
        async with self._whole(request, key, stored) as whole:
            said, state = self._said(visible(caller, whole), given, sign)
        found = await calls.acknowledge.submit(said)
        if found is AcknowledgeAnswer.NOT_FOUND:
            raise TaskNotFound
        if found is AcknowledgeAnswer.OTHER:
            raise _other()
        if found is AcknowledgeAnswer.ALL_PAUSED:
            raise RequestRefused(
                Code.ALL_PAUSED,
                "All is paused until redis-scheduler resume-all, so no end is written: say it again then",
            )
        return answer(Found(key, key, state))

    def _said(self, stored: Stored | None, given: str, sign: str) -> tuple[Acknowledgement, str]:
        """Return what is said of a task, and its state. Raises TaskNotFound, or RequestRefused if it is not said of the
        attempt that is awaited."""
        if stored is None:
            raise TaskNotFound
        entry = stored.entry or ""
        expected = [acknowledgement_token(token, stored.key, entry, stored.attempts) for token in self._tokens]
        is_genuine = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
        if not stored.record.options.ack or not any(is_genuine):
            raise _other()
        said = Acknowledgement(stored.key, entry, stored.attempts, sign, within_ms(stored.record.options))
        return said, stored.state


def _other() -> RequestRefused:
    return RequestRefused(
        Code.WRONG_ACKNOWLEDGEMENT,
        f"{HEADER}: is not that of an attempt that is awaited, or something else was said of it before",
        HEADER,
    )
