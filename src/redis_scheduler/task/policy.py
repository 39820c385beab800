"""How a failed attempt is repeated: the service's policy, that of a task with options of its own, and which of these
options contradict each other. Pure values; retry.py decides by them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from msgspec import UNSET

from redis_scheduler.task.given import shown
from redis_scheduler.task.options import Backoff, Options
from redis_scheduler.task.statuses import statuses
from redis_scheduler.task.timing import TEN_YEARS_S

GROWN_JITTER = 0.1
"""The jitter of delays that grow, if nothing else is said."""

DOUBLINGS_MOST = 40
"""After so many, a delay of 1 ms is longer than ten years."""

RETRY_AFTER_JITTER = 0.1
"""Chance adds up to this share to the time that an answer asks to wait: all whom it told so would come at once."""

RETRY_AFTER_MOST_MS = 86_400_000
"""An answer can put the next attempt off by so much, if nothing else is said."""

POLICIES_KEPT = 512
"""So many policies of tasks are remembered: thousands have the same, and each failure asks for it."""

TEN_YEARS_MS = TEN_YEARS_S * 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """How a failed attempt is repeated: the settings of the service, or what a task says instead.

    `retries`: attempts after the first (-1: for ever). `delay_ms`: from the end of an attempt to the next, `times_ms`:
    each of them. `jitter`: the share of a delay that chance may leave out; None: none of fixed ones, else GROWN_JITTER.
    `for_ms`: no retry later than so long after the due time; None: at any time. `final`: statuses that no retry
    follows. `after_most_ms`: how far an answer can put the next attempt off.
    """

    retries: int
    delay_ms: int
    backoff: Backoff = "fixed"
    longest_ms: int = TEN_YEARS_MS
    jitter: float | None = None
    for_ms: int | None = None
    times_ms: tuple[int, ...] = ()
    final: frozenset[int] = frozenset()
    after_most_ms: int = RETRY_AFTER_MOST_MS

    def of(self, options: Options) -> "Policy":
        """Return the policy of a task with these options, whose defaults are this one's."""
        said = _retry_options(options)
        return self if said == _ALL_UNSET else _policy_of(self, said)

    def attempts_left(self, attempts: int) -> int | None:
        """Return how many attempts may follow a failed one, `attempts` having failed before it; None: any number."""
        return None if self.retries < 0 else max(0, self.retries - attempts)

    def delay_after(self, attempts: int, asked_ms: float, chance: Callable[[], float]) -> int:
        """Return the ms until the next attempt after a failed one, `attempts` having failed before it. `chance` gives a
        number from 0 to 1. If the answer asked to wait for longer, so long and a little, but not longer than it may."""
        own_ms = self._own_delay(attempts, chance)
        if asked_ms <= own_ms:
            return own_ms
        return max(own_ms, min(self.after_most_ms, round(asked_ms * (1 + RETRY_AFTER_JITTER * chance()))))

    def _own_delay(self, attempts: int, chance: Callable[[], float]) -> int:
        delay_ms = self._whole_delay(attempts)
        jitter = _usual_jitter(self.backoff) if self.jitter is None else self.jitter
        return round(delay_ms * (1 - jitter * chance())) if jitter else delay_ms

    def _whole_delay(self, attempts: int) -> int:
        if self.times_ms:
            return self.times_ms[min(attempts, len(self.times_ms) - 1)]
        if self.backoff == "fixed":
            return self.delay_ms
        times = attempts + 1 if self.backoff == "linear" else 1 << min(attempts, DOUBLINGS_MOST)
        return min(self.delay_ms * times, self.longest_ms)


@lru_cache(POLICIES_KEPT)
def _policy_of(service: Policy, said: tuple[Any, ...]) -> Policy:
    """Return the service's policy as retry options change it."""
    changes: dict[str, Any] = {
        name: convert(value)
        for (name, (_, convert)), value in zip(_FIELDS.items(), said, strict=True)
        if value is not UNSET
    }
    if (times_ms := changes.get("times_ms")) is not None:
        changes |= {"retries": len(times_ms), "backoff": "fixed"}
    elif (delay_ms := changes.get("delay_ms")) is not None and "longest_ms" not in changes:
        # The service's bound is for delays that grow, not for the one that the task names.
        changes["longest_ms"] = max(service.longest_ms, delay_ms)
    return replace(service, **changes)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "retries": ("retries", int),
    "delay_ms": ("retry_time", _ms),
    "backoff": ("retry_backoff", str),
    "longest_ms": ("retry_max", _ms),
    "jitter": ("retry_jitter", float),
    "for_ms": ("retry_for", _ms),
    "times_ms": ("retry_times", lambda times: tuple(map(_ms, times))),
    "final": ("final_statuses", statuses),
}
"""Which option gives a field of the policy."""

_retry_options = attrgetter(*(option for option, _ in _FIELDS.values()))
_ALL_UNSET = (UNSET,) * len(_FIELDS)

_CHECKED = (*(option for option, _ in _FIELDS.values()), "expire")
_checked_options = attrgetter(*_CHECKED)
_NONE_GIVEN = (UNSET,) * len(_CHECKED)


