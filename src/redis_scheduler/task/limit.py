"""What is said of a limit: how much a host, or what tasks name as their `limit_key`, may be used by all workers
together."""

import re
from dataclasses import dataclass

CONCURRENCY_MOST = 100_000
RATE_MOST = 1_000_000
PER_MOST_S = 86_400

KEY_MARK = "@"
"""Before a `limit_key` in the name of a limit: no host begins with it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `concurrency` attempts at once, and `rate` of them in `per_s`; 0: any number, None: as a setting says."""

    concurrency: int | None = None
    rate: float | None = None
    per_s: float = 1.0
    is_paused: bool = False

    @property
    def gap_ms(self) -> float:
        """The ms from one attempt to the next; 0: there is no rate."""
        return self.per_s * 1000 / self.rate if self.rate else 0.0

    @property
    def is_one(self) -> bool:
        """Whether anything has to ask."""
        return bool(self.concurrency or self.rate or self.is_paused)

    def over(self, default: "Limit") -> "Limit":
        """Return what counts where `default` says what this leaves open."""
        concurrency = default.concurrency if self.concurrency is None else self.concurrency
        if self.rate is None:
            return Limit(concurrency, default.rate, default.per_s, self.is_paused)
        return Limit(concurrency, self.rate, self.per_s, self.is_paused)


NO_LIMIT = Limit()

_TEXT = re.compile(r"(-|[0-9]{1,9}) (-|[0-9.]{1,20}) ([0-9]{1,12}) ([01])")


def limit_text(limit: Limit) -> str:
    """Return how Redis keeps it: scripts read it."""
    concurrency = "-" if limit.concurrency is None else limit.concurrency
    rate = "-" if limit.rate is None else f"{limit.rate:.6f}".rstrip("0").rstrip(".")
    return f"{concurrency} {rate} {round(limit.per_s * 1000)} {int(limit.is_paused)}"


def read_limit(text: str) -> Limit:
    """Return what Redis keeps; NO_LIMIT for what foreign hands wrote."""
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
