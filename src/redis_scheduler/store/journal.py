"""What people changed, and tokens with the right admin: the newest entries, in the first shard."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from redis_scheduler.store.answer_shape import NUMBER, of
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.script import Script
from redis_scheduler.task.timing import LAST_MS

NOTE = Script("note")

PAGE_MOST = 1_000
"""Entries of a page."""

TEXT_LENGTH = 300
"""Characters of each text of an entry."""

TEXTS_MOST = 16
"""Filters of an entry."""

_ROWS = of(list[tuple[bytes, list[bytes]]])


class Note(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was changed: `what` (a route, or a command), on which task or host, with which parameters, and how many
    tasks.

    who: the id of a token with rights, or `api` for the service's own; name: of that token. via: `dashboard`, `api` or
    `command`. status: of the answer; another than 200 says that nobody knows whether it was done, or all of it.
    """

    who: str
    what: str
    via: str
    status: int = 200
    name: str | UnsetType = UNSET
    on: str | UnsetType = UNSET
    given: dict[str, str] | UnsetType = UNSET
    tasks: int | UnsetType = UNSET
    client: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class JournalEntry(msgspec.Struct, frozen=True):
    """A note as the journal has it: when, by Redis' clock (ms), and its number."""

    at_ms: int
    number: int
    note: Note


def bounded(given: dict[str, str]) -> dict[str, str]:
    """Return the beginnings of texts, as they are kept."""
    return {name[:TEXT_LENGTH]: text[:TEXT_LENGTH] for name, text in [*given.items()][:TEXTS_MOST]}


class Journal:
    """Keeps so many entries; `most` 0: none. Its methods raise StoreUnavailable, or StoreFull."""

    def __init__(self, client: RedisClient, most: int) -> None:
        self._client = client
        self._most = most

    @property
    def is_away(self) -> bool:
        """Whether its Redis is known to be away."""
        return self._client.outage.is_away

    async def note(self, note: Note) -> int:
        """Add a note; return its number."""
        entry = msgspec.json.encode(note)
        call = NOTE.bind(self._client.keys, id=secrets.token_hex(8), entry=entry, most=self._most)
        return await self._client.run(call, NUMBER)

    async def page(self, limit: int, before: int | None) -> tuple[list[JournalEntry], int | None]:
        """Return the newest entries, or those with numbers below one, the newest first; and the lowest number, if there
        are further ones below it."""
        if before is None:
            before = await self._last() + 1
        first = max(0, before - limit)
        command = ("XRANGE", self._client.keys.journal, first, f"({before}-0", "COUNT", limit + 1)
        rows = await self._client.command(*command, read=_ROWS)
        found = [entry for row in rows if (entry := _entry(*row)) is not None]
        return found[::-1], first if rows and first > 1 and before > 1 else None

    async def _last(self) -> int:
        """Return the number of the last entry, also where the user may not ask for it; 0: there is none."""
        journal = self._client.keys.journal
        last = await self._client.optional("XINFO", "STREAM", journal, read=_last)
        if last is not None:
            return int(last)
        kept = await self._client.command("XLEN", journal, read=NUMBER)
        rows = await self._client.command("XRANGE", journal, "-", "+", "COUNT", 1, read=_ROWS)
        return _number(rows[0][0]) + kept - 1 if rows else 0


def _last(answer: Any) -> int:
    """Return the number of the last entry that there ever was."""
    fields = of(list[Any])(answer)
    said = dict(zip(fields[::2], fields[1::2], strict=True))
    return _number(said[b"last-generated-id"])


def _number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _entry(entry_id: bytes, fields: Sequence[bytes]) -> JournalEntry | None:
    """Return an entry; None for one that other hands have made."""
    said = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        note = msgspec.json.decode(said[b"entry"], type=Note)
        at_ms = int(said[b"at"])
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None
    return JournalEntry(at_ms, _number(entry_id), note) if 0 <= at_ms <= LAST_MS else None
