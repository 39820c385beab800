"""What is done to many tasks from a page: they are counted first, then whoever asked says that it is meant, then it is
done. Counting and doing go step by step, with how far they are. The forms have the id of their operation: whatever
fails, the same form goes on."""

import math
import secrets
from typing import Any

from redis_scheduler.api.answers import TRY_AGAIN
from redis_scheduler.api.filters import DEAD_FILTERS, FILTERS
from redis_scheduler.api.pace import RATE_LEAST, RATE_MOST
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
WEEK_S = 86_400 * 7

MAY_PASS = (429, 503, 507)
"""The statuses of answers after which the same step may be asked for again."""


async def do_many(asker: Asker, visitor: Visitor, verb: str, fields: dict[str, str]) -> dict[str, Any]:
    """Take the next step of what is asked for; return what the page is to say. Raises PageRefused."""
    shown, path = _asked(verb, fields), MANY[verb][0]
    if "counted" not in fields:
        return {**shown, **await _count(asker, visitor, path, shown["filters"], fields)}
    counted = shown["count"]
    if counted > ASKED_ABOVE and _number(shown["sure"].replace(",", "")) != counted:
        return {**shown, "step": "ask", "wrong": "sure", "error": f"Type {counted} to say that it is meant"}
    try:
        rate = _rate(verb, counted, shown["minutes"])
    except ValueError as error:
        return {**shown, "step": "ask", "wrong": "minutes", "error": str(error)}
    query = shown["filters"] | rate | {"operation": shown["operation"]}
    answered = await asker.ask(visitor, "POST", path, query)
    if answered.status in MAY_PASS:
        return {**shown, "step": "again", "error": answered.error.removesuffix(TRY_AGAIN)}
    if answered.status != 200:
        raise PageRefused(answered.status, answered.error)
    done = answered.content
    return {**shown, "step": "go on" if done["next"] else "done", "touched": done["touched"]}


def put_off(verb: str, fields: dict[str, str], error: str) -> dict[str, Any]:
    """Return what the page is to say where the step could not be asked for: its form goes on later. Raises
    PageRefused."""
    standing = {"step": "again"} if "counted" in fields else _counted(fields)
    return {**_asked(verb, fields), **standing, "error": error}


def _asked(verb: str, fields: dict[str, str]) -> dict[str, Any]:
    if verb not in MANY:
        raise PageRefused(404, "There is no such button")
    return {
        "verb": verb,
        "filters": {name: fields[name] for name in MANY[verb][1] if fields.get(name)},
        "minutes": fields.get("minutes", ""),
        "sure": fields.get("sure", ""),
        "count": _number(fields.get("counted", "")),
        "is_complete": fields.get("complete") == "yes",
        "operation": fields.get("operation") or secrets.token_hex(8),
        "error": "",
    }


async def _count(
    asker: Asker, visitor: Visitor, path: str, filters: dict[str, str], fields: dict[str, str]
) -> dict[str, Any]:
    """Count on from where the form stands, until there are no more, or whoever waits for it says that it is enough.
    Raises PageRefused."""
    counted = _counted(fields)
    count, onward = counted["count"], counted["onward"]
    if onward and fields.get("enough"):
        return {"step": "ask", "count": count, "is_complete": False}
    from_there = {"cursor": onward} if onward else {}
    answered = await asker.ask(visitor, "POST", path, {**filters, **from_there, "dry_run": "true"})
    if answered.status in MAY_PASS:
        return {**counted, "error": answered.error.removesuffix(TRY_AGAIN)}
    if answered.status != 200:
        raise PageRefused(answered.status, answered.error)
    count, onward = count + answered.content["touched"], answered.content["next"]
    return {"step": "count" if onward else "ask", "count": count, "is_complete": not onward, "onward": onward}


def _counted(fields: dict[str, str]) -> dict[str, Any]:
    """Return how far the form has counted, for it to go on from there."""
    return {"step": "count", "count": _number(fields.get("so_far", "0")), "onward": fields.get("onward", "")}


def _rate(verb: str, counted: int, minutes: str) -> dict[str, str]:
    """Return the rate by which so many tasks are spread over the minutes. Raises ValueError."""
    if verb not in RATED or not minutes.strip():
        return {}
    try:
        over_s = float(minutes) * 60
    except ValueError:
        over_s = math.nan
    most_s = min(WEEK_S, counted / RATE_LEAST)
    if not 1 <= over_s <= most_s:
        most = f"{math.floor(most_s / 0.6) / 100:g}"
        slowest = "a week" if most_s == WEEK_S else f"one task in {1 / RATE_LEAST:g} seconds is the slowest"
        raise ValueError(f"minutes: must be a number from 0.02 to {most} ({slowest}), or empty")
    return {"rate": f"{min(RATE_MOST, counted / over_s):.4f}"}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
