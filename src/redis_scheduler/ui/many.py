"""What is done to many tasks from a page: first they are counted, then whoever asked says that it is meant, then it is
done step by step, with how far it is."""

import math
from typing import Any

from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS
from redis_scheduler.ui.answers import PageRefused
from redis_scheduler.ui.asking import Asker
from redis_scheduler.ui.entering import Visitor

ASKED_ABOVE = 100
"""More tasks than this are touched only if their number is typed."""

MANY = {
    "replay": ("/dead/replay", DEAD_FILTERS),
    "delete": ("/dead/delete", DEAD_FILTERS),
    "cancel": ("/schedules/cancel", FILTERS),
    "pause": ("/schedules/pause", FILTERS),
    "resume": ("/schedules/resume", FILTERS),
    "run": ("/schedules/run", FILTERS),
}
RATED = ("replay", "run")


async def do_many(asker: Asker, visitor: Visitor, verb: str, fields: dict[str, str]) -> dict[str, Any]:
    """Take the next step of what is asked for; return what the page is to say. Raises PageRefused."""
    if verb not in MANY:
        raise PageRefused(404, "There is no such button")
    path, names = MANY[verb]
    filters = {name: fields[name] for name in names if fields.get(name)}
    shown: dict[str, Any] = {"verb": verb, "filters": filters, "minutes": fields.get("minutes", ""), "error": ""}
    if "counted" not in fields:
        return {**shown, **await _count(asker, visitor, path, filters), "step": "ask"}
    counted = _number(fields["counted"])
    shown |= {"count": counted, "is_complete": fields.get("complete") == "yes"}
    if counted > ASKED_ABOVE and _number(fields.get("sure", "").replace(",", "")) != counted:
        return {**shown, "step": "ask", "error": f"Type {counted} to say that it is meant"}
    query = filters | _rate(verb, counted, shown["minutes"])
    if fields.get("cursor"):
        query["cursor"] = fields["cursor"]
    answered = await asker.ask(visitor, "POST", path, query)
    if answered.status != 200:
        raise PageRefused(answered.status, answered.error)
    done = answered.content
    step = "go on" if done["next"] else "done"
    return {**shown, "step": step, "touched": done["touched"], "cursor": done["next"], "sure": fields.get("sure", "")}


async def _count(asker: Asker, visitor: Visitor, path: str, filters: dict[str, str]) -> dict[str, Any]:
    answered = await asker.ask(visitor, "POST", path, {**filters, "dry_run": "true"})
    if answered.status != 200:
        raise PageRefused(answered.status, answered.error)
    return {"count": answered.content["touched"], "is_complete": answered.content["next"] is None}


def _rate(verb: str, counted: int, minutes: str) -> dict[str, str]:
    """Return the rate by which so many tasks are spread over the minutes."""
    if verb not in RATED or not minutes.strip():
        return {}
    try:
        over_s = float(minutes) * 60
    except ValueError:
        over_s = math.nan
    if not 1 <= over_s <= 86_400 * 7:
        raise PageRefused(400, "minutes: must be a number up to a week")
    return {"rate": f"{min(100_000.0, max(0.01, counted / over_s)):.4f}"}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
