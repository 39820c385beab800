"""What the engine tells of its work: an Observer is told as it happens, and the log is one.

Another kind of report (metrics, a history) is another subclass; the loops know of none.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from redis_scheduler.delivery.echoes import excerpt
from redis_scheduler.engine.breaker_lines import BreakerLines
from redis_scheduler.logs import Events, location, rfc3339
from redis_scheduler.task.answer import AGAIN_HEADER
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.limit import Verdict
from redis_scheduler.task.outcome import Outcome
from redis_scheduler.task.record import DEFAULT_TYPE
from redis_scheduler.task.retry import Decision, Transition

logger = Events(__name__)

LOST_LINE_INTERVAL_S = 1.0
"""Between two lines of the log that tell of lost workers: what they held comes back in many steps."""

DROPPED_LINE_INTERVAL_S = 60.0
"""Between two lines of the log that tell of dead letters that were dropped."""

LOGGED_BYTES = 1_024
"""So much of an answer is looked at to log its beginning."""

ASKED_LENGTH = 64
"""So much is logged of what a receiver asked for in vain."""

UNKNOWN_TOLD_MOST = 20
"""Names of unknown members that the log tells of: foreign hands may write any number."""

_RECORD_MISSING = (
    "the task was queued, but its record is gone: other hands deleted it; it is taken out and counted as lost, and "
    "`redis-scheduler doctor` tells whether there is more"
)

_DROPPED = "dead letters since this start that were older than DEAD_TTL, or over DEAD_BYTES"

_SET_BACK = (
    "Redis' clock was set back: retries, leases and deferrals go on; what was scheduled before comes at its time by it"
)
_PAUSED = "all is paused: nothing is promoted or claimed until `redis-scheduler resume-all`"
_SET_FORWARD = "Redis' clock was set forward, or this machine stood still: what is due by that clock comes now"


class Observer:
    """Is told what happens, and returns at once. One that knows nothing of an event leaves its method as it is here."""

    def began(self, claim: Claim) -> None:
        """An attempt begins."""

    def resent(self, claim: Claim, error: str) -> None:
        """A kept connection lost the request before any answer, and it is sent once more in the same attempt."""

    def delivered(self, claim: Claim, outcome: Outcome) -> None:
        """An attempt was a success."""

    def asked_in_vain(self, claim: Claim, asked: str) -> None:
        """The answer of a success asked for the task again, by what is no such time."""

    def taken_on(self, claim: Claim, outcome: Outcome) -> None:
        """The receiver took a task on, and is to acknowledge it later."""

    def given_back(self, claim: Claim, outcome: Outcome) -> None:
        """This machine could not make the attempt: the claim is given back."""

    def unsettled(self, claim: Claim, decision: Decision, outcome: Outcome | None, attempts_left: int | None) -> None:
        """An attempt failed, or a task is buried or expires without one: then there is no outcome.

        `attempts_left`: how many may follow; None: any number.
        """

    def left_to_newer(self, claim: Claim, decision: Decision) -> None:
        """A task was deferred, for a worker that knows what a newer version wrote into its record."""

    def letters_dropped(self, letters: int) -> None:
        """So many dead letters were dropped, since they were too old or too many."""

    def records_missing(self, task_keys: Sequence[str]) -> None:
        """Tasks were queued whose records are gone: they are lost."""

    def receiver_slow(self, host: str, in_flight: int) -> None:
        """A receiver was found to be slow while it holds so many slots."""

    def receiver_recovered(self, host: str, in_flight: int) -> None:
        """A receiver that was told to be slow is well again."""

    def breaker_judged(self, verdict: Verdict) -> None:
        """Failures of a host were reported, or that it is well again: its breaker may have opened or closed."""

    def swept(self, lost: Mapping[str, int]) -> None:
        """A step of the sweep was taken; `lost`: how many tasks came back of each worker that was lost."""

    def clock_set(self, by_ms: float) -> None:
        """Redis' clock was set, forward or back (below zero)."""

    def all_paused(self, is_all_paused: bool, shard: int | None) -> None:
        """A client paused all, or let it go on: meanwhile nothing is promoted or claimed in this shard (None: the only
        one)."""

    def draining(self, in_flight: int, grace_s: float) -> None:
        """A stop waits for the deliveries under way, for so long at most."""

    def released(self, deliveries: int) -> None:
        """A stop gave back so many claims."""

    def stopped_without_redis(self, in_flight: int, error: str) -> None:
        """A stop could not write its last outcomes: so many deliveries come again by another worker."""


NOBODY = Observer()


class Observers(Observer):
    """Tells several observers, in this order, of the events that they know of."""

    def __init__(self, *observers: Observer) -> None:
        for event in (name for name in vars(Observer) if not name.startswith("_")):
            known = [each for each in observers if getattr(type(each), event) is not getattr(Observer, event)]
            if known:  # else nothing is to be done, and the method here does nothing in half the time
                methods = [getattr(each, event) for each in known]
                setattr(self, event, methods[0] if len(methods) == 1 else _telling(methods))


