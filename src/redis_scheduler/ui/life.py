"""A task's life: what happened to it in turn, what comes next, what started it, and what its end started."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from redis_scheduler.logs import rfc3339
from redis_scheduler.task.callback import DELIVERED, DIED, EXPIRED
from redis_scheduler.task.key import is_task_key
from redis_scheduler.ui.rendering import short, span


class _Told(msgspec.Struct):
    """How the data of a task begins that the end of another started (callback.py)."""

    event: str
    key: str
    attempts: int
    ended: str


_told = msgspec.json.Decoder(_Told).decode

PHASES = (("look-up", "lookup_ms"), ("connect", "connect_ms"), ("answer", "first_byte_ms"))


def next_times(info: dict[str, Any]) -> list[tuple[str, str]]:
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


def steps_of(info: dict[str, Any], data: bytes) -> list[dict[str, Any]]:
    """Return what happened to a task, in turn: what started it, when it was scheduled and due, each attempt that is
    kept, how it ended and what that started."""
    attempts = info.get("attempts") or []
    due = (attempts[0].get("due") if attempts else None) or info.get("due")
    found = [*_beginning(info, data)]
    if due:
        found.append({"what": "due", "at": due, "kind": "due"})
    gone = int(info.get("retry") or 0) - len(attempts)
    if gone > 0 and info.get("ended"):
        found.append({"what": _many(gone, "attempt"), "at": None, "kind": "more"})
    elif gone > 0:
        found.append({"what": f"{_many(gone, 'attempt')} before, kept no more", "at": None, "kind": "more"})
    found += [_attempted(number, one) for number, one in enumerate(attempts, start=max(0, gone) + 1)]
    if info.get("ended"):
        late = f", {span(info['late_ms'])} late" if info.get("late_ms") is not None else ""
        status = f", answered {info['last_status']}" if info.get("last_status") else ""
        found.append({"what": f"{info['state']}{status}{late}", "at": info["ended"], "kind": info["state"]})
    elif info["state"] == "dead":
        found.append({"what": "died: no attempt follows", "at": None, "kind": "failed"})
    elif info.get("expires") and info["expires"] != due:
        found.append({"what": "comes next", "at": info["expires"], "kind": "next"})
    if info.get("started"):
        found.append({"what": "its end started", "at": None, "kind": "next", "key": info["started"]})
    return found


def _beginning(info: dict[str, Any], data: bytes) -> list[dict[str, Any]]:
    """Return what came before it was due."""
    found: list[dict[str, Any]] = []
    if (occurrence := info.get("occurrence")) is not None:
        found.append({"what": "made by the series", "at": None, "kind": "due", "key": occurrence["series"]})
    elif (told := _started_by(data)) is not None:
        what = f"started, as its data says, when this one had ended ({told.event.partition('.')[2]})"
        found.append({"what": what, "at": told.ended, "kind": "due", "key": told.key})
    elif info.get("ttl") is not None and info.get("due") and info.get("series") is None:
        # A shift moves the due time alone: then this is when it would have been scheduled.
        at = datetime.fromisoformat(info["due"]) - timedelta(seconds=info["ttl"])
        what = f"scheduled, by its ttl of {span(info['ttl'] * 1000)}"
        found.append({"what": what, "at": rfc3339(round(at.astimezone(UTC).timestamp() * 1000)), "kind": "due"})
    elif info.get("at"):
        found.append({"what": f"scheduled, for {short(info['at'])} (at); when is not kept", "at": None, "kind": "due"})
    return found


def _started_by(data: bytes) -> _Told | None:
    """Return what the data of a task tells of the end of another, if it tells of one."""
    if not data.startswith(b'{"event":"task.'):
        return None
    try:
        told = _told(data)
    except (ValueError, RecursionError):
        return None
    return told if told.event in (DELIVERED, DIED, EXPIRED) and is_task_key(told.key) and _is_time(told.ended) else None


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _attempted(number: int, attempt: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": f"attempt {number}: {attempt.get('error', '')}",
        "at": attempt.get("began"),
        "kind": "failed",
        "attempt": attempt,
        "took": span(attempt.get("elapsed_ms", 0)),
        "phases": [(name, span(attempt[field])) for name, field in PHASES if attempt.get(field)],
    }


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