def retries(options: Options, by_default: int) -> int:
    """Return how many attempts may follow the first one of a task with these options; -1: any number."""
    if options.retry_times is not UNSET:
        return len(options.retry_times)
    return by_default if options.retries is UNSET else options.retries


def contradiction(options: Options) -> tuple[str, str] | None:
    """Return what is wrong with options that are each right by themselves: a field, and the rule with what was
    given. None: nothing."""
    if options.ack_within is not UNSET and not options.ack:
        return "ack_within", f"has no effect without ack, got {options.ack_within}"
    if (values := _checked_options(options)) == _NONE_GIVEN:
        return None
    given = {name: value for name, value in zip(_CHECKED, values, strict=True) if value is not UNSET}
    return next(((name, f"{rule}, got {shown(given[name])}") for name, rule in _refused(given)), None)


def _problem_of_statuses(final_statuses: str) -> str | None:
    try:
        statuses(final_statuses)
    except ValueError as error:
        return str(error)
    return None


def _usual_jitter(backoff: str) -> float:
    return 0 if backoff == "fixed" else GROWN_JITTER


def _refused(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each retry option that cannot stand beside the others, and why."""
    times = given.get("retry_times")
    for name in ("retries", "retry_time", "retry_backoff", "retry_max"):
        if times is not None and name in given:
            yield name, "cannot be given beside retry_times, which says how often and when a task is retried"
    for name in given:
        if given.get("retries") == 0 and name not in ("retries", "expire"):
            yield name, "has no effect with retries 0"
    if (fault := _problem_of_statuses(given.get("final_statuses", "none"))) is not None:
        yield "final_statuses", fault
    backoff = given.get("retry_backoff", "fixed")
    jitter = given.get("retry_jitter", _usual_jitter(backoff))
    if "retry_max" in given and backoff == "fixed":
        yield "retry_max", "has an effect only with a retry_backoff of linear or exponential, beside it"
    if given.get("retry_max", TEN_YEARS_S) < given.get("retry_time", 0):
        yield "retry_max", f"must be at least retry_time, which is {given['retry_time']}"
    first_s = times[0] if times is not None else given.get("retry_time")
    if first_s == 0 and not any(times or ()):
        if backoff != "fixed":
            yield "retry_backoff", "has no effect with a retry_time of 0"
        if given.get("retry_jitter"):
            yield "retry_jitter", "has no effect on delays of 0"
    for name in ("retry_for", "expire"):
        if first_s is not None and given.get(name, TEN_YEARS_S) < first_s * (1 - jitter):
            yield name, f"must be at least the first delay, which is {first_s}, or no retry is ever made"
    if "retry_for" in given and given["retry_for"] >= given.get("expire", 2 * TEN_YEARS_S):
        yield "retry_for", f"has no effect beside an expire of {given['expire']}: no attempt is made after that"


def contradiction_with(service: Policy, options: Options) -> tuple[str, str] | None:
    """Return which option has no effect beside the service's policy, as `contradiction` does; None: each has. For
    options that do not contradict each other."""
    if (values := _checked_options(options)) == _NONE_GIVEN:
        return None
    # The usual case, without a look at each: then the service's settings take no effect away.
    if service.retries and service.for_ms is None and (options.retry_time, options.retry_times) != (UNSET, UNSET):
        return None
    given = {name: value for name, value in zip(_CHECKED, values, strict=True) if value is not UNSET}
    return next(((name, f"{rule}, got {shown(given[name])}") for name, rule in refused_by(service, given)), None)


def refused_by(service: Policy, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each retry option that can have no effect beside the service's, and why. `expire` has one: it is for the
    first attempt, too."""
    times = given.get("retry_times")
    if times is None and given.get("retries", service.retries) == 0:
        for name in given:
            if name not in ("retries", "expire"):
                yield name, "has no effect with the service's RETRIES=0; give retries, too"
    backoff = given.get("retry_backoff", service.backoff if times is None else "fixed")
    jitter = given.get("retry_jitter", service.jitter)
    least = 1 - (_usual_jitter(backoff) if jitter is None else jitter)
    if times is None and "retry_time" not in given:
        first_s = service.delay_ms / 1000
        if first_s == 0 and backoff != "fixed" and "retry_backoff" in given:
            yield "retry_backoff", "has no effect with the service's RETRY_TIME=0; give retry_time, too"
        if first_s == 0 and given.get("retry_jitter"):
            yield "retry_jitter", "has no effect with the service's RETRY_TIME=0; give retry_time, too"
        if given.get("retry_max", TEN_YEARS_S) < first_s:
            yield "retry_max", f"must be at least RETRY_TIME, which is {first_s:g}"
        if given.get("retry_for", TEN_YEARS_S) < first_s * least:
            yield "retry_for", f"must be at least RETRY_TIME, which is {first_s:g}, or no retry is ever made"
    elif "retry_for" not in given and service.for_ms is not None:
        name, first_s = ("retry_time", given["retry_time"]) if times is None else ("retry_times", times[0])
        if service.for_ms / 1000 < first_s * least:
            yield (
                name,
                f"must begin with at most RETRY_FOR, which is {service.for_ms / 1000:g}, or no retry is ever made",
            )
