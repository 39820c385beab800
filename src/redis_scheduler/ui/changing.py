"""What buttons do: a request to the API each, with the rights of who presses it."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Answered, Asker
from redis_scheduler.ui.entering import Visitor


@dataclass(frozen=True, slots=True)
class Change:
    """A request to the API: `body` is the field of the form that has its body, or a field that is a number of it."""

    method: str
    path: str
    done: str
    body: str = ""


CHANGES = {
    "run": Change("POST", "/schedule/{key}/run", "is due now"),
    "pause": Change("POST", "/schedule/{key}/pause", "is paused"),
    "resume": Change("POST", "/schedule/{key}/resume", "goes on"),
    "cancel": Change("DELETE", "/schedule/{key}", "is cancelled"),
    "change": Change("PATCH", "/schedule/{key}", "is changed", "change"),
    "replay": Change("POST", "/dead/{key}/replay", "is brought back", "ttl"),
    "delete": Change("DELETE", "/dead/{key}", "is deleted"),
}


async def change(asker: Asker, visitor: Visitor, verb: str, key: str, fields: dict[str, str]) -> tuple[bool, str]:
    """Do what a button says to a task, or a host; return whether it was done, and what there is to say. Raises
    PageRefused for no such button."""
    wanted = CHANGES.get(verb)
    if wanted is None or not key or "/" in key:
        raise PageRefused(404, "There is no such button")
    answered = await asker.ask(visitor, wanted.method, wanted.path.format(key=key), body=body_of(wanted, fields))
    return answered.status == 200, answered.error or f"{key} {wanted.done}{_found(answered)}"


async def change_marked(asker: Asker, visitor: Visitor, fields: dict[str, str]) -> dict[str, Any]:
    """Ask whether what a button says is meant for the tasks that are marked; once that was said, do it to each. Return
    what the page is to say. Raises PageRefused."""
    marked, verb = {name: value for name, value in fields.items() if name.startswith("key-")}, fields.get("verb", "")
    if verb not in CHANGES:
        raise PageRefused(404, "There is no such button")
    keys = list(marked.values())
    shown = {"verb": verb, "place": "marked", "filters": marked, "about": ", ".join(keys), "count": len(keys)}
    if "counted" not in fields or not keys:
        error = "" if keys else "Mark tasks first, with x or the mouse"
        return {**shown, "step": "ask", "is_complete": True, "minutes": "", "error": error}
    done = [(key, *await change(asker, visitor, verb, key, {})) for key in keys]
    failed = [f"{key}: {text}" for key, is_done, text in done if not is_done]
    return {**shown, "step": "done", "touched": len(done) - len(failed), "failed": failed[:5]}


def body_of(wanted: Change, fields: dict[str, str]) -> bytes:
    """Return the body of a request."""
    given = fields.get(wanted.body, "").strip()
    if wanted.body == "change":
        return given.encode() or b"{}"
    if wanted.body == "ttl" and given:
        try:
            return msgspec.json.encode({"ttl": float(given)})
        except ValueError:
            return msgspec.json.encode({"ttl": given})
    return b""


def _found(answered: Answered) -> str:
    found = answered.content.get("found") or answered.content.get("data")
    return " (an attempt is under way)" if found == "in delivery" else ""


async def schedule(asker: Asker, visitor: Visitor, fields: dict[str, str]) -> tuple[bool, str]:
    """Schedule what the form of the page `try` says; return whether that was done, and what there is to say."""
    wanted: dict[str, Any] = {"webhook": fields.get("webhook", ""), "ttl": _json(fields.get("ttl", "").strip() or "0")}
    if fields.get("data", "").strip():
        wanted["data"] = Raw(fields["data"].encode())
    more = _json(fields.get("more", "").strip() or "{}")
    if not isinstance(more, dict):
        return False, 'More fields: must be an object, such as {"retries": 3}'
    type_name = more.pop("type", None)
    wanted |= more
    if "at" in more or "repeat" in more:
        wanted.pop("ttl")
    body = msgspec.json.encode(wanted)
    query = {"type": str(type_name)} if type_name else {}
    answered = await asker.ask(visitor, "POST", "/schedule", query, body)
    content = answered.content
    return answered.status == 200, answered.error or f"{content['key']} is scheduled, due {content['due']}"


def _json(text: str) -> Any:
    """Return what a text says, or the text for the API to refuse."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