def _telling(methods: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def tell(*told: object) -> None:
        for method in methods:
            method(*told)

    return tell


class Log(Observer):
    """The log's lines. `secret` is what no line may show, should a receiver send it back."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._resent = 0
        self._lost: Counter[str] = Counter()
        self._letters_dropped = 0
        self._tell_dropped_from = 0.0
        self._tell_lost_from = 0.0
        self._unknown_told: set[str] = set()
        self._breakers = BreakerLines()

    def resent(self, claim: Claim, error: str) -> None:
        """Log a request that was sent once more, with how many were since the start."""
        self._resent += 1
        logger.info("resent", **_fields(claim, None), error=error, resent=self._resent)

    def asked_in_vain(self, claim: Claim, asked: str) -> None:
        """Log what was asked."""
        error = f"{AGAIN_HEADER} must be seconds, three decimals, ten years at most: the task has ended"
        logger.warning("asked-in-vain", **_fields(claim, None), error=error, asked=asked[:ASKED_LENGTH])

    def given_back(self, claim: Claim, outcome: Outcome) -> None:
        """Log what this machine could not begin."""
        logger.warning("given-back", **_fields(claim, outcome), error=outcome.error)

    def unsettled(self, claim: Claim, decision: Decision, outcome: Outcome | None, attempts_left: int | None) -> None:
        """Log a failure with what follows from it: retry, defer, bury or expire."""
        is_last = decision.transition in (Transition.BURY, Transition.EXPIRE)
        level = logging.WARNING if is_last else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = _fields(claim, outcome) | {"type": claim.record.type or DEFAULT_TYPE, "error": decision.error}
        if outcome is not None and outcome.answer:
            fields["answer"] = excerpt(outcome.answer[:LOGGED_BYTES], self._secret)
        if outcome is not None and outcome.detail:
            fields["detail"] = outcome.detail
        if not is_last:
            fields["attempts_left"] = attempts_left
            fields["next"] = rfc3339(int(time.time() * 1000) + decision.delay_ms)
        logger.log(level, decision.transition.value, **fields)

    def left_to_newer(self, claim: Claim, decision: Decision) -> None:
        """Log an unknown member, once for each name."""
        error = decision.error
        if error not in self._unknown_told and len(self._unknown_told) < UNKNOWN_TOLD_MOST:
            self._unknown_told.add(error)
            logger.warning("left-to-newer", key=claim.key, error=error, again_in_s=decision.delay_ms // 1000)

    def letters_dropped(self, letters: int) -> None:
        """Log dead letters that were dropped, with how many were since the start: once a minute at most."""
        self._letters_dropped += letters
        now = time.monotonic()
        if now >= self._tell_dropped_from:
            self._tell_dropped_from = now + DROPPED_LINE_INTERVAL_S
            logger.warning("dead-dropped", tasks=self._letters_dropped, reason=_DROPPED)

    def records_missing(self, task_keys: Sequence[str]) -> None:
        """Log tasks without a record: how many, and the first."""
        logger.warning("record-missing", tasks=len(task_keys), key=task_keys[0], error=_RECORD_MISSING)

    def receiver_slow(self, host: str, in_flight: int) -> None:
        """Log a slow receiver."""
        logger.warning("receiver-slow", host=host, in_flight=in_flight)

    def receiver_recovered(self, host: str, in_flight: int) -> None:
        """Log that it is well again."""
        logger.warning("receiver-recovered", host=host, in_flight=in_flight)

    def breaker_judged(self, verdict: Verdict) -> None:
        """Log what a breaker did."""
        self._breakers.tell(verdict)

    def swept(self, lost: Mapping[str, int]) -> None:
        """Log lost workers, with how many tasks came back of each: once a second at most."""
        self._lost.update(lost)
        now = time.monotonic()
        if self._lost and now >= self._tell_lost_from:
            self._tell_lost_from = now + LOST_LINE_INTERVAL_S
            for name, count in sorted(self._lost.items()):
                logger.warning("worker-lost", worker=name, tasks=count)
            self._lost.clear()

    def clock_set(self, by_ms: float) -> None:
        """Log that Redis' clock was set, and what comes of it."""
        if by_ms > 0:
            logger.warning("clock-set-forward", by_s=by_ms / 1000, warning=_SET_FORWARD)
        else:
            logger.warning("clock-set-back", by_s=-by_ms / 1000, warning=_SET_BACK)

    def all_paused(self, is_all_paused: bool, shard: int | None) -> None:
        """Log that this worker begins nothing, or goes on."""
        fields = {} if shard is None else {"shard": shard}
        if is_all_paused:
            logger.warning("all-paused", warning=_PAUSED, **fields)
        else:
            logger.info("all-resumed", **fields)

    def draining(self, in_flight: int, grace_s: float) -> None:
        """Log what a stop waits for."""
        logger.info("draining", in_flight=in_flight, grace_s=grace_s)

    def released(self, deliveries: int) -> None:
        """Log what a stop gave back."""
        logger.info("released", deliveries=deliveries)

    def stopped_without_redis(self, in_flight: int, error: str) -> None:
        """Log what a stop could not write."""
        logger.warning("stopped-without-redis", in_flight=in_flight, error=error)


class DetailedLog(Log):
    """The log for who looks for a fault. (A class of its own: without it a success calls no method of the log.)"""

    def delivered(self, claim: Claim, outcome: Outcome) -> None:
        """Log a success."""
        logger.debug("delivered", **_fields(claim, outcome))


def log_of(secret: str) -> Log:
    """Return what tells the log as much as its level wants."""
    return DetailedLog(secret) if logger.isEnabledFor(logging.DEBUG) else Log(secret)


def _fields(claim: Claim, outcome: Outcome | None) -> dict[str, object]:
    fields: dict[str, object] = {"key": claim.key, "attempt": claim.attempts + 1}
    if outcome is not None:
        fields |= {"status": outcome.status, "elapsed_ms": outcome.elapsed_ms}
    return fields | {"webhook": location(claim.record.webhook)}
