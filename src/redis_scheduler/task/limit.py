"""Limits: how much a host, or what tasks name as their `limit_key`, may be used by all workers together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CONCURRENCY_MOST = 100_000
RATE_MOST = 1_000_000
PER_MOST_S = 86_400

KEY_MARK = "@"
"""Before a `limit_key` in the name of a limit: no host begins with it."""

WHOLE_MARK = "!"
"""Before the name of a limit, and before the keys of tasks with permits of it, where the first shard keeps it as a
whole (engine/whole.py): no host and no task key begins with it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `concurrency` attempts at once, and `rate` of them in `per_s`; 0: any number, None: as a setting
    says."""

    concurrency: int | None = None
    rate: float | None = None
    per_s: float = 1.0
    is_paused: bool = False

    @property
    def gap_ms(self) -> float:
        """The ms from one attempt to the next; 0: there is no rate."""
        return self.per_s * 1000 / self.rate if self.rate else 0.0

    @property
    def has_effect(self) -> bool:
        """Whether it limits anything: only then claims have to ask."""
        return bool(self.concurrency or self.rate or self.is_paused)

    def over(self, default: "Limit") -> "Limit":
        """Return the limit that counts: what this one leaves open is as `default` says."""
        concurrency = default.concurrency if self.concurrency is None else self.concurrency
        if self.rate is None:
            return Limit(concurrency, default.rate, default.per_s, self.is_paused)
        return Limit(concurrency, self.rate, self.per_s, self.is_paused)


@dataclass(frozen=True, slots=True)
class Breaking:
    """When a host's breaker opens: after so many failures in a row (0: never); and for how many ms it holds a task."""

    failures: int = 0
    held_most_ms: int = 3_600_000


NO_BREAKING = Breaking()


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of a host: `open`, with how often it was probed and the time of the next probe; or `closing`, in a
    step of ten."""

    state: str
    since_ms: int
    next_ms: int
    step: int = 0
    probes: int = 0


_BREAKER = re.compile(r"([or]) ([0-9]{1,9}) ([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15})")


def read_breaker(text: str) -> Breaker | None:
    """Return what Redis keeps of a breaker that is not closed."""
    found = _BREAKER.fullmatch(text)
    if found is None:
        return None
    number, since_ms, next_ms = int(found[2]), int(found[3]), int(found[5])
    if found[1] == "o":
        return Breaker("open", since_ms, next_ms, probes=number)
    return Breaker("closing", since_ms, next_ms, number)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report of attempts did to a host's breaker. `failures`: in a row where it was closed, else in this report;
    `number`: how often it had been probed while it was open, or its step while it closed; `since_ms`: since when none
    was well, or since when it was open."""

    host: str
    before: str
    after: str
    failures: int
    number: int
    since_ms: int


_STATES = {"c": "closed", "o": "open", "r": "closing"}
_VERDICT = re.compile(rb"([cor]) ([cor]) ([0-9]{1,15}) ([0-9]{1,9}) ([0-9]{1,15})")


def verdicts_of(hosts: Sequence[str], texts: Sequence[bytes]) -> list[Verdict]:
    """Read what a report did to each of these hosts. Raises ValueError."""
    verdicts = []
    for host, text in zip(hosts, texts, strict=True):
        found = _VERDICT.fullmatch(text)
        if found is None:
            raise ValueError("Expected states of a breaker")
        before, after = _STATES[found[1].decode()], _STATES[found[2].decode()]
        verdicts.append(Verdict(host, before, after, int(found[3]), int(found[4]), int(found[5])))
    return verdicts


NO_LIMIT = Limit()

_TEXT = re.compile(r"(-|[0-9]{1,9}) (-|[0-9.]{1,20}) ([0-9]{1,12}) ([01])")


def limit_text(limit: Limit) -> str:
    """Return a limit as Redis keeps it: scripts read it."""
    concurrency = "-" if limit.concurrency is None else limit.concurrency
    rate = "-" if limit.rate is None else f"{limit.rate:.6f}".rstrip("0").rstrip(".")
    return f"{concurrency} {rate} {round(limit.per_s * 1000)} {int(limit.is_paused)}"


def read_limit(text: str) -> Limit:
    """Return the limit that Redis keeps; NO_LIMIT for what foreign hands wrote."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return NO_LIMIT
    concurrency, rate, per_ms, paused = found.groups()
    try:
        return Limit(
            None if concurrency == "-" else int(concurrency),
            None if rate == "-" else float(rate),
            int(per_ms) / 1000,
            paused == "1",
        )
    except ValueError:
        return NO_LIMIT
