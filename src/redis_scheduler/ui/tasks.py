"""The list of tasks, and a task: what the API shows, made readable."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from redis_scheduler.api.filters import FILTERS
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.filters import LISTED
from redis_scheduler.store.forecast import deferred
from redis_scheduler.store.token import Right
from redis_scheduler.task.json_text import without_halves
from redis_scheduler.task.options import Options
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Answered, Asker, check, content_of
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.life import next_times, steps_of
from redis_scheduler.ui.searching import NUMBERS, look
from redis_scheduler.ui.trees import text_of, tree_of

PAGE = 50
"""Rows of a page."""

CURL_BYTES = 65_536
"""A task with more data is not shown as a line for a shell."""

COUNTED = {"in delivery": "in_delivery", "scheduled": "due"}
"""What of GET /stats counts the tasks of a state, if it has another name: `due` counts those deferred, too."""

TASK_FIELDS = frozenset(Options.__struct_fields__)


class One(msgspec.Struct):
    """A task, with its data as it is."""

    info: dict[str, Any]
    data: Raw
    body: str | None = None
    body_base64: str | None = None


class Shown(msgspec.Struct):
    """What GET of a task answers."""

    data: One


_shown = msgspec.json.Decoder(Shown)


def shown_of(answered: Answered) -> One:
    """Return a task, with its data as it came. Raises StoreUnavailable, or PageRefused."""
    check(answered)
    found = answered.read(_shown).data
    data = bytes(found.data)
    if data not in answered.body:  # it holds half a surrogate pair
        at = without_halves(answered.body).find(data)
        found.data = Raw(answered.body[at : at + len(data)])
    return found


class Tasks:
    """Reads tasks for pages."""

    def __init__(self, asker: Asker, clients: Sequence[RedisClient]) -> None:
        self._asker = asker
        self._clients = clients

    async def rows(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of tasks by the filters of the address, and how many there are of each state. Raises
        PageRefused."""
        refuse_unknown(query, FILTERS)
        page, search = await look(self._asker, visitor, "/schedules", query, PAGE)
        counted = await self._counts(visitor, query)
        # All are looked at, but for what these filters leave out.
        looks_at_all = query.keys() <= {"host", "key_prefix", "cursor", *NUMBERS}
        total = sum(counted["counts"].values()) if looks_at_all else 0
        return {"rows": [row.info for row in page.data], "next": page.next, "search": search, "total": total, **counted}

    async def _counts(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return how many tasks there are of each state, and whether those deferred count as scheduled. A list of one
        shard has no sums beside it: another may be away."""
        nothing: dict[str, Any] = {"counts": {}, "with_deferred": False}
        if not visitor.rights & Right.METRICS or (visitor.caller and visitor.caller.types) or "shard" in query:
            return nothing
        states = content_of(await self._asker.ask(visitor, "GET", "/stats"))["data"]["states"]
        counts = {name: states[COUNTED.get(name, name)] for name in LISTED if name != "deferred"}
        if (later := await deferred(self._clients)) is not None:
            counts |= {"scheduled": max(0, counts["scheduled"] - later), "deferred": later}
        return {"counts": counts, "with_deferred": later is None}

    async def one(self, visitor: Visitor, key: str) -> dict[str, Any]:
        """Return a task. Raises PageRefused for what is not there, or not for the visitor."""
        found = shown_of(await self._asker.ask(visitor, "GET", f"/schedule/{key}"))
        info = found.info
        return {
            "info": info,
            "options": {name: msgspec.json.encode(info[name]).decode() for name in info if name in TASK_FIELDS},
            "next": next_times(info),
            "steps": steps_of(info, bytes(found.data)),
            "data": _content(found),
            "curl": _curl(found),
            "edit": _edit(info),
            "buttons": buttons_of(info, visitor),
        }


def refuse_unknown(query: Mapping[str, str], filters: Sequence[str]) -> None:
    """Raise PageRefused for a parameter that is no filter of a list."""
    if unknown := [name for name in query if name not in (*filters, *NUMBERS, "shard", "cursor")]:
        raise PageRefused(400, f"{unknown[0]}: is no filter; known: {', '.join(filters)}")


def _content(found: One) -> Any:
    text = found.body if found.body is not None else found.body_base64
    return tree_of(bytes(found.data)) if text is None else text_of(text)


def buttons_of(info: dict[str, Any], visitor: Visitor) -> list[str]:
    """Return what may be done with a task in its state, as far as the visitor may."""
    state, rights = info["state"], visitor.rights
    if info.get("ended"):
        return []
    wanted = {
        "run": Right.SCHEDULE if state in ("scheduled", "deferred", "queued", "waiting", "paused", "held") else None,
        "pause": Right.SCHEDULE if state in ("scheduled", "deferred", "queued", "waiting", "held") else None,
        "resume": Right.SCHEDULE if state == "paused" else None,
        "change": Right.SCHEDULE if state != "dead" else None,
        "cancel": Right.CANCEL if state != "dead" else None,
        "replay": Right.REPLAY if state == "dead" else None,
        "delete": Right.CANCEL if state == "dead" else None,
    }
    return [name for name, right in wanted.items() if right is not None and rights & right]


def _edit(info: dict[str, Any]) -> str:
    """Return the body of a PATCH that changes nothing yet: what may be said otherwise, without its time and data."""
    fields = {
        name: info[name] for name in ("webhook", *sorted(TASK_FIELDS - {"traceparent", "repeat"})) if name in info
    }
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode()


def _curl(found: One) -> str | None:
    """Return a line for a shell that schedules such a task; None where that cannot be written in one."""
    info = found.info
    size = len(bytes(found.data)) + len((found.body or found.body_base64 or "").encode())
    if not info.get("webhook") or info.get("error") or size > CURL_BYTES:
        return None
    fields: dict[str, Any] = {"webhook": info["webhook"]}
    fields |= {"at": info["at"]} if info.get("at") else {"ttl": info["ttl"]}
    fields |= {name: info[name] for name in info if name in TASK_FIELDS}
    if found.body is not None:
        fields["body"] = found.body
    elif found.body_base64 is not None:
        fields["body_base64"] = found.body_base64
    elif info.get("has_data"):
        fields["data"] = found.data
    # Unquoted, `[1-9]` and `{a,b}` in a type would have curl send many requests, and `&` other parameters.
    query = "" if info["type"] == "default" else f"?type={quote(info['type'], safe='')}"
    body = msgspec.json.encode(fields).decode()
    return (
        f'curl -X POST "$URL"/schedule{shlex.quote(query) if query else ""} -H "Authorization: $TOKEN" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
