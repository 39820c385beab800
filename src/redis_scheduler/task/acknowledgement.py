"""Acknowledgements: a receiver takes a long job on with a 202, and says later what became of it.

What is known of one stands as a mark behind the attempts in `failures`: `@<entry id>` while it is awaited, with `+` or
`-` behind it once the receiver said that the task is done, or has failed. Where a task comes to a worker with the mark
alone, nothing was said in time.
"""

import base64
import hmac
import re

from redis_scheduler.task.attempts import read_failed
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.options import Options
from redis_scheduler.task.outcome import Outcome

ACCEPTED = 202
"""The status by which a receiver takes a job on."""

WITHIN_S = 300
"""So long an acknowledgement is awaited, if nothing else is said."""

_MARK = re.compile(r"@(.*?)([+-]?)")

FAULT = "acknowledgement"
"""The kind of failure of a job that was taken on."""


_SIGNS = {"done": "+", "failed": "-"}


def said_by_mark(mark: str) -> str | None:
    """Return what a receiver has said by a mark, `done` or `failed`; None: nothing."""
    return next((said for said, sign in _SIGNS.items() if mark.endswith(sign)), None)


def mark_that_says(said: str, queued_ms: int) -> str | None:
    """Return the mark of what a receiver has said of an attempt that was queued then; None if nobody can say so."""
    return f"@{queued_ms}-0{_SIGNS[said]}" if said in _SIGNS else None


def entry_of_mark(mark: str) -> str | None:
    """Return the entry that the attempt was in; None without a mark."""
    found = _MARK.fullmatch(mark)
    return found[1] if found else None


def within_ms(options: Options) -> int:
    """Return for how long an acknowledgement of a task with these options is awaited."""
    return round((options.ack_within or WITHIN_S) * 1000)


def acknowledgement_token(secret: str, key: str, entry_id: str, attempts: int) -> str:
    """Return what a receiver needs to acknowledge this attempt, and no other.

    It is made of API_AUTH, so it is kept nowhere, and holds while API and workers have the same.
    """
    text = f"Schedule-Ack {key} {entry_id} {attempts}"
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")[:18]).decode()


def concluded(claim: Claim, now_ms: float) -> Outcome | None:
    """Return what the attempt came to that a claim's mark tells of; None if it has to be attempted. `now_ms`: Redis'
    time, until which it has lasted."""
    if not claim.mark:
        return None
    elapsed_ms = max(0, round(now_ms) - _began_ms(claim))
    if claim.mark.endswith("+"):
        return Outcome(None, ACCEPTED, elapsed_ms)
    if claim.mark.endswith("-"):
        return Outcome("the receiver said that it has failed", ACCEPTED, elapsed_ms, fault=FAULT)
    error = f"not acknowledged within {within_ms(claim.record.options) / 1000:g} s"
    return Outcome(error, ACCEPTED, elapsed_ms, fault=FAULT)


def _began_ms(claim: Claim) -> int:
    """Return about when the attempt began: when its entry was queued, or its retry was due in that. That it waited for
    a slot counts to the attempt."""
    queued_ms = (entry_of_mark(claim.mark) or "").partition("-")[0]
    before = read_failed(claim.failure)
    return max(int(queued_ms or 0), before[-1].again if before else 0)
