"""The list of tasks, and a task: what the API shows, made readable."""

import shlex
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Raw

from redis_scheduler.api.filters import FILTERS
from redis_scheduler.store.filters import LISTED
from redis_scheduler.store.token import Right
from redis_scheduler.task.options import Options
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Answered, Asker, check, content_of
from redis_scheduler.ui.entering import Visitor
from redis_scheduler.ui.rendering import span
from redis_scheduler.ui.trees import text_of, tree_of

PAGE = 50
"""Rows of a page."""

CURL_BYTES = 65_536
"""A task with more data is not shown as a line for a shell."""

COUNTED = {"in delivery": ("in_delivery",), "scheduled": ("due",), "deferred": ()}
"""What of GET /stats counts the tasks of a state, if it has another name: those deferred count as scheduled."""

TASK_FIELDS = frozenset(Options.__struct_fields__)


class Row(msgspec.Struct):
    """A task in a list: without its data."""

    info: dict[str, Any]


class Page(msgspec.Struct):
    """A page of a list."""

    data: list[Row]
    next: str | None


class One(msgspec.Struct):
    """A task, with its data as it is."""

    info: dict[str, Any]
    data: Raw
    body: str | None = None
    body_base64: str | None = None


class Shown(msgspec.Struct):
    """What GET of a task answers."""

    data: One


_page, _shown = msgspec.json.Decoder(Page), msgspec.json.Decoder(Shown)


def page_of(answered: Answered) -> Page:
    """Return a page of tasks. Raises StoreUnavailable, or PageRefused."""
    check(answered)
    return _page.decode(answered.body)


class Tasks:
    """Reads tasks for pages."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def rows(self, visitor: Visitor, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of tasks by the filters of the address, and how many there are of each state. Raises
        PageRefused."""
        unknown = [name for name in query if name not in (*FILTERS, "cursor")]
        if unknown:
            raise PageRefused(400, f"{unknown[0]}: is no filter; known: {', '.join(FILTERS)}")
        page = page_of(await self._asker.ask(visitor, "GET", "/schedules", {**query, "limit": str(PAGE)}))
        return {"rows": [row.info for row in page.data], "next": page.next, "counts": await self._counts(visitor)}

    async def _counts(self, visitor: Visitor) -> dict[str, int]:
        if not visitor.rights & Right.METRICS or (visitor.caller and visitor.caller.types):
            return {}
        states = content_of(await self._asker.ask(visitor, "GET", "/stats"))["data"]["states"]
        return {
            name: sum(states[one] for one in COUNTED.get(name, (name,))) for name in LISTED if COUNTED.get(name, "-")
        }

    async def one(self, visitor: Visitor, key: str) -> dict[str, Any]:
        """Return a task. Raises PageRefused for what is not there, or not for the visitor."""
        answered = await self._asker.ask(visitor, "GET", f"/schedule/{key}")
        check(answered)
        found = _shown.decode(answered.body).data
        info = found.info
        return {
            "info": info,
            "options": {name: msgspec.json.encode(info[name]).decode() for name in info if name in TASK_FIELDS},
            "next": _next(info),
            "steps": _steps(info),
            "data": _content(found),
            "curl": _curl(found),
            "buttons": _buttons(info, visitor),
        }


def _content(found: One) -> Any:
    text = found.body if found.body is not None else found.body_base64
    return tree_of(bytes(found.data)) if text is None else text_of(text)


def _next(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the next times of a series, in UTC and, where its rule has one, in its zone."""
    times = (info.get("series") or {}).get("next") or []
    zone = (info.get("repeat") or {}).get("tz")
    try:
        at = ZoneInfo(zone) if zone else None
    except (ValueError, OSError):
        at = None
    return [
        (one, "" if at is None else f"{datetime.fromisoformat(one).astimezone(at):%Y-%m-%d %H:%M:%S} {zone}")
        for one in times
    ]


def _steps(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what happened to a task, in turn: when it was due, each attempt that is kept, how it ended."""
    found: list[dict[str, Any]] = []
    attempts = info.get("attempts") or []
    gone = int(info.get("retry") or 0) - len(attempts)
    if info.get("due") and not attempts:
        found.append({"what": "due", "at": info["due"], "kind": "due"})
    elif attempts and attempts[0].get("due"):
        found.append({"what": "due", "at": attempts[0]["due"], "kind": "due"})
    if gone > 0:
        found.append({"what": f"{gone} attempts that are kept no more", "at": None, "kind": "more"})
    for number, attempt in enumerate(attempts, start=max(0, gone) + 1):
        found.append(
            {
                "what": f"attempt {number}: {attempt.get('error', '')}",
                "at": attempt.get("began"),
                "kind": "failed",
                "attempt": attempt,
                "took": span(attempt.get("elapsed_ms", 0)),
                "phases": [
                    (name, span(attempt[field]))
                    for name, field in (
                        ("look-up", "lookup_ms"),
                        ("connect", "connect_ms"),
                        ("answer", "first_byte_ms"),
                    )
                    if attempt.get(field)
                ],
            }
        )
    if info.get("ended"):
        late = f", {span(info['late_ms'])} late" if info.get("late_ms") is not None else ""
        status = f", answered {info['last_status']}" if info.get("last_status") else ""
        found.append({"what": f"{info['state']}{status}{late}", "at": info["ended"], "kind": info["state"]})
    elif info.get("expires") and info["expires"] != info.get("due"):
        found.append({"what": "comes next", "at": info["expires"], "kind": "next"})
    return found


def _buttons(info: dict[str, Any], visitor: Visitor) -> list[str]:
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
