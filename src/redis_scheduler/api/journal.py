"""Who changed what: the logger `audit`, the journal in Redis, and GET /audit.

Noted is what needs the right bulk, purge, replay or admin, whoever asks; and any other change that a token with the
right admin makes, or a person at the dashboard. What services do to their own tasks is not, but with AUDIT_API.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from redis_scheduler.api.answers import answer
from redis_scheduler.api.bodies import Answer
from redis_scheduler.api.callers import caller_in
from redis_scheduler.api.filters import TYPES
from redis_scheduler.api.request_ids import request_id_of
from redis_scheduler.api.requests import page_limit
from redis_scheduler.errors import Code, InvalidField, StoreFull, StoreUnavailable
from redis_scheduler.logs import Events, rfc3339
from redis_scheduler.store.journal import PAGE_MOST, Journal, JournalEntry, Note, bounded
from redis_scheduler.store.token import Right
from redis_scheduler.task.given import quoted

logger = Events("audit")

BY_PERSON = "redis_scheduler.person"
"""In the scope of what the dashboard asks for somebody who pressed a button."""

ALWAYS = Right.BULK | Right.PURGE | Right.REPLAY | Right.ADMIN
UNCHANGING = ("/repeat/preview",)

KEPT_WITHIN_S = 0.2
"""An answer waits so long for its note, and not at all while Redis is known to be away."""

_CURSOR = re.compile(r"[1-9][0-9]{0,14}")


class NoteView(msgspec.Struct, kw_only=True):
    """A change: at: when (RFC 3339); number: of all changes, from 1; who: the id of a token, `api`, or the user of a
    command; name: of the token; via: `dashboard`, `api` or `command`; what: the route, or the command; on: the task,
    host or token; given: the parameters; tasks: how many; status: of the answer: another than 200 says that nobody
    knows whether it was done, or all of it; client: the address that asked."""

    at: str
    number: int
    who: str
    what: str
    via: str
    status: int
    name: str | UnsetType = UNSET
    on: str | UnsetType = UNSET
    given: dict[str, str] | UnsetType = UNSET
    tasks: int | UnsetType = UNSET
    client: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class Noted(Answer):
    """The newest changes first. next: the cursor of what is behind them, None at the end."""

    data: list[NoteView]
    next: str | None


class _Done(msgspec.Struct):
    """What an answer says of how many tasks it is about."""

    data: Any = None
    touched: int | None = None
    tasks: list[Any] | None = None
    operation: str | None = None


_decode = msgspec.json.Decoder(_Done).decode


class Auditor:
    """Notes changes, and shows them. `notes_api`: also all that the service's own token changes."""

    def __init__(self, journal: Journal, notes_api: bool = False) -> None:
        self._journal = journal
        self.notes_api = notes_api

    async def audit(self, _request: Request, given: Mapping[str, str]) -> Response:
        """GET /audit?limit=&cursor=: who changed what, the newest first."""
        limit, cursor = min(page_limit(given), PAGE_MOST), given.get("cursor")
        if cursor is not None and not _CURSOR.fullmatch(cursor):
            raise InvalidField("cursor", f"must be the `next` of an earlier answer, got {quoted(cursor)}")
        entries, following = await self._journal.page(limit, None if cursor is None else int(cursor))
        return answer(Noted([_view(entry) for entry in entries], None if following is None else str(following)))

    async def note(self, scope: Scope, route: str, given: Mapping[str, str], response: Response) -> None:
        """Note a change that was made, or may have been: in the log, and in Redis if that can be written."""
        status = response.status_code
        if given.get("dry_run") == "true" or not _may_be_made(response):
            return
        caller, parameters = caller_in(scope), {name: text for name, text in given.items() if name != TYPES}
        note = Note(
            who="api" if caller is None else caller.id,
            name=UNSET if caller is None else caller.token.name,
            what=route,
            via="dashboard" if BY_PERSON in scope else "api",
            status=status,
            on=scope.get("path_params", {}).get("key", "")[:300] or UNSET,
            given=bounded(parameters) if parameters else UNSET,
            tasks=_count(bytes(response.body)) if status == 200 else UNSET,
            client=scope["client"][0] if scope.get("client") else UNSET,
            request_id=request_id_of(scope) or UNSET,
        )
        logger.info(
            "change", **{name: said for name, said in msgspec.structs.asdict(note).items() if said is not UNSET}
        )
        try:
            await self._keep(note)
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            logger.warning("change-not-kept", error=str(error) or "Redis did not answer", what=route)

    async def _keep(self, note: Note) -> None:
        if self._journal.is_away:
            raise StoreUnavailable("Redis is not available")
        async with asyncio.timeout(KEPT_WITHIN_S):
            await self._journal.note(note)


def _may_be_made(response: Response) -> bool:
    """Whether a change was made, or may have been in part: then an error tells of each task, or how to go on."""
    if response.status_code in (200, Code.REDIS_UNAVAILABLE.status):
        return True
    done = _decode(bytes(response.body))
    return done.tasks is not None or done.operation is not None


def _count(body: bytes) -> int | UnsetType:
    done = _decode(body)
    if done.touched is not None:
        return done.touched
    if done.tasks is not None:
        return len(done.tasks)
    return done.data if isinstance(done.data, int) else UNSET if isinstance(done.data, dict) else 1


def _view(entry: JournalEntry) -> NoteView:
    return NoteView(at=rfc3339(entry.at_ms), number=entry.number, **msgspec.structs.asdict(entry.note))
