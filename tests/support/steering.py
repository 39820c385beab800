"""Which step leads to a kind of transition that no example has taken yet.

What may be there is told by words: the place of a task, and those of `Example._here`. A verb needs one of them, and one
verb brings it; so the way to a kind is followed back until a verb has what it needs.
"""

from collections.abc import Collection

ALWAYS = ""
"""What is always there."""

IN_HAND = ("settle", "retry", "defer", "bury", "expire", "fire", "again", "release", "renew", "expect", "hold")
"""Verbs about claims that a worker holds."""

KNOWN = (
    "read",
    "update",
    "update_delay",
    "update_limit",
    "cancel",
    "restore",
    "replay_other",
    "put",
    "pause",
    "run",
    "shift",
)
"""Verbs about any task."""

NEEDS = {
    **dict.fromkeys(("schedule", "schedule_once"), "room"),
    "come_due": "later",
    "promote": "due now",
    "line_up": "crowd",
    **dict.fromkeys(("claim", "claim_and_read"), "queued"),
    "load": "unloaded",
    "recover": "pending",
    "run_out": "pending later",
    "reclaim": "over",
    **dict.fromkeys(("replay", "trim", "discard"), "dead"),
    "resume": "paused",
    "acknowledge": "claims",
    "run_out_awaited": "awaited later",
    "admit": "held",
    "lose": "losable",
    "rekey": "sealed",
    "resend": "written",
    "purge": "full",
    **dict.fromkeys(IN_HAND, "in hand"),
    **dict.fromkeys(KNOWN, "task"),
}
"""What a verb needs to change anything."""

BROUGHT_BY = {
    "room": "cancel",
    **dict.fromkeys(("later", "due later", "due", "full", "task", "written"), "schedule"),
    **dict.fromkeys(("due now", "crowd"), "come_due"),
    **dict.fromkeys(("in turn", "room beside lines"), "line_up"),
    "queued": "promote",
    **dict.fromkeys(
        ("unloaded", "pending", "pending later", "in delivery", "in delivery later", "in hand", "claims"), "claim"
    ),
    "over": "run_out",
    "late": "reclaim",
    "losable": "claim",
    **dict.fromkeys(("waiting", "waiting later"), "retry"),
    **dict.fromkeys(("deferred", "deferred later"), "defer"),
    "dead": "bury",
    "dead stale": "update",
    "stale": "update",
    "paused": "pause",
    **dict.fromkeys(("awaiting", "awaited", "awaited later"), "expect"),
    "overdue": "run_out_awaited",
    "held": "hold",
    "missing": "cancel",
    "gone": "cancel",
    "stored": "schedule_once",
    "told": "run",
}
"""The verb after which it is there."""

TAKEN_BY = {
    "schedule due": ("schedule", "room"),
    "schedule queued": ("schedule", "room"),
    "promote from a line": ("line_up", "in turn"),
    "promote into a line": ("line_up", "crowd"),
    **{f"{verb} in turn": (verb, "room beside lines") for verb in ("schedule", "schedule_once")},
    "schedule once": ("schedule_once", "room"),
    "schedule once again": ("schedule_once", "stored"),
    "settle late": ("settle", "late"),
    "replay changed": ("replay", "dead stale"),
    "replay missing": ("replay_other", "missing"),
    "replay due": ("replay_other", "due"),
    "deliver and again": ("again", "in hand"),
    "again fenced": ("again", "claims"),
    "renew lost": ("renew", "claims"),
    "acknowledge awaiting": ("acknowledge", "awaited"),
    "acknowledge in delivery": ("acknowledge", "in hand"),
    **{f"run_out {place}": ("run_out", f"{place} later") for place in ("waiting", "in delivery")},
    "come_due deferred": ("come_due", "deferred later"),
    "come_due due": ("come_due", "due later"),
    "claim nothing": ("claim", ALWAYS),
    "claim_and_read nothing": ("claim_and_read", ALWAYS),
    "discard nothing": ("discard", "task"),
    "reclaim nothing": ("reclaim", ALWAYS),
    "reclaim awaited": ("reclaim", "overdue"),
    "pause_all due": ("pause_all", "due now"),
    "pause_all over": ("pause_all", "over"),
    "pause_all awaited": ("pause_all", "awaited"),
    "set_back leased": ("set_back", "unloaded"),
    **{f"set_back {place}": ("set_back", f"{place} later") for place in ("due", "deferred")},
    "run told": ("run", "told"),
    "set_back awaiting": ("set_back", "awaited later"),
    **{f"restore {place}": ("restore", "gone") for place in ("due", "paused", "dead")},
}
"""Kinds that need something else than their verb or name says."""

PLACES = (
    "dead",
    "in turn",
    "held",
    "awaiting",
    "waiting",
    "deferred",
    "paused",
    "in delivery",
    "queued",
    "due",
    "missing",
)
"""Those that are rarely come to are first."""


def verb_towards(kind: str, here: Collection[str]) -> str:
    """Return the verb that takes this kind of transition, or that brings what the way to it lacks; none if there is no
    way."""
    verb, need = _taker(kind)
    for _ in range(len(NEEDS)):
        if need in here:
            return verb
        verb = need.removeprefix("written ") if need.startswith("written ") else BROUGHT_BY[need]
        need = NEEDS.get(verb, ALWAYS)
    return ""


def _taker(kind: str) -> tuple[str, str]:
    """Return the verb that takes this kind, and what it needs for it."""
    if kind in TAKEN_BY:
        return TAKEN_BY[kind]
    verb, _, rest = kind.partition(" ")
    if verb == "again":
        return rest, NEEDS[rest]
    if verb == "resend":
        return verb, f"written {rest}"
    if rest == "fenced":
        return verb, "claims"
    if rest == "changed":
        return verb, "stale"
    return verb, rest if rest in PLACES else NEEDS.get(verb, ALWAYS)
